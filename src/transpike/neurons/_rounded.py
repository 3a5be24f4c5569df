"""Operators between neurons whose values are rounded to a grid, on which all later sums are exact."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.cell import Gain, Mode, Rounding
from transpike.core.op import Op, Shape, Shapes
from transpike.neurons._operator import OperatorCell
from transpike.neurons.apart import steps_apart, updates

FINE_BITS = 20
"""Bits of a rounded value below the largest one on the calibration data,"""
ROOM_BITS = 3
"""and above it."""
NEAR = 2.0**-46
"""More than the difference between two orders of arithmetic in float64, relative to the value."""


@dataclass(frozen=True, eq=False)
class RoundedOperator(OperatorCell):
    """``E += x; out = Q(f(E)) − Q(f(E before))`` with Q the nearest multiple of ``grid``, a power of two; unit gain.

    A run with values beyond ``room`` in size is not exact. Only the form that engines run has such cells.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    settles: ClassVar[bool] = True
    near: ClassVar[float] = NEAR
    grid: float = 1.0
    room: float = 1.0

    @classmethod
    def of_range(cls, op: Op, largest: float) -> Self:
        """For values up to ``largest`` on calibration data."""
        power = 2.0 ** math.ceil(math.log2(max(largest, 2.0**-40)))
        return cls(op, power * 2.0**-FINE_BITS, power * 2.0**ROOM_BITS)

    @property
    def gain(self) -> Gain:
        return "unit"

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        zeros = tuple(torch.zeros_like(x) for x in inputs)
        shape = self.op.run(*(zero[:1] for zero in zeros)).shape[1:]
        return (*zeros, zeros[0].new_zeros((len(inputs[0]), *shape)))

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        sums = tuple(before + x for before, x in zip(state[:-1], inputs, strict=True))
        value = (self.value(*sums) / self.grid).round_().mul_(self.grid)
        return (*sums, value), value - state[-1]

    def settled(self, *estimates: Tensor) -> Tensor:
        return self.value(*estimates)

    def unsent(self, state: tuple[Tensor, ...], fresh: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        return (*state[:-1], state[-1].masked_fill(fresh, 0.0)), None

    def scan(self, state: tuple[Tensor, ...], *trains: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor, int]:
        """Only what reads a changed input is evaluated, once for its value and for ``undecided``."""
        unclear = 0

        def value_of(*sums: Tensor) -> Tensor:
            nonlocal unclear
            parts = self.value(*sums) / self.grid
            unclear += int(self._uncertain(parts).sum())
            return parts.round_().mul_(self.grid)

        sums, value, sent = steps_apart(self.op, state[:-1], state[-1], trains, updates(value_of), everything=t == 1)
        return (*sums, value), sent, unclear

    @property
    def rounding(self) -> Rounding:
        return Rounding(self.op, self.value, self.grid, self.room, self.near)

    def undecided(self, state: tuple[Tensor, ...], present: Tensor | None = None) -> int:
        found = self._uncertain(self.op.run(*state[:-1]) / self.grid)
        return int((found if present is None else found & present).sum())

    def _uncertain(self, parts: Tensor) -> Tensor:
        """The values, in steps of the grid, that are close to an edge or beyond the room."""
        parts = parts.abs()
        near = (parts - parts.floor() - 0.5).abs() < self.near * (1 + parts)
        return near | (parts > self.room / self.grid)

    def bound(self, *inputs: Tensor) -> Tensor:
        return torch.tensor(2 * self.room, dtype=torch.float64)

    def grid_after(self, step: Tensor) -> Tensor:
        return torch.tensor(self.grid, dtype=torch.float64)

    def describe(self) -> str:
        return f"{self.op.describe()}, of differences"


@dataclass(frozen=True, eq=False)
class RoundedProduct(RoundedOperator):
    """The product of two wires whose levels have several charges that are added: its states hold charges.

    Counted as SpikeProduct.
    """

    multiplies: ClassVar[bool] = True

    def state_reads(self, *events: Tensor, partners: Sequence[Tensor] | None = None) -> Tensor:
        first, second, *masks = events
        return state_reads(self.op, first, second, *masks, partners=partners)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0


@dataclass(frozen=True, eq=False)
class RoundedMask(RoundedOperator):
    """The real numbers that a mask passes. They are exact sums, which every engine rounds alike."""

    near: ClassVar[float] = 0.0


def state_reads(
    op: Op, first: Tensor, second: Tensor, *masks: Tensor, partners: Sequence[Tensor] | None = None
) -> Tensor:
    """The words of the partner's state that events of both sides of a product read; a mask hides pairs.

    ``partners`` as of a cell.
    """
    here, there = (torch.ones_like(first), torch.ones_like(second)) if partners is None else partners[:2]
    of_first = op.run(first, there.expand_as(second), *masks)
    return of_first.sum() + op.run(here.expand_as(first), second, *masks).sum()
