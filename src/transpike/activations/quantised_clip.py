"""The quantised clip of QCFS, as a layer of the graph and as a module to train with."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from transpike.core.call import Call
from transpike.core.op import Captured, Op, Role, check_finite
from transpike.errors import SettingError


@torch.library.custom_op("transpike::quantised_clip", mutates_args=())
def _quantised_clip(x: Tensor, threshold: Tensor, levels: int, shift: float) -> Tensor:
    return torch.floor(x / threshold * levels + shift).clamp(0, levels) * (threshold / levels)


@_quantised_clip.register_fake
def _(x: Tensor, threshold: Tensor, levels: int, shift: float) -> Tensor:
    return torch.empty_like(x)


def _remember(ctx: object, inputs: tuple, output: Tensor) -> None:
    x, threshold, *_ = inputs
    ctx.save_for_backward(x, threshold, output)  # type: ignore[attr-defined]


def _gradient(ctx: object, above: Tensor) -> tuple[Tensor, Tensor, None, None]:
    """Straight through the floor: ∂a/∂z = 1 for 0 ≤ z ≤ λ; ∂a/∂λ = (a − z·[0 ≤ z ≤ λ]) / λ."""
    x, threshold, output = ctx.saved_tensors  # type: ignore[attr-defined]
    inside = ((x >= 0) & (x <= threshold)).to(x)
    slope = above * (output - x * inside) / threshold
    axes = [axis for axis in range(x.ndim) if threshold.ndim < x.ndim - axis or threshold.shape[axis - x.ndim] == 1]
    return above * inside, slope.sum(axes, keepdim=True).reshape(threshold.shape), None, None


_quantised_clip.register_autograd(_gradient, setup_context=_remember)


@dataclass(frozen=True, eq=False)
class QuantisedClipOp(Op):
    """``a = λ/L · clip(⌊z L/λ + φ⌋, 0, L)``: what ``QuantisedClip`` becomes in a graph."""

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = ("transpike::quantised_clip.default",)
    threshold: Tensor
    levels: int = 4
    shift: float = 0.5

    def __post_init__(self) -> None:
        check_finite("quantised clip", threshold=self.threshold)
        if self.threshold.device.type != "meta" and not bool((self.threshold > 0).all()):
            raise SettingError("the threshold of a quantised clip must be positive")

    @classmethod
    def capture(cls, call: Call) -> Captured:
        return cls(call["threshold"], call["levels"], call["shift"]), (call.wire("x"),)

    @property
    def ceiling(self) -> Tensor:
        return self.threshold

    def run(self, *inputs: Tensor) -> Tensor:
        return _quantised_clip(inputs[0], self.threshold.to(inputs[0].dtype), self.levels, self.shift)

    def describe(self) -> str:
        return f"quantised clip, {self.levels} levels"


class QuantisedClip(nn.Module):
    """``a = λ/L · clip(⌊z L/λ + ½⌋, 0, L)`` with a trainable λ, the parameter ``thresh``; the floor passes gradients.

    z (batch, *shape). It stands in the place of a ReLU, and a network trained with it is converted by
    ``recipes.QCFS``. Gradients: 1 for z in [0, λ], else 0; for λ, what autograd gives the straight-through form (the
    published equation 17 is wrong, as its authors say). Source: Bu et al. 2022 (QCFS, ICLR), equation 15; ``thresh``
    starts at 8 as there.
    """

    def __init__(self, levels: int = 4, threshold: float = 8.0) -> None:
        super().__init__()
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1 or not threshold > 0:
            raise SettingError(
                f"levels must be a whole number of at least 1 and the threshold positive, not {levels} and {threshold}"
            )
        self.levels = levels
        self.thresh = nn.Parameter(torch.tensor([float(threshold)]))

    def forward(self, x: Tensor) -> Tensor:
        return _quantised_clip(x, self.thresh, self.levels, 0.5)
