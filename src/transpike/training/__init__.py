"""The parts of the training loops in ``transpike.train`` and ``transpike.finetune``."""

from transpike.training import (
    augmentation,
    board,
    checkpoint,
    finetuning,
    gain,
    layerwise,
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
from transpike.training.finetuning import FineTuning

__all__ = [
    "FineTuning",
    "augmentation",
    "board",
    "checkpoint",
    "finetuning",
    "gain",
    "layerwise",
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
