"""The burst neuron: several spikes in one step."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import NeuronSpec
from transpike.core.spike import floor_clip
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron


@dataclass(frozen=True, eq=False)
class Burst(ThresholdNeuron):
    """``m = v + x;  n = clip(⌊m / θ⌋, 0, Γ);  v = m − θ n``: up to ``gamma`` Γ spikes in a step, soft reset.

    Alphabet {0 … Γ}; every spike of a burst is counted. Closed form of a window: ``clip(⌊(Q + v(0)) / θ⌋, 0, Γ T)``.
    A group of m neurons with thresholds θ i/m that share a membrane (Lv et al. 2024) is Γ = m at θ/m. Shapes as
    IntegrateAndFire. Source: Li and Zeng 2022, "Efficient and accurate conversion of SNN with burst spikes", eq. 8.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("levels", 5)
    gamma: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.gamma, bool) or not isinstance(self.gamma, int) or self.gamma < 1:
            raise SettingError(f"gamma must be an integer of at least 1, not {self.gamma!r}")

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("levels", self.gamma) if self.gamma > 1 else Alphabet("binary")

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        potential = state + inputs[0]
        spikes = floor_clip(potential / self.threshold, self.gamma)
        return potential - spikes * self.threshold, spikes

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self.staircase(charges[0], self.gamma * timesteps)

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft", levels=self.gamma)

    def describe(self) -> str:
        return f"burst IF, up to {self.gamma}"
