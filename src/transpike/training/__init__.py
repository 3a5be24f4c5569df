"""The parts of the training loop in ``transpike.train``, and what a loop of one's own may use."""

from transpike.training import (
    augmentation,
    board,
    checkpoint,
    loop,
    optimisers,
    penalties,
    policies,
    precision,
    ranks,
    schedule,
    settings,
    stages,
)
from transpike.training.connectivity import Connectivity, connectivity
from transpike.training.grad_r import GradR

__all__ = [
    "Connectivity",
    "GradR",
    "augmentation",
    "board",
    "checkpoint",
    "connectivity",
    "loop",
    "optimisers",
    "penalties",
    "policies",
    "precision",
    "ranks",
    "schedule",
    "settings",
    "stages",
]
