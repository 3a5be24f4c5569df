"""The integrate-and-fire neuron with negative spikes."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from transpike.core.alphabet import TERNARY, Alphabet
from transpike.core.cell import NeuronSpec
from transpike.core.spike import fire
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron

NegativeRule = Literal["snm", "fast-snn", "pascal", "dual"]


@dataclass(frozen=True, eq=False)
class SignedIntegrateAndFire(ThresholdNeuron):
    """``m = v + x;  s = [m ≥ θ] − n;  v = m − θ s``, with n = 1 where a negative spike is due, by ``rule``:

    - "snm": ``m ≤ −θ`` and more spikes than negative ones so far (Wang et al. 2022, Signed Neuron with Memory)
    - "fast-snn": ``m < 0`` and more spikes than negative ones so far (Hu et al. 2023; its code compares with −0.001)
    - "dual": ``m < −d θ`` and more spikes than negative ones so far, d = ``depth`` (the dual-threshold neuron of Liu
      2025, whose negative threshold is unpublished): 0 is "fast-snn", near 1 is "snm"
    - "pascal": ``m < 0``, regardless of earlier spikes; only the net count of a whole window is clipped at zero (Ramesh
      and Srinivasan 2025), so that it needs a layer-synchronous schedule

    Under all rules but the last the count never falls below zero, like a ReLU. Alphabet {−1, 0, 1}, soft reset.
    Closed form of a window: ``clip(⌊(Q + v(0)) / θ⌋, 0, T)``, as without negative spikes. Shapes as IntegrateAndFire.
    """

    alphabet: ClassVar[Alphabet] = TERNARY
    rule: NegativeRule = "snm"
    depth: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.depth < float("inf"):
            raise SettingError(
                f"depth must be a number of at least 0, not {self.depth!r}: the negative threshold is −depth θ"
            )
        if self.rule not in get_args(NegativeRule):
            raise SettingError(f"rule must be one of {', '.join(get_args(NegativeRule))}, not {self.rule!r}")

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return super().init(*inputs), torch.zeros_like(inputs[0])

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        potential, sent = state[0] + inputs[0], state[1]
        below = self._below(potential)
        negative = below if self.rule == "pascal" else below * (sent > 0).to(below)
        spikes = fire(potential, self.threshold) - negative
        return (potential - spikes * self.threshold, sent + spikes), spikes

    def _below(self, potential: Tensor) -> Tensor:
        if self.rule == "snm":
            return fire(-potential, self.threshold)
        depth = self.depth if self.rule == "dual" else 0.0
        return 1 - fire(potential, -depth * self.threshold, self.threshold)

    def updates(self, timesteps: int) -> int:
        return 2 * timesteps - 1 if self.rule == "pascal" else timesteps  # includes the settling steps

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self.staircase(charges[0], timesteps)

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        return super().fire_window(*charges, timesteps=timesteps).clamp(min=0)

    @property
    def unit(self) -> NeuronSpec:
        depth = self.depth if self.rule == "dual" else 0.0
        return NeuronSpec(self.threshold, self.initial, "soft", negative=self.rule, depth=depth)

    def describe(self) -> str:
        where = f" at {f'−{self.depth:g} θ' if self.depth else '0'}" if self.rule == "dual" else ""
        return f"signed IF ({self.rule}{where})"
