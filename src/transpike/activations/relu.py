"""Rectification, unbounded or clipped, and with a line on either side of zero."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Comparison, Refused, Wire
from transpike.core.op import Captured, Op, Role, Shape, Shapes, check_finite
from transpike.errors import SettingError
from transpike.ops.scale import Scale, per_element


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
        "minimum.default",
        "min.other",
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
        if name in ("maximum", "max", "minimum", "min"):
            return _extreme(call["self"], call["other"], name.startswith("max"))
        if name == "where":
            condition, kept, other = call["condition"], call["self"], call["other"]
        else:
            condition, kept, other = call["mask"], call["value"], call["self"]
        if isinstance(condition, Comparison) and condition.bound == 0:
            if condition.relation in ("lt", "le"):
                kept, other = other, kept
            above, below = _factor(kept, condition.wire), _factor(other, condition.wire)
            if above is not None and below is not None:
                return _two_lines(condition.wire, above, below)
        raise Refused("it selects by a condition, but only x where x > 0, else 0 or a · x, is a rectification")

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


def _factor(value: Any, x: Wire) -> Tensor | None:
    """c of a value ``c · x``: (), or (*shape); None if it is another function of x."""
    if _is_number(value, 0):
        return torch.tensor(0.0)
    factor = torch.tensor(1.0)
    while isinstance(value, Wire) and value != x and value.multiple is not None:
        value, scale = value.multiple
        factor = scale.run(factor.expand(1, *x.shape))[0]
    return factor if isinstance(value, Wire) and value == x else None


def _extreme(first: Any, second: Any, largest: bool) -> Captured:
    """The larger or smaller one of two multiples of the same wire."""
    for x in (first, second):
        if isinstance(x, Wire):
            a, b = _factor(first, x), _factor(second, x)
            if a is not None and b is not None:
                above, below = torch.maximum(a, b), torch.minimum(a, b)
                return _two_lines(x, above, below) if largest else _two_lines(x, below, above)
    if largest:
        raise Refused("it is the larger one of two values, but only max(x, 0) and max(x, a · x) are rectifications")
    raise Refused(
        "it is neither max(x, 0) nor linear; min(a, b) is a − relu(a − b), and min(max(x, 0), c) is clamp(x, 0, c)"
    )


def _two_lines(x: Wire, above: Tensor, below: Tensor) -> Captured:
    """``above · x`` where x > 0, else ``below · x``; both are (), or (*shape)."""
    if bool((above == 1).all()):
        return (LeakyReLU(_compact(below)) if bool(below.any()) else ReLU()), (x,)
    if not bool(above.any()):
        negated = Scale(weight=torch.tensor(-1.0)), (x,)
        return _times(-below, x), ((ReLU(), (negated,)),)
    if not bool((above != 0).all()):
        raise Refused("it is flat above zero in some channels only, which no rectification is")
    return _times(above, x), ((LeakyReLU(_compact(below / above)), (x,)),)


def _times(factor: Tensor, x: Wire) -> Scale:
    weight, axis = per_element(factor, x.shape)
    return Scale(weight=weight, axis=axis)


def _compact(factor: Tensor) -> Tensor:
    """The same values with size 1 on every axis along which they are equal; () for one value."""
    for axis in range(factor.ndim):
        first = factor.narrow(axis, 0, 1)
        factor = first if bool((factor == first).all()) else factor
    return factor.reshape(()).clone() if factor.numel() == 1 else factor.clone()


def _single(value: Any) -> Any:
    """A constant tensor with equal values as a number; anything else unchanged."""
    if isinstance(value, torch.Tensor) and value.numel() and bool((value == value.flatten()[0]).all()):
        return float(value.flatten()[0])
    return value


@dataclass(frozen=True, eq=False)
class LeakyReLU(Op):
    """``a = min(max(z, 0), c) − slope · min(max(−z, 0), d)``: a rectified line on either side of zero.

    Leaky and parametric ReLU; hardtanh and clamp to [−d, c] with slope 1; |z| with slope −1. ``slope`` is (), one value
    per channel of axis 1 (channels,), as a PReLU stores it, or broadcasts against *shape: (channels, 1, 1) for images.
    ``ceiling`` c and ``floor`` d > 0 are None where there is none. Every recipe of ReLUs converts it, as two of them
    (``passes.Rectify``).
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
        if name == "rrelu":
            if call["training"]:
                raise Refused("it draws random slopes: capture the model in eval mode")
            return cls(torch.tensor((call["lower"] + call["upper"]) / 2)), (x,)
        if name in ("prelu", "prelu_kernel"):
            return cls(_slope(call.constant("weight"), x, name)), (x,)
        return cls(torch.tensor(-1.0 if name == "abs" else float(call["negative_slope"]))), (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        z, slope = inputs[0], self.slopes(inputs[0].ndim - 1).to(inputs[0])
        return z.clamp(0, self.ceiling) - slope * (-z).clamp(0, self.floor)

    def slopes(self, rank: int) -> Tensor:
        """The slopes as they broadcast against the ``rank`` axes of a value without its batch."""
        return self.slope.reshape(-1, *(1,) * (rank - 1)) if self.slope.ndim == 1 and rank > 1 else self.slope

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
            return (
                "absolute value"
                if bool((self.slope == -1).all())
                else f"leaky ReLU, slope {one:.3g}" + ("" if self.slope.numel() == 1 else " …")
            )
        low, high = ("" if value is None else f"{value:g}" for value in (self.floor, self.ceiling))
        return f"clip {f'−{low}' if low else '−∞'}…{high or '∞'}"


def _slope(weight: Tensor | None, x: Wire, name: str) -> Tensor:
    """The slopes of a PReLU, one for all or for each element of axis 1; its own tensor, which has a name."""
    assert weight is not None
    if name == "prelu":
        return weight
    if weight.ndim == 1 < len(x.shape):
        return weight.reshape(*(1,) * (len(x.shape) - 1), -1)
    if weight.ndim > len(x.shape):
        if weight.shape[0] != 1:
            raise Refused("its slopes depend on the place in the batch")
        weight = weight[0]
    return weight


@dataclass(frozen=True, eq=False)
class Clip(Op):
    """``a = min(max(z, 0), c)``: ReLU6 and hardtanh or clamp to [0, c].

    It captures clips to other ranges that contain zero too, as a ``LeakyReLU``.
    """

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
        "clamp_max.default",
        "clamp_max_.default",
        "clip.default",
    )
    ceiling: float = 6.0

    @classmethod
    def capture(cls, call: Call) -> Captured:
        free = 0.0 if call.operator.startswith("relu6") else None
        low, high = _single(call.get("min", call.get("min_val", free))), _single(_ceiling(call))
        if isinstance(low, (torch.Tensor, Wire)) or isinstance(high, (torch.Tensor, Wire)):
            raise Refused(f"it clips to [{low}, {high}]; a neuron clips to numbers, as nn.Hardtanh(0, c) does")
        if high == 0 and (low is None or low < 0):  # −min(max(−x, 0), −low)
            negated = Scale(weight=torch.tensor(-1.0)), (call.wire("self"),)
            negative = ReLU() if low is None else cls(ceiling=-float(low))
            return Scale(weight=torch.tensor(-1.0)), ((negative, (negated,)),)
        if not (low is None or low <= 0) or not (high is None or high > 0):
            raise Refused(f"it clips to [{low}, {high}], which does not contain zero")
        if low != 0:
            floor = None if low is None else -float(low)
            return LeakyReLU(torch.tensor(1.0), None if high is None else float(high), floor), (call.wire("self"),)
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
