"""Differences that a mask of the sample lets through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell, Gain, Mode
from transpike.core.op import Shape, Shapes
from transpike.neurons._rounded import RoundedMask
from transpike.ops.mask import Mask


@dataclass(frozen=True, eq=False)
class Masked(Cell):
    """``M += m;  out = x`` where M is not 0, else 0: it sends on what it receives, levels as levels.

    The mask m comes before or with the first differences, and does not change, so that the sum of what is sent is
    ``op`` of the sums at every step.
    """

    alphabet: ClassVar[Alphabet] = GRADED
    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    settles: ClassVar[bool] = True
    op: Mask = Mask()
    gain: Gain = "unit"

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(), ((3, 2), (3, 1))

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return axes[0]

    def init(self, *inputs: Tensor) -> tuple[Tensor]:
        return (torch.zeros_like(inputs[1]),)

    def step(self, state: tuple[Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor], Tensor]:
        mask = state[0] + inputs[1]
        return (mask,), self.op.run(inputs[0], mask)

    def accepts_levels(self, spike_scales: Sequence[Tensor | None], axis: int) -> bool:
        return spike_scales[0] is not None

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return inputs[0]

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return inputs[0]

    def settled(self, *estimates: Tensor) -> Tensor:
        return self.op.run(*estimates)

    def on_grid(self, largest: float) -> Cell:
        return RoundedMask.of_range(self.op, largest) if self.gain == "unit" else self

    def bound(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    def describe(self) -> str:
        return "mask of differences"
