"""Products of two wires: gates, and matrix products of activations."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.op import Op, Role, Shape, Shapes


@dataclass(frozen=True, eq=False)
class Product(Op):
    """``y = a · b``: element by element, where sizes of 1 are repeated; or with ``matrices`` ``y = a @ b``.

    a and b have as many axes as y, (batch, …). The pass ProductsOfWires makes it from the analogue operator.
    """

    role: ClassVar[Role] = "product"
    matrices: bool = False

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(), ((3, 2, 2), (3, 1, 1))

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        """Of matrices: the axis of features that is not summed; axis 1, for example of heads, if there is none."""
        if not self.matrices:
            return super().channel_axis_after(axes, shapes, shape)
        rank = len(shape)
        return rank if axes[1] == rank else rank - 1 if rank > 1 and axes[0] == rank - 1 else 1

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ inputs[1] if self.matrices else inputs[0] * inputs[1]

    def of_scales(self, first: Tensor, second: Tensor) -> Tensor | None:
        """The charge of one level of the product of levels with these charges, (1, *shape) each.

        None for matrices whose levels have other charges along the axis that is summed. NaN marks elements that never
        send a spike.
        """
        if not self.matrices:
            return first * second
        rows, columns = _common(first, -1), _common(second, -2)
        return None if rows is None or columns is None else rows * columns

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return prod(output) * (inputs[0][-1] if self.matrices else 1)

    def describe(self) -> str:
        return "matrix product" if self.matrices else "product"


def _common(scale: Tensor, axis: int) -> Tensor | None:
    """The value along ``axis``, with size 1 there; None if there are several. NaN matches every value."""
    low = torch.nan_to_num(scale, nan=torch.inf).amin(axis, keepdim=True)
    high = torch.nan_to_num(scale, nan=-torch.inf).amax(axis, keepdim=True)
    silent = torch.isinf(low) & torch.isinf(high)
    return torch.where(silent, torch.nan, low) if bool(((low == high) | silent).all()) else None
