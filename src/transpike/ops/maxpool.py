"""Maximum pooling of the source network."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.op import Captured, Op, Part, Shape, Shapes
from transpike.ops.shape import Reshape, with_axes, with_shape

_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_ADAPTIVE = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """Maximum over windows (torch.nn.MaxPool1d/2d/3d); padding is never the maximum."""

    channel_axis: ClassVar[int] = 1
    aten: ClassVar[tuple[str, ...]] = (
        "max_pool1d.default",
        "max_pool2d.default",
        "max_pool3d.default",
        "amax.default",
        "max.dim",
    )
    kernel: tuple[int, ...] = (2, 2)
    stride: tuple[int, ...] = (2, 2)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    ceil: bool = False

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self")
        if "kernel_size" not in call.arguments:
            return _over_axes(call, x)
        count = len(x.shape) - 1
        kernel = call.numbers("kernel_size", count)
        stride = call.numbers("stride", count) if call["stride"] else kernel
        op = cls(
            kernel=kernel,
            stride=stride,
            padding=call.numbers("padding", count),
            dilation=call.numbers("dilation", count),
            ceil=call["ceil_mode"],
        )
        return op, (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        pool = _POOLS[len(self.kernel) - 1]
        return pool(inputs[0], self.kernel, self.stride, self.padding, self.dilation, self.ceil)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    def apart(self, *shapes: Shape) -> int:
        return 2

    def describe(self) -> str:
        return f"max_pool {'×'.join(map(str, self.kernel))} /{self.stride[0]}"


@dataclass(frozen=True, eq=False)
class AdaptiveMaxPool(Op):
    """Maximum over windows that cover the input evenly (torch.nn.AdaptiveMaxPool1d/2d/3d)."""

    channel_axis: ClassVar[int] = 1
    aten: ClassVar[tuple[str, ...]] = (
        "adaptive_max_pool1d.default",
        "adaptive_max_pool2d.default",
        "adaptive_max_pool3d.default",
    )
    size: tuple[int, ...] = (1, 1)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        return [(cls(size=call.shapes[0][1:]), (call.wire("self"),))]

    def run(self, *inputs: Tensor) -> Tensor:
        return _ADAPTIVE[len(self.size) - 1](inputs[0], self.size)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # it compares

    def describe(self) -> str:
        return f"adaptive_max_pool {'×'.join(map(str, self.size))}"


def _over_axes(call: Call, x: Wire) -> Captured:
    """``amax`` over some axes: they become the last one, and a window covers it. ``max`` gives no indices."""
    rank, dims = len(x.shape) + 1, call["dim"]
    axes = sorted(axis % rank for axis in ([dims] if isinstance(dims, int) else dims or range(rank)))
    if 0 in axes:
        raise Refused("it takes the maximum over the batch; name the other axes (dim=…)")
    kept = [axis for axis in range(1, rank) if axis not in axes]
    size = prod(x.shape[axis - 1] for axis in axes)
    rows = prod(x.shape[axis - 1] for axis in kept)
    pool = MaxPool(kernel=(size,), stride=(size,), padding=(0,), dilation=(1,))
    whole = (pool, (with_shape(with_axes(x, (0, *kept, *axes)), (rows, size)),))
    found: tuple[Op, tuple[Part, ...]] = (Reshape(shape=call.shapes[0]), (whole,))
    return [found] if call.operator == "max.dim" else found
