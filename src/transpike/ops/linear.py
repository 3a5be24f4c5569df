"""Fully connected layers."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call
from transpike.core.op import Captured, Shape, Shapes, Synapse, spatially_uniform


@dataclass(frozen=True, eq=False)
class Linear(Synapse):
    """``y = x Wᵀ + b``; x is (batch, …, in), W is (out, in)."""

    aten: ClassVar[tuple[str, ...]] = ("linear.default",)

    channel_axis: ClassVar[int] = -1

    @classmethod
    def capture(cls, call: Call) -> Captured:
        weight = call.constant("weight")
        assert weight is not None
        return cls(weight=weight, bias=call.constant("bias")), (call.wire("input"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight, self.bias)

    def linear(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight)

    def absorb(self, spike_scale: Tensor) -> "Linear | None":
        last = spatially_uniform(spike_scale, -1)
        return None if last is None else replace(self, weight=self.weight * last)

    def per_input(self, value: Tensor) -> Tensor:
        return value

    def per_output(self, value: Tensor) -> Tensor:
        return value.reshape(-1, 1)

    def scale_outputs(self, factor: Tensor) -> "Linear":
        bias = None if self.bias is None else self.bias * factor
        return replace(self, weight=self.weight * factor[:, None], bias=bias)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return prod(output) * self.weight.shape[1]

    def describe(self) -> str:
        return f"linear {self.weight.shape[1]}→{self.weight.shape[0]}"
