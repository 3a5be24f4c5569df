"""The parts of the training loop in ``transpike.train``."""

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
