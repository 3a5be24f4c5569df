"""The parts of the training loop in ``transpike.train``, and what a loop of one's own may use."""

from transpike.training import augmentation, checkpoint, schedule
from transpike.training.connectivity import Connectivity, connectivity
from transpike.training.grad_r import GradR

__all__ = ["Connectivity", "GradR", "augmentation", "checkpoint", "connectivity", "schedule"]
