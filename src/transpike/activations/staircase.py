"""The common staircase of source activations, as an operator with gradients and as a layer of the graph."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call
from transpike.core.op import Captured, Op, Role, Shape, Shapes, check_finite
from transpike.errors import SettingError

FLOOR = 2.0**-10  # of a level: large against the rounding of float32, and seen by one value in 1024


def tie(levels: int) -> float:
    """The shift of the floor's steps to the left, in levels: ``max(2⁻¹⁰, L 2⁻²²)``, at most ½.

    Values after average pooling or from a quantised input lie exactly on the steps of the staircase, where rounding
    would decide. With this shift the network's output and the count of a neuron with this v(0)/θ agree. Long
    windows sum many rounded currents: the exact grid then rounds those on a step upwards (``lowering/ties.py``).
    """
    return min(0.5, max(FLOOR, levels * 2.0**-22))


@torch.library.custom_op("transpike::staircase", mutates_args=())
def staircase(
    x: Tensor, threshold: Tensor, levels: int, shift: float, slope: float = 0.0, offset: float = 0.0,
    bound: float = 0.0,
) -> Tensor:  # fmt: skip
    """``a = (1−s) λ/L clip(⌊x L/λ + φ⌋, 0, L) + s λ clip(x/λ + δ, 0, 1)`` with s = ``slope`` and δ = ``offset``.

    Gradients pass straight through the floor: ∂a/∂x is 1 for 0 ≤ x ≤ λ (in the second term, 0 ≤ x + δ λ ≤ λ), ∂a/∂λ is
    autograd's gradient of that form. The incoming gradient is first clipped to ±``bound`` (CQ) if that is not 0.
    """
    # in place where possible: training time is dominated by memory access
    if slope == 1:
        return torch.minimum((x + offset * threshold).clamp_(min=0), threshold)
    quantised = (x / threshold).mul_(levels).add_(shift).floor_().clamp_(0, levels).mul_(threshold / levels)
    if slope == 0:
        return quantised
    return quantised.mul_(1 - slope).add_(torch.minimum((x + offset * threshold).clamp_(min=0), threshold), alpha=slope)


@staircase.register_fake
def _(
    x: Tensor, threshold: Tensor, levels: int, shift: float, slope: float = 0.0, offset: float = 0.0,
    bound: float = 0.0,
) -> Tensor:  # fmt: skip
    return torch.empty_like(x)


def _remember(ctx: object, inputs: tuple, output: Tensor) -> None:
    x, threshold, _, _, ctx.slope, ctx.offset, ctx.bound = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(x, threshold, output)  # type: ignore[attr-defined]


def _gradient(ctx: object, above: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
    x, threshold, output = ctx.saved_tensors  # type: ignore[attr-defined]
    slope, offset, bound = ctx.slope, ctx.offset, ctx.bound  # type: ignore[attr-defined]
    if bound:
        above = above.clamp(-bound, bound)
    if slope in (0, 1):
        low = -offset * threshold if slope else torch.zeros_like(threshold)
        below = torch.where((x >= low) & (x <= low + threshold), above, 0.0)
    else:
        first = (1 - slope) * ((x >= 0) & (x <= threshold))
        below = above * (first + slope * ((x + offset * threshold >= 0) & (x + (offset - 1) * threshold <= 0)))
    if threshold.numel() == 1:
        slopes = ((above.flatten() @ output.flatten()) - (below.flatten() @ x.flatten().to(below))).reshape(
            threshold.shape
        )
    else:
        axes = [a for a in range(x.ndim) if threshold.ndim < x.ndim - a or threshold.shape[a - x.ndim] == 1]
        slopes = (above * output - below * x).sum(axes, keepdim=True).reshape(threshold.shape)
    return below, slopes / threshold, None, None, None, None, None


staircase.register_autograd(_gradient, setup_context=_remember)


@dataclass(frozen=True, eq=False)
class Staircase(Op):
    """``a = (1−s) λ/L clip(⌊z L/λ + φ⌋, 0, L) + s λ clip(z/λ + δ, 0, 1)``: the graph's form of source activations.

    ``threshold`` λ is the ceiling, ``levels`` L, ``shift`` φ the part of a level that is rounded up, equal to the
    neuron's v(0)/θ; ``slope`` s is 0 for a quantised clip, 1 for a plain one, between for SlipReLU, ``offset`` its δ.
    """

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = ("transpike::staircase.default",)
    threshold: Tensor
    levels: int = 4
    shift: float = 0.5
    slope: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_finite("staircase", threshold=self.threshold)
        if self.threshold.device.type != "meta" and not bool((self.threshold > 0).all()):
            raise SettingError("the threshold of a staircase must be positive")

    @classmethod
    def capture(cls, call: Call) -> Captured:
        settings = (call["levels"], call["shift"], call["slope"], call["offset"])
        return cls(call["threshold"], *settings), (call.wire("x"),)

    def without_quantisation(self) -> Op:
        return self if self.slope == 1 else replace(self, slope=1.0, offset=0.0)

    @property
    def ceiling(self) -> Tensor:
        return self.threshold

    def run(self, *inputs: Tensor) -> Tensor:
        threshold = self.threshold.to(inputs[0].dtype)
        return staircase(inputs[0], threshold, self.levels, self.shift, self.slope, self.offset)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    @property
    def rectifies(self) -> bool:
        """False for a shifted clip, whose zero differs from that of a ReLU."""
        return self.slope == 0 or self.offset == 0

    def describe(self) -> str:
        if self.slope == 1:
            return "learned clip"
        return f"quantised clip, {self.levels} levels" + (f", slope {self.slope:g}" if self.slope else "")
