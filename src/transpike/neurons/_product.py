"""Base of cells that multiply two spike trains by adding stored states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell
from transpike.core.op import Shape, Shapes
from transpike.neurons._rounded import state_reads
from transpike.ops.product import Product


@dataclass(frozen=True, eq=False)
class ProductCell(Cell):
    """Axes, charges and state reads of the product ``op`` of two trains; nothing is multiplied.

    An event of one side adds the partner's state, once for each product in which its element has a part. The messages
    are sums of several levels, which reports list as analogue. A third input holds Boolean values that hide pairs.
    """

    alphabet: ClassVar[Alphabet] = GRADED
    multiplies: ClassVar[bool] = True
    takes_levels: ClassVar[bool] = True
    op: Product

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(Product()), ((3, 2, 2), (3, 1, 1))

    @property
    def hides_by_sample(self) -> bool:
        return self.op.hides_by_sample

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return self.op.channel_axis_after(axes, shapes, shape)

    def accepts_levels(self, spike_scales: Sequence[Tensor | None], axis: int) -> bool:
        return all(scale is not None for scale in spike_scales[:2]) and self.output_scale(*spike_scales) is not None

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        first, second = inputs[:2]
        return None if first is None or second is None else self.op.of_scales(first, second)

    def state_reads(self, *events: Tensor, partners: Sequence[Tensor] | None = None) -> Tensor:
        first, second, *masks = events
        return state_reads(self.op, first, second, *masks, partners=partners)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0
