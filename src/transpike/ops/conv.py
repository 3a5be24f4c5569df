"""Convolution and transposed convolution in one, two and three dimensions."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call
from transpike.core.op import Captured, Shape, Shapes, Synapse, spatially_uniform
from transpike.ops.shape import Pad

_PLAIN = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def _padding(call: Call, weight: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Torch's padding as numbers, and the zeros to add at the end of each axis.

    "same" is d·(k−1) zeros on each axis, half of them before it; an odd number has one more at the end.
    """
    count = weight.ndim - 2
    if not isinstance(call["padding"], str):
        return call.numbers("padding", count), (0,) * count
    if call["padding"] == "valid":
        return (0,) * count, (0,) * count
    total = [d * (k - 1) for d, k in zip(call.numbers("dilation", count), weight.shape[2:], strict=True)]
    return tuple(amount // 2 for amount in total), tuple(amount % 2 for amount in total)


@dataclass(frozen=True, eq=False)
class Conv(Synapse):
    """``y[o] = Σ_i W[o, i] ∗ x[i] + b[o]``; x is (batch, channels, *space).

    W is (out, in/groups, *kernel), or (in, out/groups, *kernel) if ``transposed``. ``padding`` is symmetric, one number
    per dimension; uneven padding ("same" with even kernels) needs a separate Pad before it.
    """

    aten: ClassVar[tuple[str, ...]] = (
        "conv1d.default",
        "conv2d.default",
        "conv3d.default",
        "conv1d.padding",
        "conv2d.padding",
        "conv3d.padding",
        "conv_transpose1d.default",
        "conv_transpose2d.input",
        "conv_transpose3d.input",
    )
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = (0, 0)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x, weight, bias = call.wire("input"), call.constant("weight"), call.constant("bias")
        assert weight is not None
        count, transposed = weight.ndim - 2, "transpose" in call.operator
        settings = {name: call.numbers(name, count) for name in ("stride", "dilation")}
        padding, more = _padding(call, weight)
        output_padding = call.numbers("output_padding", count) if transposed else (0,) * count
        op = cls(
            weight=weight,
            bias=bias,
            padding=padding,
            groups=call["groups"],
            transposed=transposed,
            output_padding=output_padding,
            **settings,
        )
        amounts = tuple(amount for end in reversed(more) for amount in (0, end))
        return op, ((Pad(amounts=amounts), (x,)) if any(more) else x,)

    @property
    def dimensions(self) -> int:
        return self.weight.ndim - 2

    def _apply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.transposed:
            return _TRANSPOSED[self.dimensions - 1](
                x, self.weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return _PLAIN[self.dimensions - 1](x, self.weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def run(self, *inputs: Tensor) -> Tensor:
        return self._apply(inputs[0], self.bias)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._apply(inputs[0], None)

    def absorb(self, spike_scale: Tensor) -> "Conv | None":
        channels = spatially_uniform(spike_scale)
        return None if channels is None else replace(self, weight=self.weight * self.per_input(channels))

    def per_input(self, value: Tensor) -> Tensor:
        tail = (1,) * self.dimensions
        if self.transposed:
            return value.reshape(-1, 1, *tail)
        grouped = value.reshape(self.groups, -1).repeat_interleave(self.weight.shape[0] // self.groups, 0)
        return grouped.reshape(self.weight.shape[0], -1, *tail)

    def per_output(self, value: Tensor) -> Tensor:
        tail = (1,) * self.dimensions
        if not self.transposed:
            return value.reshape(-1, 1, *tail)
        inputs = self.weight.shape[0] // self.groups
        return value.reshape(self.groups, 1, -1).expand(-1, inputs, -1).reshape(self.weight.shape[0], -1, *tail)

    def scale_outputs(self, factor: Tensor) -> "Conv":
        bias = None if self.bias is None else self.bias * factor
        return replace(self, weight=self.weight * self.per_output(factor), bias=bias)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        if self.transposed:  # every output channel sums weight[:, o] over positions that depend on the stride
            return prod(output) * self.weight[0, 0].numel() * self.weight.shape[0] // self.groups // prod(self.stride)
        return prod(output) * self.weight[0].numel()

    def describe(self) -> str:
        kernel = "×".join(map(str, self.weight.shape[2:]))
        text = f"conv{'_transpose' if self.transposed else ''}{self.dimensions}d {kernel}"
        text += f" /{self.stride[0]}" if max(self.stride) > 1 else ""
        text += f" dilation {self.dilation[0]}" if max(self.dilation) > 1 else ""
        return text + (f" groups {self.groups}" if self.groups > 1 else "")
