"""The parts of the training loop in ``transpike.train``."""

from transpike.training import augmentation, checkpoint, schedule

__all__ = ["augmentation", "checkpoint", "schedule"]
