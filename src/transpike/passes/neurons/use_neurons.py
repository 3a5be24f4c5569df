"""The kind of neuron that replaces an activation."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from transpike.activations import ReLU
from transpike.core.cell import Neuron
from transpike.errors import SettingError
from transpike.neurons import Bistable, Burst, IntegrateAndFire, SignedIntegrateAndFire
from transpike.neurons.signed import NegativeRule
from transpike.passes._base import ReplaceNeurons

NeuronKind = Literal["integrate-and-fire", "signed", "burst", "bistable"]


@dataclass(frozen=True)
class UseNeurons(ReplaceNeurons):
    """Integrate-and-fire neurons become neurons of ``kind`` with the same threshold and initial potential.

    ``reset`` and ``leak`` are for integrate-and-fire, ``rule`` and ``depth`` for signed, ``gamma`` for burst and
    ``period`` for bistable neurons, whose initial potential is a share of their smallest step, θ 2^−period. Raises
    SettingError for a hard reset with an initial potential.
    """

    kind: NeuronKind = "integrate-and-fire"
    reset: Literal["soft", "hard"] = "soft"
    leak: float = 1.0
    rule: NegativeRule = "snm"
    depth: float = 0.0
    gamma: int = 5
    period: int = 8

    def __post_init__(self) -> None:
        if self.kind not in get_args(NeuronKind):
            raise SettingError(f"kind must be one of {', '.join(get_args(NeuronKind))}, not {self.kind!r}")
        if self.reset not in ("soft", "hard"):
            raise SettingError(f"reset must be 'soft' or 'hard', not {self.reset!r}")
        self.neuron(IntegrateAndFire(ReLU(), torch.ones(()), torch.zeros(())))  # checks the settings

    @property
    def forgets(self) -> bool:
        return self.reset == "hard" or self.leak != 1

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        source, threshold, initial, spike_scale = old.source, old.threshold, old.initial, old.spike_scale
        if self.kind == "signed":
            return SignedIntegrateAndFire(source, threshold, initial, self.rule, self.depth, spike_scale=spike_scale)
        if self.kind == "burst":
            return Burst(source, threshold, initial, self.gamma, spike_scale=spike_scale)
        if self.kind == "bistable":
            return Bistable(source, threshold, initial * 2.0**-self.period, self.period, spike_scale=spike_scale)
        if self.reset == "hard" and bool(initial.any()):
            raise SettingError("a hard reset discards the initial potential that beta calibrates; set beta=0")
        return IntegrateAndFire(source, threshold, initial, self.reset, self.leak, spike_scale=spike_scale)
