"""Products of two spike trains that carry differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell, Gain, Mode
from transpike.core.op import Shape, Shapes
from transpike.errors import SettingError
from transpike.neurons._rounded import RoundedProduct, state_reads
from transpike.ops.product import Product

STATE_STEPS = 63
"""Steps for which the grid has room: a sum of received levels is at most so many times the largest of one step."""


@dataclass(frozen=True, eq=False)
class SpikeProduct(Cell):
    """``P += a · S_b;  S_a += a;  P += S_a · b;  S_b += b`` for received differences a, b; it sends the changes of P.

    S_a and S_b are the sums of the received differences, so that P = S_a · S_b, the product of the estimates, at every
    step. An event of one side adds the partner's state, once for each product in which its element has a part; nothing
    is multiplied, because a difference is a signed power of two, and the charge of a level is a factor of the stored
    states. With ``gain`` "reciprocal" a difference of step t counts 1/t, and what is sent t times as much. The messages
    are sums of several levels, which reports list as analogue.
    """

    alphabet: ClassVar[Alphabet] = GRADED
    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    multiplies: ClassVar[bool] = True
    takes_levels: ClassVar[bool] = True
    settles: ClassVar[bool] = True
    op: Product
    gain: Gain = "unit"

    def __post_init__(self) -> None:
        if self.gain not in ("reciprocal", "unit"):
            raise SettingError(f"gain must be 'reciprocal' or 'unit', not {self.gain!r}")

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(Product()), ((3, 2, 2), (3, 1, 1))

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return self.op.channel_axis_after(axes, shapes, shape)

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(inputs[0]), torch.zeros_like(inputs[1])

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        steps = t if self.gain == "reciprocal" else 1
        first, second = (x if steps == 1 else x / steps for x in inputs)
        change = self.op.run(first, state[1])
        sums = state[0] + first, state[1] + second
        change = change + self.op.run(sums[0], second)
        return sums, steps * change

    def accepts_levels(self, spike_scales: Sequence[Tensor | None], axis: int) -> bool:
        return all(scale is not None for scale in spike_scales) and self.output_scale(*spike_scales) is not None

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        first, second = inputs
        return None if first is None or second is None else self.op.of_scales(first, second)

    def settled(self, *estimates: Tensor) -> Tensor:
        return self.op.run(*estimates)

    def unsent(self, state: tuple[Tensor, Tensor], fresh: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        return state, torch.where(fresh, self.op.run(*state), 0.0)

    def state_reads(self, *events: Tensor, partners: Sequence[Tensor] | None = None) -> Tensor:
        first, second = events
        return state_reads(self.op, first, second, partners=partners)

    def on_grid(self, largest: float) -> Cell:
        return RoundedProduct.of_range(self.op, largest) if self.gain == "unit" else self

    def bound(self, *inputs: Tensor) -> Tensor:
        return 2 * STATE_STEPS * self.op.run(*inputs)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    def describe(self) -> str:
        return f"{self.op.describe()} of spikes"
