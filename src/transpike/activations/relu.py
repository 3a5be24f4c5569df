"""Rectification, unbounded or clipped."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Comparison, Refused, Wire
from transpike.core.op import Captured, Op, Role, Shape, Shapes


@dataclass(frozen=True, eq=False)
class ReLU(Op):
    """``a = max(z, 0)``."""

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = (
        "relu.default",
        "relu_.default",
        "threshold.default",
        "threshold_.default",
        "maximum.default",
        "max.other",
        "where.self",
        "where.ScalarOther",
        "where.ScalarSelf",
        "masked_fill.Scalar",
        "masked_fill.Tensor",
    )
    ceiling: ClassVar[float | None] = None

    @classmethod
    def capture(cls, call: Call) -> Captured:
        name = call.operator.split(".")[0].rstrip("_")
        if name == "threshold" and (call["threshold"], call["value"]) != (0, 0):
            raise Refused(
                f"it jumps at {call['threshold']} to {call['value']}, which a neuron's rate cannot represent; train "
                "with nn.ReLU instead"
            )
        if name in ("relu", "threshold"):
            return cls(), (call.wire("self"),)
        if name in ("maximum", "max"):
            pair = call["self"], call["other"]
            positive, zero = pair if isinstance(pair[0], Wire) else pair[::-1]
            if not isinstance(positive, Wire) or not _is_number(zero, 0):
                raise Refused("it is the larger one of two values, and only max(x, 0) is a rectification")
            return cls(), (positive,)
        if name == "where":
            condition, kept, other = call["condition"], call["self"], call["other"]
        else:
            condition, kept, other = call["mask"], call["value"], call["self"]
        if isinstance(condition, Comparison) and condition.bound == 0:
            if condition.relation in ("lt", "le"):
                kept, other = other, kept
            if kept == condition.wire and _is_number(other, 0):
                return cls(), (condition.wire,)
        raise Refused("it selects by a condition, and only x where x > 0, else 0, is a rectification")

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


def _is_number(value: Any, number: float) -> bool:
    """True for a number, or a constant all of whose values are this number."""
    if isinstance(value, torch.Tensor):
        return bool((value == number).all())
    return isinstance(value, (int, float)) and value == number


def _single(value: Any) -> Any:
    """A constant tensor with equal values as a number; anything else unchanged."""
    if isinstance(value, torch.Tensor) and value.numel() and bool((value == value.flatten()[0]).all()):
        return float(value.flatten()[0])
    return value


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
        "clamp.Tensor",
        "clamp_min.Tensor",
        "clip.default",
    )
    ceiling: float = 6.0

    @classmethod
    def capture(cls, call: Call) -> Captured:
        low, high = _single(call.get("min", call.get("min_val", 0.0))), _single(_ceiling(call))
        if (
            isinstance(low, (torch.Tensor, Wire))
            or isinstance(high, (torch.Tensor, Wire))
            or low != 0
            or (high is not None and high <= 0)
        ):
            raise Refused(f"it clips to [{low}, {high}]; a neuron's rate is clipped to [0, c], as nn.Hardtanh(0, c) is")
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
