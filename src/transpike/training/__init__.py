"""The parts of the training loops of ``transpike.train`` and ``transpike.finetune``, also for custom loops."""

from transpike.training import checkpoint, ranks, schedule, settings
from transpike.training.source import (
    augmentation,
    board,
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
    "board",
    "checkpoint",
    "connectivity",
    "finetuning",
    "gain",
    "layerwise",
    "learners",
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
