"""Analogue operators between neurons that send differences."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Mode
from transpike.neurons._operator import OperatorCell


@dataclass(frozen=True, eq=False)
class DifferentialOperator(OperatorCell):
    """``out_t = t (f(r_t) − f(r_{t−1}))`` with ``r_t = r_{t−1} + x_t / t``.

    The estimate of the outputs, ``Σ out_τ / τ``, is f of the estimate of the inputs at every t, so any analogue f (a
    maximum pooling) fits between layers that send differences. Its messages are real numbers, which reports list as
    analogue.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("differences",)

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        zeros = tuple(torch.zeros_like(x) for x in inputs)
        return (*zeros, torch.zeros_like(self.op.run(*zeros)))

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        sums = tuple(r + x / t for r, x in zip(state[:-1], inputs, strict=True))
        value = self.op.run(*sums)
        return (*sums, value), t * (value - state[-1])

    def describe(self) -> str:
        return f"{self.op.describe()}, of differences"
