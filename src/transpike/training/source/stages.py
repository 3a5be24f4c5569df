"""Source activations that change while a network is trained: first a ReLU, then a clip, then a staircase."""

from collections.abc import Mapping
from itertools import pairwise

from torch import nn

from transpike.errors import SettingError

STAGES = ("relu", "clip", "quantise")


def staged(module: nn.Module) -> dict[str, nn.Module]:
    """The submodules with an attribute ``stage`` out of STAGES, which their forward obeys, by their path."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(stage := getattr(part, "stage", None), str) and stage in STAGES
    }


def ordered(stages: Mapping[str, int], epochs: int) -> dict[str, int]:
    """The stages in their order. Raises SettingError for unknown, late or disordered ones."""
    if unknown := [name for name in stages if name not in STAGES]:
        raise SettingError(f"stages are {STAGES}, each with the epoch it begins with; not {unknown[0]!r}")
    found = {name: stages[name] for name in STAGES if name in stages}
    starts = list(found.values())
    whole = all(isinstance(start, int) and not isinstance(start, bool) for start in starts)
    if not starts or not whole or not all(1 <= start <= epochs for start in starts):
        raise SettingError(f"stages begin with whole epochs from 1 to {epochs}, not {dict(stages)}")
    if any(a >= b for a, b in pairwise(starts)):
        raise SettingError(f"stages go from relu over clip to quantise, each later than the one before; not {found}")
    return found


def check(stages: Mapping[str, int], module: nn.Module) -> None:
    """SettingError where stages are given and no activation of ``module`` has any."""
    if stages and not staged(module):
        raise SettingError(
            "no activation of the network has stages; put source activations into it first (transpike.prepare), or "
            "leave out stages"
        )


def stage_of(stages: Mapping[str, int], epoch: int) -> str:
    """The stage of an epoch: the last one that has begun, "relu" before the first."""
    return next((name for name, start in reversed(list(stages.items())) if start <= epoch), "relu")


def enter(module: nn.Module, stages: Mapping[str, int], epoch: int) -> None:
    """Put every activation into the stage of this epoch; without stages nothing is touched."""
    if stages:
        for part in staged(module).values():
            part.stage = stage_of(stages, epoch)  # type: ignore[assignment]


def partial(module: nn.Module) -> bool:
    """Whether an activation is in an early stage, in which its parameters may have no effect."""
    return any(part.stage != STAGES[-1] for part in staged(module).values())


def last_begins(stages: Mapping[str, int]) -> int:
    """The first epoch of the last stage; 1 without stages."""
    return max(stages.values(), default=1)
