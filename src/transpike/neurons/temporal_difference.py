"""Analogue operators in a spiking network with rate code."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.neurons._operator import OperatorCell


@dataclass(frozen=True, eq=False)
class TemporalDifference(OperatorCell):
    """``out_t = t f(S_t / t) − (t−1) f(S_{t−1} / (t−1))`` with the cumulative inputs S.

    The mean of the outputs is f of the mean inputs at every t, so any analogue f fits between spiking layers. Its
    messages are real numbers, which reports list as analogue. ``pre_simulation_steps`` > 0: S and t restart after this
    number of steps.
    """

    pre_simulation_steps: int = 0

    def init(self, *inputs: Tensor) -> tuple[Tensor | float, ...]:
        return (*(torch.zeros_like(x) for x in inputs), 0.0)

    def step(self, state: tuple, *inputs: Tensor, t: int) -> tuple[tuple, Tensor]:
        if self.pre_simulation_steps and t > self.pre_simulation_steps:
            t -= self.pre_simulation_steps
            state = self.init(*inputs) if t == 1 else state
        sums = tuple(s + x for s, x in zip(state[:-1], inputs, strict=True))
        total = t * self.value(*(s / t for s in sums))
        return (*sums, total), total - state[-1]

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return timesteps * self.value(*(charge / timesteps for charge in charges))

    def describe(self) -> str:
        return f"{self.op.describe()}, temporal difference"
