"""Analogue operators between neurons that send differences."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Cell, Gain, Mode
from transpike.errors import SettingError
from transpike.neurons._operator import OperatorCell
from transpike.neurons._rounded import RoundedOperator


@dataclass(frozen=True, eq=False)
class DifferentialOperator(OperatorCell):
    """``out_t = (f(r_t) − f(r_{t−1})) / g`` with ``r_t = r_{t−1} + g x_t``; g is 1/t, or 1 for ``gain`` "unit".

    The estimate of the outputs, ``Σ g out_τ``, is f of the estimate of the inputs at every t, so any analogue f (a
    maximum pooling, a normalisation) fits between layers that send differences. Its messages are real numbers, which
    reports list as analogue.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    settles: ClassVar[bool] = True
    gain: Gain = "reciprocal"

    def __post_init__(self) -> None:
        if self.gain not in ("reciprocal", "unit"):
            raise SettingError(f"gain must be 'reciprocal' or 'unit', not {self.gain!r}")

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        zeros = tuple(torch.zeros_like(x) for x in inputs)
        return (*zeros, torch.zeros_like(self.op.run(*zeros)))

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        steps = t if self.gain == "reciprocal" else 1
        sums = tuple(r + x / steps for r, x in zip(state[:-1], inputs, strict=True))
        value = self.value(*sums)
        return (*sums, value), steps * (value - state[-1])

    def settled(self, *estimates: Tensor) -> Tensor:
        return self.value(*estimates)

    def unsent(self, state: tuple[Tensor, ...], fresh: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        return (*state[:-1], state[-1].masked_fill(fresh, 0.0)), None

    def on_grid(self, largest: float) -> Cell:
        return RoundedOperator.of_range(self.op, largest) if self.gain == "unit" else self

    def scan(self, state: tuple[Tensor, ...], *trains: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor, int]:
        """With unit gain: f of the estimates of all steps at once."""
        if self.gain == "reciprocal":
            return super().scan(state, *trains, t=t)
        sums = []
        for before, train in zip(state[:-1], trains, strict=True):
            total = train.to(before.dtype, copy=True)
            total[0] += before
            sums.append(total.cumsum_(0))
        values = self.value(*(total.flatten(0, 1) for total in sums)).unflatten(0, trains[0].shape[:2])
        sent = torch.cat([values[:1] - state[-1], values[1:] - values[:-1]])
        return (*(total[-1].clone() for total in sums), values[-1].clone()), sent, 0

    def describe(self) -> str:
        return f"{self.op.describe()}, of differences"
