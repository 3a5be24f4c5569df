"""The parts of the training loops in ``transpike.train`` and ``transpike.finetune``."""

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

__all__ = [
    "augmentation",
    "board",
    "checkpoint",
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
