"""Products of two spike trains in rate code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell
from transpike.core.op import Shape, Shapes
from transpike.neurons._rounded import state_reads
from transpike.ops.product import Product


@dataclass(frozen=True, eq=False)
class RateProduct(Cell):
    """``P += a · S_b;  S_a += a;  P += S_a · b;  S_b += b;  out_t = P_t / t − P_{t−1} / (t−1)`` for rates a, b.

    The mean of the outputs is the product of the mean inputs at every t: ``P_t = S_a · S_b``, of which t² is the scale.
    An event of one side adds the partner's state, once for each product in which its element has a part. The messages
    are real numbers, which reports list as analogue. Masks of truth values are further inputs of ``op``.
    Source: Huang et al. 2024 (ECMT, MM), expectation compensation of matrix products.
    """

    alphabet: ClassVar[Alphabet] = GRADED
    multiplies: ClassVar[bool] = True
    takes_levels: ClassVar[bool] = True
    op: Product

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(Product()), ((3, 2, 2), (3, 1, 1))

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return self.op.channel_axis_after(axes, shapes, shape)

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        product = torch.zeros_like(self.op.run(*inputs))
        return torch.zeros_like(inputs[0]), torch.zeros_like(inputs[1]), product, product

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        first, second, product, before = state
        a, b, *masks = inputs
        product = product + self.op.run(a, second, *masks)
        first = first + a
        product = product + self.op.run(first, b, *masks)
        mean = product / t
        return (first, second + b, product, mean), mean - before

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        first, second, *masks = charges
        return self.op.run(first, second, *masks) / timesteps

    def accepts_levels(self, spike_scales: Sequence[Tensor | None], axis: int) -> bool:
        return all(scale is not None for scale in spike_scales[:2]) and self.output_scale(*spike_scales) is not None

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        first, second = inputs[:2]
        return None if first is None or second is None else self.op.of_scales(first, second)

    def state_reads(self, *events: Tensor, partners: Sequence[Tensor] | None = None) -> Tensor:
        first, second = events[:2]
        return state_reads(self.op, first, second, partners)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """One division by t for each element of the output."""
        return {"division": torch.Size(output).numel()}

    def describe(self) -> str:
        return f"{self.op.describe()} of rates"
