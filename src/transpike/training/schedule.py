"""Learning rate schedules: a factor for every optimiser step."""

import math

from transpike.errors import SettingError


def cosine(step: int, steps: int, warmup: int = 0) -> float:
    """The factor for ``step`` of 0 … steps − 1: linear to 1 over ``warmup`` steps, then half a cosine towards 0.

    Without warm-up the first factor is 1. Raises SettingError unless 0 ≤ warmup < steps and 0 ≤ step < steps.
    """
    if not 0 <= warmup < steps or not 0 <= step < steps:
        raise SettingError(f"expected 0 <= warmup < steps and 0 <= step < steps, not {warmup=}, {step=}, {steps=}")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def steps_down(step: int, steps: int, warmup: int, every: int, gamma: float) -> float:
    """The factor for ``step`` of 0 … steps − 1: linear to 1 over ``warmup`` steps, then times γ every ``every`` steps.

    ``γ^⌊(step − warmup) / every⌋``. Raises SettingError as ``cosine`` does, or unless every ≥ 1 and 0 < γ ≤ 1.
    """
    if every < 1 or not 0 < gamma <= 1:
        raise SettingError(f"expected every >= 1 and 0 < gamma <= 1, not {every=}, {gamma=}")
    if step < warmup or not 0 <= warmup <= step < steps:
        return cosine(step, steps, warmup)  # the same warm-up and bounds
    return float(gamma ** ((step - warmup) // every))
