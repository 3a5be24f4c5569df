"""Activations with a line on either side of zero: leaky ReLUs, clips to both sides, absolute values."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.op import Captured, Op, Role, Shape, Shapes, check_finite
from transpike.errors import SettingError


@dataclass(frozen=True, eq=False)
class LeakyReLU(Op):
    """``a = min(max(z, 0), c) − slope · min(max(−z, 0), d)``: a rectified line on either side of zero.

    Leaky and parametric ReLU; hardtanh and clamp to [−d, c] with slope 1; |z| with slope −1. ``slope`` is (), or
    broadcasts against *shape: (channels, 1, 1) for images. ``ceiling`` c and ``floor`` d > 0 are None where there is
    none. Every recipe of ReLUs converts it, as two of them (``passes.Rectify``).
    """

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = (
        "leaky_relu.default",
        "leaky_relu_.default",
        "prelu.default",
        "_prelu_kernel.default",
        "rrelu.default",
        "rrelu_.default",
        "abs.default",
        "abs_.default",
        "hardtanh.default",
        "hardtanh_.default",
        "clamp.default",
        "clamp_.default",
        "clamp_min.default",
        "clamp_min_.default",
        "clamp_max.default",
        "clamp_max_.default",
    )
    slope: Tensor
    ceiling: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        check_finite("leaky ReLU", slope=self.slope)
        for name, value in (("ceiling", self.ceiling), ("floor", self.floor)):
            if value is not None and not 0 < value < float("inf"):
                raise SettingError(f"the {name} must be a positive number or None, not {value!r}")

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x, name = call.wire("self"), call.operator.split(".")[0].strip("_")
        if name.startswith("clamp") or name == "hardtanh":
            return _clip(cls, call, x)
        if name == "rrelu":
            if call["training"]:
                raise Refused("it draws random slopes: capture the model in eval mode")
            return cls(torch.tensor((call["lower"] + call["upper"]) / 2)), (x,)
        if name in ("prelu", "prelu_kernel"):
            return cls(_slope(call.constant("weight"), x, name)), (x,)
        return cls(torch.tensor(-1.0 if name == "abs" else float(call["negative_slope"]))), (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        z, slope = inputs[0], self.slope.to(inputs[0])
        return z.clamp(0, self.ceiling) - slope * (-z).clamp(0, self.floor)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        whole = self.slope.device.type != "meta" and bool(((self.slope.abs() == 1) | (self.slope == 0)).all())
        return 0 if whole else prod(output)

    @property
    def is_function(self) -> bool:
        return True

    @property
    def rises(self) -> bool:
        """True if a larger value never gives a smaller output."""
        return bool((self.slope >= 0).all())

    def describe(self) -> str:
        if self.ceiling is None and self.floor is None:
            one = float(self.slope.flatten()[0]) if self.slope.numel() else 0.0
            return "absolute value" if bool((self.slope == -1).all()) else f"leaky ReLU, slope {one:.3g}" + (
                "" if self.slope.numel() == 1 else " …"
            )
        low, high = ("" if value is None else f"{value:g}" for value in (self.floor, self.ceiling))
        return f"clip {f'−{low}' if low else '−∞'}…{high or '∞'}"


def _slope(weight: Tensor | None, x: Wire, name: str) -> Tensor:
    """The slopes of a PReLU, (), or one for each element of axis 1."""
    assert weight is not None
    if weight.numel() == 1:
        return weight.reshape(())
    if name == "prelu":
        return weight.reshape(-1, *(1,) * (len(x.shape) - 1))
    if weight.ndim > len(x.shape):
        if weight.shape[0] != 1:
            raise Refused("its slopes depend on the place in the batch")
        weight = weight[0]
    return weight


def _clip(cls: type[LeakyReLU], call: Call, x: Wire) -> Captured:
    low, high = (_number(call.get(key, call.get(f"{key}_val"))) for key in ("min", "max"))
    if not (low is None or low < 0) or not (high is None or high > 0):
        raise Refused(f"it clips to [{low}, {high}], which does not contain zero")
    return cls(torch.tensor(1.0), high, None if low is None else -low), (x,)


def _number(value: Any) -> float | None:
    if isinstance(value, (Tensor, Wire)):
        raise Refused("its bounds are tensors")
    return None if value is None else float(value)
