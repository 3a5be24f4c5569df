"""The parts of the training loops of ``transpike.train`` and ``transpike.finetune``, also for custom loops."""

from transpike.training import checkpoint, loggers, ranks, schedule, settings
from transpike.training.source import (
    augmentation,
    learners,
    loop,
    optimisers,
    penalties,
    policies,
    precision,
    stages,
)
from transpike.training.source.connectivity import Connectivity, connectivity
from transpike.training.source.grad_r import GradR
from transpike.training.spiking import finetuning, gain, layerwise, losses, surrogates
from transpike.training.spiking.finetuning import FineTuning
from transpike.training.spiking.reconstruction import Reconstruct

__all__ = [
    "Connectivity",
    "FineTuning",
    "GradR",
    "Reconstruct",
    "augmentation",
    "checkpoint",
    "connectivity",
    "finetuning",
    "gain",
    "layerwise",
    "learners",
    "loggers",
    "loop",
    "losses",
    "optimisers",
    "penalties",
    "policies",
    "precision",
    "ranks",
    "schedule",
    "settings",
    "stages",
    "surrogates",
]
