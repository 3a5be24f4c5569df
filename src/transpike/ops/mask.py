"""Signals that Boolean values of an input let through."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from transpike.core.op import Op, Shape, Shapes


@dataclass(frozen=True, eq=False)
class Mask(Op):
    """``y = x`` where the second input is not 0, else 0: a product with Boolean values, which takes no multiplication.

    The second input broadcasts against x. The pass ProductsOfWires makes it, as for the mean over the words of a
    sentence.
    """

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(), ((3, 2), (3, 1))

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.where(inputs[1] != 0, inputs[0], torch.zeros_like(inputs[0]))

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    def describe(self) -> str:
        return "mask"
