"""Rectification, unbounded or clipped."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused
from transpike.core.op import Captured, Op, Role, Shape, Shapes


@dataclass(frozen=True, eq=False)
class ReLU(Op):
    """``a = max(z, 0)``."""

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = ("relu.default", "relu_.default")
    ceiling: ClassVar[float | None] = None

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.relu(inputs[0])

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    @property
    def rectifies(self) -> bool:
        return True


def _ceiling(call: Call) -> float | None:
    if call.operator.startswith("relu6"):
        return 6.0
    return call.get("max", call.get("max_val"))


@dataclass(frozen=True, eq=False)
class Clip(Op):
    """``a = min(max(z, 0), c)``: ReLU6 and hardtanh or clamp to [0, c]."""

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = (
        "relu6.default",
        "relu6_.default",
        "hardtanh.default",
        "hardtanh_.default",
        "clamp.default",
        "clamp_.default",
        "clamp_min.default",
        "clamp_min_.default",
    )
    ceiling: float = 6.0

    @classmethod
    def capture(cls, call: Call) -> Captured:
        low, high = call.get("min", call.get("min_val", 0.0)), _ceiling(call)
        if (
            isinstance(low, torch.Tensor)
            or isinstance(high, torch.Tensor)
            or low != 0
            or (high is not None and high <= 0)
        ):
            raise Refused(f"it clips to [{low}, {high}]; a neuron's rate is clipped to [0, c]")
        return (ReLU() if high is None else cls(ceiling=float(high))), (call.wire("self"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].clamp(0, self.ceiling)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    @property
    def rectifies(self) -> bool:
        return True

    def describe(self) -> str:
        return f"clip 0…{self.ceiling:g}"
