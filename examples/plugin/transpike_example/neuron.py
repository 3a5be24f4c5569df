"""A neuron: integrate and fire, silent for some steps after a spike."""

from dataclasses import dataclass

import torch
from torch import Tensor

import transpike as ts
from transpike.errors import SettingError


@ts.register
@dataclass(frozen=True, eq=False)
class Refractory(ts.neurons.IntegrateAndFire):
    """``v += x;  s = 1 if v ≥ θ and no spike came in the last ``rest`` steps;  v −= θ s``.

    The charge is kept while it is silent. Since ``step`` differs from its parent's, no kernel and no closed form of the
    parent is used: every engine calls this ``step``.
    """

    rest: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rest, bool) or not isinstance(self.rest, int) or self.rest < 0:
            raise SettingError(f"rest must be an integer of at least 0, not {self.rest!r}")

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return super().init(*inputs), torch.zeros_like(inputs[0])

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        potential, silent = state[0] + inputs[0], state[1]
        spikes = ((potential >= self.threshold) & (silent <= 0)).to(potential.dtype)
        silent = torch.where(spikes > 0, torch.full_like(silent, float(self.rest)), (silent - 1).clamp(min=0))
        return (potential - spikes * self.threshold, silent), spikes

    @property
    def peak(self) -> Tensor | None:
        most = super().peak
        return None if most is None else most / (1 + self.rest)  # one spike in 1 + rest steps

    def describe(self) -> str:
        return f"IF, {self.rest} steps of rest"
