"""A neuron with negative spikes that encodes a wire."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.activations.function import Unchanged
from transpike.core.alphabet import TERNARY, Alphabet
from transpike.core.cell import NeuronSpec
from transpike.core.op import Op, Shape
from transpike.core.spike import fire
from transpike.neurons._threshold import ThresholdNeuron


@dataclass(frozen=True, eq=False)
class SignedEncoder(ThresholdNeuron):
    """``m = v + x;  s = [m ≥ θ] − [m < 0];  v = m − θ s``: the spikes follow a value of either sign.

    Unlike ``SignedIntegrateAndFire`` it may send more negative spikes than positive ones, so that it represents no
    rectification, but for the identity. With v(0) = θ/2 the charge of its spikes is the nearest multiple of θ as
    long as it can follow: ``Q − θ N`` lies in [−θ/2, θ/2). Alphabet {−1, 0, 1}, soft reset, shapes as
    IntegrateAndFire. Closed form of a window: ``clip(⌊(Q + v(0)) / θ⌋, −T, T)``.
    Source: transpike's own; the step is that of PASCAL's neuron (Ramesh and Srinivasan 2025) without its final clip.

    >>> cell = SignedEncoder(Unchanged(), torch.tensor(1.0), torch.tensor(0.5))
    >>> cell.window(torch.tensor([[0.6], [-0.7], [-0.7], [0.0]])).flatten().tolist()
    [1.0, -1.0, -1.0, 0.0]
    """

    alphabet: ClassVar[Alphabet] = TERNARY

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        return activation.is_sum or "it encodes values of either sign, as they are"

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(Unchanged(), torch.tensor(0.5), torch.tensor(0.25)), ((4,),)

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        potential = state + inputs[0]
        not_negative = fire(potential, torch.zeros_like(self.threshold), self.threshold)
        spikes = fire(potential, self.threshold) + not_negative - 1
        return potential - spikes * self.threshold, spikes

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        level = ((charges[0] + self.initial) / self.threshold).clamp(-timesteps, timesteps)
        sent = torch.floor(level)
        return sent + (level - level.detach()) if level.requires_grad else sent  # the gradient of the clip

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft", negative="either")

    def describe(self) -> str:
        return "signed encoder"
