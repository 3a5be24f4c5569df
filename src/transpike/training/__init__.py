"""The parts of the loops in ``transpike.train`` and ``transpike.finetune``, and what a loop of one's own may use."""

from transpike.training import (
    augmentation,
    board,
    checkpoint,
    finetuning,
    gain,
    layerwise,
    learners,
    loop,
    losses,
    optimisers,
    penalties,
    policies,
    precision,
    ranks,
    schedule,
    settings,
    stages,
    surrogates,
)
from transpike.training.connectivity import Connectivity, connectivity
from transpike.training.finetuning import FineTuning
from transpike.training.grad_r import GradR

__all__ = [
    "Connectivity",
    "FineTuning",
    "GradR",
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
