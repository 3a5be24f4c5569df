"""Replaces integrate-and-fire neurons by the neurons of single methods."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.cell import Gain, Neuron
from transpike.core.plain import is_plain
from transpike.errors import SettingError
from transpike.neurons import (
    Burst,
    DifferentialMultiThreshold,
    IntegrateAndFire,
    MultiThreshold,
    OffsetCorrected,
    ResidualGate,
    SignedMultiThreshold,
    Switched,
)
from transpike.neurons.multi_threshold import Followed, check_threshold_count
from transpike.passes._base import ReplaceNeurons

LadderKind = Literal["any", "one", "differences"]


def _scaled(old: IntegrateAndFire, factor: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Threshold, initial potential and spike scale times ``factor``."""
    return old.threshold * factor, old.initial * factor, None if old.spike_scale is None else old.spike_scale * factor


@dataclass(frozen=True)
class UseGroups(ReplaceNeurons):
    """Groups of m = ``members`` neurons on one membrane, thresholds θ/m, 2 θ/m … θ: a burst of Γ = m at θ/m.

    The initial potential keeps its share of the lowest threshold. Source: Lv et al. 2024 (group neuron).
    """

    members: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.members, bool) or not isinstance(self.members, int) or not 1 <= self.members <= 255:
            raise SettingError(f"members must be an integer from 1 to 255, not {self.members!r}")

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        threshold, initial, spike_scale = _scaled(old, 1 / self.members)
        return Burst(old.source, threshold, initial, self.members, spike_scale=spike_scale)

    def describe(self) -> str:
        return f"{self.members} thresholds at i θ/{self.members}"


@dataclass(frozen=True)
class UseMultiThresholds(ReplaceNeurons):
    """Neurons with ``threshold_count`` n thresholds, each half the next higher one, on an unchanged range.

    ``kind`` "any": several thresholds may fire in a step, and their sum is θ. "one" (one at a time) and "differences":
    the highest threshold is θ. A neuron of "one" that only encodes a wire sends spikes of either sign, and one of
    "differences" in the place of anything but a ReLU follows its value. The initial potential keeps its share of the
    lowest threshold.
    """

    threshold_count: int = 4
    kind: LadderKind = "any"

    def __post_init__(self) -> None:
        if self.kind not in get_args(LadderKind):
            raise SettingError(f"kind must be one of {', '.join(get_args(LadderKind))}, not {self.kind!r}")
        check_threshold_count(self.threshold_count)

    @property
    def gain(self) -> Gain:
        return "reciprocal" if self.kind == "differences" else ""

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        levels = 2**self.threshold_count - 1 if self.kind == "any" else 2.0 ** (self.threshold_count - 1)
        threshold, initial, spike_scale = _scaled(old, 1 / max(levels, 1))
        if self.kind == "differences":
            follows: Followed = "current" if old.source.rectifies and not is_plain(old.source, Clip) else "value"
            return DifferentialMultiThreshold(
                old.source, threshold, initial, self.threshold_count, follows, spike_scale=spike_scale
            )
        if self.kind == "one" and is_plain(old.source, Unchanged):
            return SignedMultiThreshold(old.source, threshold, initial, self.threshold_count, spike_scale=spike_scale)
        return MultiThreshold(old.source, threshold, initial, self.threshold_count, self.kind, spike_scale=spike_scale)


@dataclass(frozen=True)
class UseGates(ReplaceNeurons):
    """SRP's neurons: after ``pre_simulation_steps`` steps only neurons with a residual above ``margin`` θ fire."""

    asks: ClassVar[str] = "spikes of each input"
    pre_simulation_steps: int = 4
    margin: float = 1e-3

    def __post_init__(self) -> None:
        check_margin(self.margin)
        self.neuron(IntegrateAndFire(ReLU(), torch.ones(()), torch.zeros(())))

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        margin = self.margin * old.threshold
        return ResidualGate(
            old.source, old.threshold, old.initial, margin, self.pre_simulation_steps, spike_scale=old.spike_scale
        )

    def describe(self) -> str:
        return f"gate after {self.pre_simulation_steps} steps"


@dataclass(frozen=True)
class UseOffsets(ReplaceNeurons):
    """COS's neurons: a pre-simulation of ``pre_simulation_steps`` steps, then ``rounds`` corrections by one spike.

    A residual potential that is off by more than ``margin`` θ is corrected.
    """

    asks: ClassVar[str] = "spikes of each input"
    pre_simulation_steps: int = 4
    margin: float = 1e-3
    rounds: int = 1

    def __post_init__(self) -> None:
        check_margin(self.margin)
        self.neuron(IntegrateAndFire(ReLU(), torch.ones(()), torch.zeros(())))

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        margin = self.margin * old.threshold
        settings = (margin, self.pre_simulation_steps, self.rounds)
        return OffsetCorrected(old.source, old.threshold, old.initial, *settings, spike_scale=old.spike_scale)

    def describe(self) -> str:
        return f"v(0) after {self.pre_simulation_steps} steps, {self.rounds} spike"


@dataclass(frozen=True)
class UseSwitches(ReplaceNeurons):
    """Neurons that encode a whole window by two spikes, on and off."""

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        return Switched(old.source, old.threshold, old.initial, spike_scale=old.spike_scale)


def check_margin(margin: float) -> None:
    """Raises SettingError for a margin outside [0, 1)."""
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin < 1:
        raise SettingError(f"margin must be in [0, 1), not {margin!r}: it is a share of the threshold")
