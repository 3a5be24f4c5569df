"""An operator that capture does not know by itself: torch's hard shrinkage."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import transpike as ts
from transpike.core.call import Call
from transpike.core.op import Captured, Op, Shape, Shapes


@ts.register
@dataclass(frozen=True, eq=False)
class HardShrink(Op):
    """``y = x where |x| > λ, else 0``. No neuron represents it: it remains analogue between spiking layers."""

    aten: ClassVar[tuple[str, ...]] = ("hardshrink.default",)
    limit: float = 0.5

    @classmethod
    def capture(cls, call: Call) -> Captured:
        return cls(limit=float(call["lambd"])), (call.wire("self"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.where(inputs[0].abs() > self.limit, inputs[0], torch.zeros_like(inputs[0]))

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    def describe(self) -> str:
        return f"hard shrinkage at {self.limit:g}"
