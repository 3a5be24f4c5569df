"""Analogue operators between neurons that send differences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell, Mode
from transpike.core.op import Op, Shape, Shapes


@dataclass(frozen=True, eq=False)
class DifferentialOperator(Cell):
    """``out_t = t (f(r_t) − f(r_{t−1}))`` with ``r_t = r_{t−1} + x_t / t``.

    The estimate of the outputs, ``Σ out_τ / τ``, is f of the estimate of the inputs at every t, so any analogue f (a
    maximum pooling) fits between layers that send differences. Its messages are real numbers, which reports list as
    analogue.
    """

    alphabet: ClassVar[Alphabet] = GRADED
    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    op: Op

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return self.op.channel_axis_after(axes, shapes, shape)

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        zeros = tuple(torch.zeros_like(x) for x in inputs)
        return (*zeros, torch.zeros_like(self.op.run(*zeros)))

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        sums = tuple(r + x / t for r, x in zip(state[:-1], inputs, strict=True))
        value = self.op.run(*sums)
        return (*sums, value), t * (value - state[-1])

    def tensors(self) -> dict[str, Tensor]:
        return self.op.tensors()

    def with_tensors(self, **tensors: Tensor) -> Self:
        return replace(self, op=self.op.with_tensors(**tensors))

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        return self.op.macs(inputs, output)

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return self.op.evaluations(inputs, output)

    def describe(self) -> str:
        return f"{self.op.describe()}, of differences"
