"""Stages of source activations during training: first ReLU, then clip, then staircase."""

from collections.abc import Mapping
from itertools import pairwise

from torch import nn

from transpike.errors import SettingError

STAGES = ("relu", "clip", "quantise")


def staged(module: nn.Module) -> dict[str, nn.Module]:
    """Path → submodule with an attribute ``stage`` out of STAGES, which its forward uses."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(stage := getattr(part, "stage", None), str) and stage in STAGES
    }


def ordered(stages: Mapping[str, int], epochs: int) -> dict[str, int]:
    """The stages in their order; raises SettingError for unknown stages, late or unordered epochs."""
    if unknown := [name for name in stages if name not in STAGES]:
        raise SettingError(f"stages are {STAGES}, each with its first epoch; not {unknown[0]!r}")
    found = {name: stages[name] for name in STAGES if name in stages}
    starts = list(found.values())
    whole = all(isinstance(start, int) and not isinstance(start, bool) for start in starts)
    if not starts or not whole or not all(1 <= start <= epochs for start in starts):
        raise SettingError(f"stages begin with whole epochs from 1 to {epochs}, not {dict(stages)}")
    if any(a >= b for a, b in pairwise(starts)):
        raise SettingError(f"stages must begin in the order relu, clip, quantise, at increasing epochs; not {found}")
    return found


def check(stages: Mapping[str, int], module: nn.Module) -> None:
    """Raises SettingError if stages are given and no activation of ``module`` has stages."""
    if stages and not staged(module):
        raise SettingError(
            "no activation of the network has stages; insert source activations first (transpike.prepare), or omit "
            "stages"
        )


def stage_of(stages: Mapping[str, int], epoch: int) -> str:
    """The stage of an epoch: the last stage that has begun, "relu" before the first."""
    return next((name for name, start in reversed(list(stages.items())) if start <= epoch), "relu")


def enter(module: nn.Module, stages: Mapping[str, int], epoch: int) -> None:
    """Set the stage of every activation for this epoch; without stages nothing changes."""
    if stages:
        for part in staged(module).values():
            part.stage = stage_of(stages, epoch)  # type: ignore[assignment]


def partial(module: nn.Module) -> bool:
    """True if an activation is in an early stage, in which its parameters may have no effect."""
    return any(part.stage != STAGES[-1] for part in staged(module).values())


def last_begins(stages: Mapping[str, int]) -> int:
    """The first epoch of the last stage; 1 without stages."""
    return max(stages.values(), default=1)
