"""Products of two wires: gates, and matrix products of activations."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from transpike.core.op import Op, Role, Shape, Shapes


@dataclass(frozen=True, eq=False)
class Product(Op):
    """``y = a · b``: element by element, where sizes of 1 are repeated; or with ``matrices`` ``y = a @ b``.

    a and b have as many axes as y, (batch, …). The pass ProductsOfWires makes it from the analogue operator.
    ``hides`` "output": a mask hides elements of the matrix y, which are 0, and "first" those of a. Hidden elements take
    no products: in attention they are pairs of tokens that do not see each other. ``mask`` is 1 where it hides; with
    ``by_sample`` a third input, Boolean values, hides more in each sample.
    """

    role: ClassVar[Role] = "product"
    buffers: ClassVar[tuple[str, ...]] = ("mask",)
    matrices: bool = False
    hides: Literal["", "output", "first"] = ""
    mask: Tensor | None = None
    by_sample: bool = False

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(), ((3, 2, 2), (3, 1, 1))

    @property
    def hides_by_sample(self) -> bool:
        return self.by_sample

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        """For matrices, the axis of features that is not summed; axis 1, for example of heads, if there is none."""
        if not self.matrices:
            return super().channel_axis_after(axes, shapes, shape)
        rank = len(shape)
        return rank if axes[1] == rank else rank - 1 if rank > 1 and axes[0] == rank - 1 else 1

    def run(self, *inputs: Tensor) -> Tensor:
        first, second = inputs[:2]
        if not self.matrices:
            return first * second
        if not self.hides:
            return first @ second
        seen = self._seen(inputs)
        return (first * seen) @ second if self.hides == "first" else (first @ second) * seen

    def _seen(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """1 where no mask hides, 0 elsewhere, in a shape that broadcasts."""
        seen = torch.ones((), dtype=inputs[0].dtype, device=inputs[0].device)
        if self.mask is not None:
            seen = (self.mask.to(inputs[0].device) == 0).to(inputs[0].dtype)
        return seen * (inputs[2] == 0) if self.by_sample else seen

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
        """Without what the constant mask hides."""
        if not self.matrices:
            return prod(output)
        pairs = output if self.hides != "first" else inputs[0]
        each = inputs[0][-1] if self.hides != "first" else output[-1]
        count = prod(pairs)
        if self.mask is not None and self.mask.device.type != "meta":
            count = int((self.mask == 0).expand(1, *pairs).sum())
        return count * each

    def apart(self, *shapes: Shape) -> int:
        """Matrices are apart, for example those of heads."""
        first, second = shapes[:2]
        return len(first) - 1 if self.matrices and not self.hides and first[:-2] == second[:-2] else 1

    def describe(self) -> str:
        text = "matrix product" if self.matrices else "product"
        return f"{text} after a mask" if self.hides else text


def _common(scale: Tensor, axis: int) -> Tensor | None:
    """The value along ``axis``, with size 1 there; None if there are several. NaN matches every value."""
    low = torch.nan_to_num(scale, nan=torch.inf).amin(axis, keepdim=True)
    high = torch.nan_to_num(scale, nan=-torch.inf).amax(axis, keepdim=True)
    silent = torch.isinf(low) & torch.isinf(high)
    return torch.where(silent, torch.nan, low) if bool(((low == high) | silent).all()) else None
