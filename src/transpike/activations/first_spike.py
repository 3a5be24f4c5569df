"""The activation with values of first-spike times, as a module to train with and as a layer of the graph."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from transpike.activations.relu import Clip
from transpike.activations.source import SourceActivation
from transpike.codes.first_spike import first_levels
from transpike.codes.time_code import Kernel, Rounding, TimeCode
from transpike.core.call import Call
from transpike.core.op import Captured, Op, Role, Shape, Shapes, check_finite
from transpike.errors import SettingError


@torch.library.custom_op("transpike::first_spike", mutates_args=())
def first_spike(
    x: Tensor, threshold: Tensor, window: int, tau: float, base: float, delay: float, last: int, nearest: bool,
    linear: bool, bits: int,
) -> Tensor:  # fmt: skip
    """``φ(x)`` = the largest level ``θ κ(t)`` that x reaches, 0 if it reaches none; θ is ``threshold``.

    Gradient of the clip: ``∂φ/∂x = 1`` for 0 < x < θ, else 0 (straight through); none for θ.
    """
    code = _code(window, tau, base, delay, last, nearest, linear, bits)
    value = first_levels(x, threshold, code).mul_(threshold * code.spike_scale)
    return value.masked_fill_(x.isnan(), math.nan)  # as a ReLU does, so that training detects it


def _code(*values: Any) -> TimeCode:
    window, tau, base, delay, last, nearest, linear, bits = values
    rounding, kernel = "nearest" if nearest else "down", "linear" if linear else "exponential"
    last = None if last == window - 1 else last
    return TimeCode(window, tau, base, delay, last, cast(Rounding, rounding), cast(Kernel, kernel), bits or None)


def _settings(code: TimeCode) -> tuple[Any, ...]:
    """The code as arguments of the operator."""
    last = code.slots - 1
    nearest, linear = code.rounding == "nearest", code.kernel == "linear"
    return code.window, float(code.tau), float(code.base), float(code.delay), last, nearest, linear, code.bits or 0


@first_spike.register_fake
def _(
    x: Tensor, threshold: Tensor, window: int, tau: float, base: float, delay: float, last: int, nearest: bool,
    linear: bool, bits: int,
) -> Tensor:  # fmt: skip
    return torch.empty_like(x)


def _remember(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward((inputs[0] > 0) & (inputs[0] < inputs[1]))


def _gradient(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
    (inside,) = ctx.saved_tensors
    return (torch.where(inside, above, 0.0), *(None,) * 9)


first_spike.register_autograd(_gradient, setup_context=_remember)


class TimeToFirstSpike(SourceActivation):
    """``φ(x) = θ κ(t)`` with t the first slot in which ``x ≥ θ κ(t)``, 0 if there is none.

    ``κ(t) = 2^{−t/τ}``: x is rounded down to one of T slots, by a factor of at most ``2^{1/τ}``, clipped at θ =
    ``thresh``, and 0 below ``θ κ(T − 1)``. The values of the slots lie on a grid of ``bits``, rounded up
    (``TimeCode``): for (24, 4) at most 6 % above κ, in the last slots; ``bits=24`` is practically exact.
    CAT trains in three stages, ``Training(stages={"clip": …, "quantise": …})``: ReLU, ``clip(x, 0, θ)``, φ; for the
    hidden layers and, with ``prepare(input=…)``, for the input. θ is fixed: 1, or the result of
    ``prepare(calibration=…)`` for trained weights. Gradient: 1 for 0 < x < θ, else 0.
    ``window``, ``tau``, ``base``, ``last``, ``rounding``, ``kernel``, ``bits`` are those of ``TimeCode``. Use a shift
    by half a slot (``rounding="nearest"``) only for networks that are trained with it.
    Source: Lew, Lee, Park 2022 (CAT, DAC; arXiv 2208.04494). **Unverified**, because the paper's body was not
    available: φ's lower limit (``last``), the base 2, the gradient, and the epochs of the stages.
    """

    name = "ttfs"

    def __init__(
        self,
        window: int = 24,
        tau: float = 4.0,
        threshold: float = 1.0,
        base: float = 2.0,
        last: int | None = None,
        rounding: Rounding = "down",
        kernel: Kernel = "exponential",
        bits: int | None = None,
    ) -> None:
        super().__init__(threshold, trainable=False)
        self.code = TimeCode(window, tau, base, 0.0, last, rounding, kernel, bits)

    def quantised(self, x: Tensor) -> Tensor:
        x = x if x.dtype in (torch.float32, torch.float64) else x.float()  # 16 bits would change the slot thresholds
        return first_spike(x, self.thresh.to(x.dtype), *_settings(self.code))

    def extra_repr(self) -> str:
        return f"{self.code}, threshold={float(self.thresh):g}"


@dataclass(frozen=True, eq=False)
class FirstSpikeStaircase(Op):
    """``a = θ κ(t)`` of the first slot t of ``code`` with ``z ≥ θ κ(t)``, else 0: φ of CAT in a graph."""

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = ("transpike::first_spike.default",)
    threshold: Tensor
    code: TimeCode = TimeCode()

    def __post_init__(self) -> None:
        check_finite("first-spike staircase", threshold=self.threshold)
        if self.threshold.device.type != "meta" and not bool((self.threshold > 0).all()):
            raise SettingError("the threshold of a first-spike staircase must be positive")

    @classmethod
    def capture(cls, call: Call) -> Captured:
        names = ("window", "tau", "base", "delay", "last", "nearest", "linear", "bits")
        return cls(call["threshold"], _code(*(call[name] for name in names))), (call.wire("x"),)

    def without_quantisation(self) -> Op:
        largest = float(self.threshold.max()) if self.threshold.device.type != "meta" else math.inf
        return Clip(ceiling=largest)

    @property
    def ceiling(self) -> Tensor:
        return self.threshold

    def run(self, *inputs: Tensor) -> Tensor:
        return first_spike(inputs[0], self.threshold.to(inputs[0].dtype), *_settings(self.code))

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    def describe(self) -> str:
        return f"first spike, {self.code}"
