"""Softmax over the places that a constant mask leaves."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.op import Op, Shape, Shapes
from transpike.ops.arithmetic import Arithmetic, arithmetic


@dataclass(frozen=True, eq=False)
class MaskedSoftmax(Op):
    """``y = exp(x) / Σ exp(x)`` along ``axis``, over the places where ``mask`` is 0; y is 0 where it is not.

    ``mask`` broadcasts against (batch, *shape) of x; the batch is axis 0. The pass JoinMasks makes it from a mask of
    −inf and the softmax behind it, so that no wire carries infinite values. A row whose places are all masked gives
    NaN, which every run reports as an error.
    """

    buffers: ClassVar[tuple[str, ...]] = ("mask",)
    mask: Tensor  # of numbers, as all tensors of ops
    axis: int = 1

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(torch.ones(4, 4).triu(1), 2), ((4, 4),)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].masked_fill(self.mask.to(inputs[0].device) != 0, -torch.inf).softmax(self.axis)

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        return self._arithmetic(inputs).multiplications

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return self._arithmetic(inputs).evaluations

    def _arithmetic(self, inputs: Shapes) -> Arithmetic:
        return arithmetic(self.to(device="meta").run, inputs)

    def parts(self, *changed: Tensor) -> Tensor:
        """One part for each row; what is masked changes nothing."""
        return (changed[0] & (self.mask.to(changed[0].device) == 0)).any(self.axis).reshape(len(changed[0]), -1)

    def describe(self) -> str:
        return "softmax behind a mask"
