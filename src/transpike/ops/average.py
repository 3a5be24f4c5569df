"""Average pooling and spatial means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call, Refused
from transpike.core.op import Captured
from transpike.ops.wiring import Average

_POOLS: dict[int, Any] = {2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True, eq=False)
class AvgPool(Average):
    """Mean over windows (torch.nn.AvgPool1d/2d/3d); with ``divide=False`` the sum."""

    channel_axis: ClassVar[int] = 1
    aten: ClassVar[tuple[str, ...]] = (
        "avg_pool1d.default",
        "avg_pool2d.default",
        "avg_pool3d.default",
        "adaptive_avg_pool3d.default",
    )
    kernel: tuple[int, ...] = (2, 2)
    stride: tuple[int, ...] = (2, 2)
    padding: tuple[int, ...] = (0, 0)
    ceil: bool = False
    count_padding: bool = True
    divisor: int | None = None
    divide: bool = True

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self")
        if call.operator.startswith("adaptive"):
            sizes, outputs = x.shape[1:], call.shapes[0][1:]
            if any(size % output for size, output in zip(sizes, outputs, strict=True)):
                raise Refused(
                    "an adaptive average over windows of different sizes is supported in one and two dimensions only"
                )
            kernel = tuple(size // output for size, output in zip(sizes, outputs, strict=True))
            return cls(kernel=kernel, stride=kernel, padding=(0,) * len(kernel)), (x,)
        count = len(x.shape) - 1
        kernel = call.numbers("kernel_size", count)
        stride = call.numbers("stride", count) if call["stride"] else kernel
        op = cls(
            kernel=kernel,
            stride=stride,
            padding=call.numbers("padding", count),
            ceil=call["ceil_mode"],
            count_padding=call["count_include_pad"],
            divisor=call.get("divisor_override"),
        )
        return op, (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        x = inputs[0]
        settings = (self.kernel, self.stride, self.padding, self.ceil)
        if len(self.kernel) == 1:  # avg_pool1d has no divisor
            pooled = F.avg_pool2d(
                x.unsqueeze(-2),
                (1, *self.kernel),
                (1, *self.stride),
                (0, *self.padding),
                self.ceil,
                self.count_padding,
                self.divisor if self.divide else 1,
            )
            return pooled.squeeze(-2)
        if not self.divide:
            return _POOLS[len(self.kernel)](x, *settings, divisor_override=1)
        if self.divisor is not None:
            return _POOLS[len(self.kernel)](x, *settings, divisor_override=self.divisor)
        return _POOLS[len(self.kernel)](x, *settings, self.count_padding)

    def total(self) -> "AvgPool":
        return replace(self, divide=False)

    def describe(self) -> str:
        return f"{'avg' if self.divide else 'sum'}_pool {'×'.join(map(str, self.kernel))} /{self.stride[0]}"


@dataclass(frozen=True, eq=False)
class Mean(Average):
    """Mean over ``axes`` (the batch is axis 0 and stays); with ``divide=False`` the sum."""

    aten: ClassVar[tuple[str, ...]] = ("mean.dim", "sum.dim_IntList")
    axes: tuple[int, ...] = (2, 3)
    keep: bool = False
    divide: bool = True

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self")
        rank = len(x.shape) + 1
        axes = tuple(sorted(axis % rank for axis in call["dim"])) if call["dim"] else tuple(range(rank))
        divide = call.operator.startswith("mean")
        if axes[0] == 0:
            raise Refused(f"it {'averages' if divide else 'sums'} over the batch; name the other axes (dim=…)")
        return cls(axes=axes, keep=call["keepdim"], divide=divide), (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].mean(self.axes, self.keep) if self.divide else inputs[0].sum(self.axes, self.keep)

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        if self.keep:
            return axes[0]
        gone = sum(axis < axes[0] for axis in self.axes)
        return 1 if axes[0] in self.axes else axes[0] - gone  # averaged over all features: other axes start at 1

    def total(self) -> "Mean":
        return replace(self, divide=False)

    def describe(self) -> str:
        return f"{'mean' if self.divide else 'sum'} over {self.axes}"
