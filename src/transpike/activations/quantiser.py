"""Uniform quantisers of either sign, which quantisation-aware training puts on the wires of a network."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused
from transpike.core.op import Captured, Op, Role, Shape, Shapes, check_finite
from transpike.errors import SettingError

_KERNELS = torch.library.Library("aten", "IMPL", "Meta")
"""Shapes of torch's fake quantisation, which some versions lack: without them torch.export needs a fixed batch."""


def _shapes(x: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    """The quantised values and the mask of those that are not clipped."""
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


for _name in (
    "fake_quantize_per_tensor_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_channel_affine_cachemask",
):
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{_name}", "Meta"):
        _KERNELS.impl(_name, _shapes)


@dataclass(frozen=True, eq=False)
class Quantiser(Op):
    """``y = s clip(round(x / s), lowest, highest)``: whole multiples of a scale s, those of torch's fake quantisation.

    ``scale`` has one value (), or one per channel in a form that broadcasts to (batch, *shape). Halves are rounded to
    even numbers; ``rounds=False`` only clips. Raises SettingError for scales that are not positive and for ranges
    without a positive level.
    """

    role: ClassVar[Role] = "activation"
    aten: ClassVar[tuple[str, ...]] = (
        "fake_quantize_per_tensor_affine.default",
        "fake_quantize_per_tensor_affine.tensor_qparams",
        "fake_quantize_per_channel_affine.default",
    )
    scale: Tensor
    lowest: int = -128
    highest: int = 127
    rounds: bool = True

    def __post_init__(self) -> None:
        check_finite("quantiser", scale=self.scale)
        if self.scale.device.type != "meta" and not bool((self.scale > 0).all()):
            raise SettingError("the scale of a quantiser must be positive")
        if not self.lowest <= 0 < self.highest:
            raise SettingError(
                f"a quantiser has levels from at most 0 to at least 1, not {self.lowest} … {self.highest}"
            )

    @classmethod
    def capture(cls, call: Call) -> Captured:
        wire, scale, zero = call.wire("self"), call["scale"], call["zero_point"]
        zeros = torch.as_tensor(zero).unique()
        if len(zeros) != 1 or float(zeros) % 1:
            raise Refused("its channels have different zero points; use one zero point for all channels")
        scale, zero = torch.as_tensor(scale, dtype=torch.float32), int(zeros)
        if scale.ndim and "axis" in call.arguments:
            axis = call.axis("axis", len(wire.shape) + 1)
            scale = scale.reshape(-1, *(1,) * (len(wire.shape) - axis))
        lowest, highest = call["quant_min"] - zero, call["quant_max"] - zero
        if not lowest <= 0 < highest:
            raise Refused(f"its levels from {lowest} to {highest} do not have 0 and a positive one among them")
        return cls(scale.reshape(()) if scale.numel() == 1 else scale, lowest, highest), (wire,)

    def run(self, *inputs: Tensor) -> Tensor:
        scale = self.scale.to(inputs[0].dtype)
        levels = inputs[0] * (1 / scale)
        return (levels.round() if self.rounds else levels).clamp(self.lowest, self.highest) * scale

    def without_quantisation(self) -> Op:
        """The clip to the same range."""
        return replace(self, rounds=False)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # the scales belong to the weights around it

    @property
    def ceiling(self) -> Tensor:
        return self.highest * self.scale

    @property
    def is_function(self) -> bool:
        return True

    @property
    def rectifies(self) -> bool:
        return self.lowest == 0

    def describe(self) -> str:
        return f"quantiser, {self.lowest} … {self.highest}"
