"""The neuron that switches a current on and off."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Mode, NeuronSpec
from transpike.core.spike import fire
from transpike.neurons._threshold import ThresholdNeuron


@dataclass(frozen=True, eq=False)
class Switched(ThresholdNeuron):
    """Integrates a window, then sends the charge of N spikes by two spikes: on, and off N steps later.

    ``N = clip(⌊(Q + v(0)) / θ⌋, 0, T)``; in between, the receiver adds the weight in every step, and so receives the
    charge of N spikes. The wire carries N; two spikes are counted if N > 0. Soft reset.
    Shapes as IntegrateAndFire. Source: Han and Roy 2020 (temporal-switch coding, ECCV), from memory.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("switch")
    modes: ClassVar[tuple[Mode, ...]] = ("windows",)

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        potential = state + inputs[0]
        on = fire(potential, self.threshold)
        return potential - on * self.threshold, on

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self.staircase(charges[0], timesteps)

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft")

    def describe(self) -> str:
        return "switch, on and off"
