"""Operators with weights or windows: convolutions, products of matrices, pooling, normalisation, resizing."""

import math
import operator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.models.onnx_file.values import (
    Call,
    Constant,
    Node,
    Steps,
    Unknown,
    Value,
    WithConstant,
    positive,
    tensor_of,
)

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAXIMUM: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORMS: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
BATCH_NORM_EPS, NORM_EPS = 1e-5, 1e-5  # the defaults of ONNX


def convolution(steps: Steps, node: Node) -> Value:
    """Conv, of one to three axes."""
    x = steps.batch_first(node.value(0))
    weight, bias = tensor_of(node.required(1)), node.constant(2)
    if not weight.is_floating_point():
        raise Unknown("its weights are integers; export the network before it is quantised")
    kernel = tuple(weight.shape[2:])
    stride, dilation, groups = (
        _sizes(node, "strides", kernel),
        _sizes(node, "dilations", kernel),
        node.number("group", 1),
    )
    x, padding = _padded(steps, node, x, kernel, stride, dilation, 0.0)
    layer = CONVOLUTIONS[len(kernel)](
        weight.shape[1] * groups, len(weight), kernel, stride, padding, dilation, groups, bias is not None
    )
    return steps.run(_filled(layer, weight, bias), [x], 0)


def transposed_convolution(steps: Steps, node: Node) -> Value:
    """ConvTranspose."""
    x = steps.batch_first(node.value(0))
    weight, bias = tensor_of(node.required(1)), node.constant(2)
    kernel = tuple(weight.shape[2:])
    stride, dilation, groups = (
        _sizes(node, "strides", kernel),
        _sizes(node, "dilations", kernel),
        node.number("group", 1),
    )
    more = list(node.number("output_padding", [0] * len(kernel)))
    first, last = _cut(node, x.shape[2:], kernel, stride, dilation, more)
    output = [m + a - b for m, a, b in zip(more, first, last, strict=True)]
    crops = any(p < 0 or p >= max(s, d) for p, s, d in zip(output, stride, dilation, strict=True))
    padding, output = ([0] * len(kernel), more) if crops else (first, output)  # torch cuts the same from both ends
    layer = TRANSPOSED[len(kernel)](
        len(weight), weight.shape[1] * groups, kernel, stride, tuple(padding), tuple(output), groups, bias is not None,
        dilation,
    )  # fmt: skip
    found = steps.run(_filled(layer, weight, bias), [x], 0)
    for axis, (front, end) in enumerate(zip(first, last, strict=True), 2) if crops else ():
        if front or end:
            found = steps.run(Call(_narrowed, axis, front, found.shape[axis] - front - end), [found], 0)
    return found


def _narrowed(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    return x.narrow(axis, start, length)


def _cut(
    node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...],
    more: list[int],
) -> tuple[list[int], list[int]]:  # fmt: skip
    """What a transposed convolution cuts from the front and the end of each axis."""
    auto, wanted = node.number("auto_pad", b"NOTSET").decode(), node.attributes.get("output_shape")
    if wanted is None and auto in ("NOTSET", "VALID"):
        pads = list(node.number("pads", [0] * 2 * len(kernel))) if auto == "NOTSET" else [0] * 2 * len(kernel)
        return pads[: len(kernel)], pads[len(kernel) :]
    wanted = (
        [size * s for size, s in zip(sizes, stride, strict=True)] if wanted is None else list(wanted)[-len(kernel) :]
    )
    first, last = [], []
    for size, k, s, d, m, w in zip(sizes, kernel, stride, dilation, more, wanted, strict=True):
        total = s * (size - 1) + m + (k - 1) * d + 1 - w
        if total < 0:
            raise Unknown(f"its output of {w} positions is longer than what its window reaches")
        small, large = total // 2, total - total // 2
        first.append(small if auto == "SAME_UPPER" else large)
        last.append(large if auto == "SAME_UPPER" else small)
    return first, last


def gemm(steps: Steps, node: Node) -> Value:
    """Gemm with a constant matrix."""
    if node.number("transA", 0):
        raise Unknown("its first factor is transposed")
    weight = node.required(1)
    weight = weight if node.number("transB", 0) else weight.T
    bias = node.constant(2)
    if bias is not None:
        bias = np.broadcast_to(bias * node.number("beta", 1.0), (1, len(weight)))[0]
    return _linear(steps, _rows(steps, node.value(0)), weight * node.number("alpha", 1.0), bias)


def matmul(steps: Steps, node: Node) -> Value:
    """MatMul: a linear layer, or a product of two wires."""
    left, right = node[0], node[1]
    if isinstance(left, Value) and isinstance(right, Value):
        count = max(len(left.shape), len(right.shape), 3)
        if min(len(left.shape), len(right.shape)) < 2:
            raise Unknown("a product with a vector of one axis that depends on the data")
        pair = [steps.with_axes(one, count) for one in (left, right)]
        axis = pair[0].axis
        if axis != pair[1].axis or (axis is not None and axis >= count - 2):
            pair, axis = [steps.whole(one) for one in pair], None
        return steps.run(Call(torch.matmul), pair, axis)
    if isinstance(left, Value):
        weight = node.required(1)
        if weight.ndim != 2:
            raise Unknown(f"its constant factor has {weight.ndim} axes")
        return _linear(steps, _rows(steps, left), weight.T, None)
    weight = node.required(0)
    if weight.ndim != 2 or not isinstance(right, Value) or len(right.shape) < 2:
        raise Unknown("its constant first factor is not a matrix, or the second is not one")
    flipped = _swapped(steps, right)
    return _swapped(steps, _linear(steps, flipped, weight, None))


def _rows(steps: Steps, x: Value) -> Value:
    """The same value, its last axis not left out."""
    return steps.whole(x) if x.axis == len(x.shape) - 1 else x


def einsum(steps: Steps, node: Node) -> Value:
    """Einsum of wires, sample by sample."""
    equation = node.attributes["equation"].decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    if "." in equation or not arrow:
        raise Unknown(f"its equation is {equation!r}: write all axes and the result")
    batch = next(letter for letter in "ZYXWVUTSRQ" if letter not in equation)
    values = [steps.whole(one) for one in node.inputs if isinstance(one, Value)]
    if len(values) < len(node.inputs):
        raise Unknown("a factor of it is constant")
    terms = ",".join(batch + term for term in left.split(","))
    return steps.run(Call(_einsum, equation=f"{terms}->{batch}{right}"), values, None)


def _einsum(*factors: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *factors)


def _swapped(steps: Steps, value: Value) -> Value:
    last = len(value.shape)
    if value.axis is not None and value.axis >= last - 2:
        value = steps.whole(value)
    end = value.tensor.ndim
    return steps.run(Call(torch.transpose, end - 2, end - 1), [value], value.axis)


def _linear(steps: Steps, x: Value, weight: Constant, bias: Constant | None) -> Value:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return steps.run(_filled(layer, tensor_of(weight), bias), [x], x.axis)


def _filled(layer: nn.Module, weight: Tensor, bias: Constant | None) -> nn.Module:
    layer.weight = nn.Parameter(weight.float().contiguous(), requires_grad=True)
    if bias is not None:
        layer.bias = nn.Parameter(tensor_of(bias).float())
    return layer


def batch_norm(steps: Steps, node: Node) -> Value:
    """BatchNormalization in evaluation mode."""
    if node.number("training_mode", 0):
        raise Unknown("it is in training mode; export the network in evaluation mode")
    x = steps.batch_first(node.value(0))
    scale, shift, mean, variance = (tensor_of(node.required(k)).float() for k in range(1, 5))
    layer = BATCH_NORMS[x.tensor.ndim - 2](len(scale), node.number("epsilon", BATCH_NORM_EPS))
    layer.load_state_dict({"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}, strict=False)
    return steps.run(layer, [x], 0)


def instance_norm(steps: Steps, node: Node) -> Value:
    """InstanceNormalization."""
    x = steps.batch_first(node.value(0))
    return _group_norm(steps, node, x, x.shape[1], tensor_of(node.required(1)), tensor_of(node.required(2)))


def group_norm(steps: Steps, node: Node) -> Value:
    """GroupNormalization."""
    x, groups = steps.batch_first(node.value(0)), int(node.attributes["num_groups"])
    scale, shift = tensor_of(node.required(1)), tensor_of(node.required(2))
    return _group_norm(steps, node, x, groups, scale, shift)


def _group_norm(steps: Steps, node: Node, x: Value, groups: int, scale: Tensor, shift: Tensor) -> Value:
    layer = nn.GroupNorm(groups, x.shape[1], node.number("epsilon", NORM_EPS))
    layer.load_state_dict({"weight": scale.float(), "bias": shift.float()})
    return steps.run(layer, [x], 0)


def layer_norm(steps: Steps, node: Node) -> Value:
    """LayerNormalization."""
    x = node.value(0)
    axis = positive(node.number("axis", -1), len(x.shape))
    if x.axis is not None and x.axis >= axis:
        x = steps.whole(x)
    shape = x.shape[axis:]
    layer = nn.LayerNorm(shape, node.number("epsilon", NORM_EPS))
    scale = np.broadcast_to(node.required(1), shape)
    shift = node.constant(2)
    layer.weight = nn.Parameter(tensor_of(scale).float())
    layer.bias = nn.Parameter(torch.zeros(shape) if shift is None else tensor_of(np.broadcast_to(shift, shape)).float())
    return steps.run(layer, [x], x.axis)


def maximum_pool(steps: Steps, node: Node) -> Value:
    """MaxPool."""
    if len([name for name in node.outputs if name]) > 1:
        raise Unknown("the positions of the maxima, its second output, are used")
    x, kernel = steps.batch_first(node.value(0)), tuple(node.attributes["kernel_shape"])
    stride, dilation = _sizes(node, "strides", kernel), _sizes(node, "dilations", kernel)
    ceil = bool(node.number("ceil_mode", 0))
    x, padding = _padded(steps, node, x, kernel, stride, dilation, -math.inf, half=True)
    return steps.run(MAXIMUM[len(kernel)](kernel, stride, padding, dilation, ceil_mode=ceil), [x], 0)


def average_pool(steps: Steps, node: Node) -> Value:
    """AveragePool."""
    x, kernel = steps.batch_first(node.value(0)), tuple(node.attributes["kernel_shape"])
    stride, counts = _sizes(node, "strides", kernel), bool(node.number("count_include_pad", 0))
    if any(d != 1 for d in _sizes(node, "dilations", kernel)):
        raise Unknown("its windows are dilated")
    before = x
    x, padding = _padded(steps, node, x, kernel, stride, (1,) * len(kernel), 0.0, half=True)
    ceil, uncounted = bool(node.number("ceil_mode", 0)), x is not before and not counts
    if uncounted and ceil:
        raise Unknown("its pads differ between front and end, padding is not counted, and ceil_mode is set")
    pool = AVERAGE[len(kernel)](kernel, stride, padding, ceil, counts or uncounted)
    found = steps.run(pool, [x], 0)
    if not uncounted:
        return found
    ones = steps.layers[-2][1](torch.ones_like(before.tensor[:1, :1]))  # the same padding
    return steps.run(WithConstant(operator.mul, 1 / pool(ones), False), [found], 0)


def global_pool(steps: Steps, node: Node) -> Value:
    """GlobalAveragePool and GlobalMaxPool."""
    x = steps.batch_first(node.value(0))
    axes = tuple(range(2, x.tensor.ndim))
    if node.kind == "GlobalAveragePool":
        return steps.run(Call(torch.mean, dim=axes, keepdim=True), [x], 0)
    return steps.run(Call(torch.amax, dim=axes, keepdim=True), [x], 0)


def resize(steps: Steps, node: Node) -> Value:
    """Resize and Upsample, where torch has the same rule."""
    x, old = node.value(0), node.kind == "Upsample" or node.version < 11
    scales = node.constant(1 if old else 2)
    sizes = None if old else node.constant(3)
    x = steps.batch_first(x)
    if "axes" in node.attributes:
        raise Unknown("it gives axes; write all scales")
    if sizes is not None and sizes.size:
        wanted = [int(v) for v in sizes]
    elif scales is not None and scales.size:
        wanted = [math.floor(size * float(scale)) for size, scale in zip(x.shape, scales, strict=True)]
    else:
        raise Unknown("it gives neither scales nor sizes")
    if wanted[:2] != list(x.shape[:2]):
        raise Unknown("it resizes the batch or the channels")
    mode = node.number("mode", b"nearest").decode()
    place = node.number("coordinate_transformation_mode", b"asymmetric" if old else b"half_pixel").decode()
    size, before = tuple(wanted[2:]), x.shape[2:]
    whole = all(new % one == 0 for new, one in zip(size, before, strict=True))
    if mode == "nearest":
        rounding = node.number("nearest_mode", b"floor" if old else b"round_prefer_floor").decode()
        floor = place == "asymmetric" and (
            rounding == "floor"
            or (
                whole
                and rounding == "round_prefer_floor"
                and all(new == one or new == 2 * one for new, one in zip(size, before, strict=True))
            )
        )
        if floor or (whole and place in ("half_pixel", "pytorch_half_pixel")):
            return steps.run(Call(F.interpolate, size=size, mode="nearest"), [x], 0)
        raise Unknown(f"nearest neighbours by {place} with {rounding} have no counterpart in torch")
    kinds = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear", ("cubic", 2): "bicubic"}
    kind = kinds.get((mode, len(size)))
    if kind is None or place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise Unknown(f"mode {mode} by {place} over {len(size)} axes has no counterpart in torch")
    if place == "pytorch_half_pixel" and 1 in size and place != "half_pixel":
        raise Unknown("it resizes to a single pixel by pytorch_half_pixel")
    if mode == "cubic" and abs(node.number("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
        raise Unknown(f"its cubic coefficient is {node.attributes['cubic_coeff_a']}, torch's −0.75")
    settings: dict[str, Any] = {"size": size, "mode": kind, "align_corners": place == "align_corners"}
    return steps.run(Call(F.interpolate, **settings), [x], 0)


def _sizes(node: Node, attribute: str, kernel: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(node.number(attribute, [1] * len(kernel)))


def _padded(
    steps: Steps, node: Node, x: Value, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...],
    value: float, *, half: bool = False,
) -> tuple[Value, tuple[int, ...]]:  # fmt: skip
    """The input, padded where front and end differ, and the padding that is left for the layer.

    ``half``: the layer takes at most half of its window as padding, as pooling in torch does.
    """
    if len(kernel) not in CONVOLUTIONS or len(x.shape) != len(kernel) + 2:
        raise Unknown(f"a window of {len(kernel)} axes over an input of shape {list(x.shape)}")
    auto = node.number("auto_pad", b"NOTSET").decode()
    pads = list(node.number("pads", [0] * 2 * len(kernel)))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * 2 * len(kernel)
        for k, size in enumerate(x.shape[2:]):
            reach = (math.ceil(size / stride[k]) - 1) * stride[k] + (kernel[k] - 1) * dilation[k] + 1
            small = max(reach - size, 0) // 2
            large = max(reach - size, 0) - small
            pads[k], pads[k + len(kernel)] = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        pads = [0] * 2 * len(kernel)
    front, end = pads[: len(kernel)], pads[len(kernel) :]
    if front == end and not (half and any(2 * p > k for p, k in zip(front, kernel, strict=True))):
        return x, tuple(front)
    flat = [side for pair in reversed(list(zip(front, end, strict=True))) for side in pair]
    return steps.run(Call(F.pad, flat, value=value), [x], 0), (0,) * len(kernel)


OPERATORS = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "Einsum": einsum,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "MaxPool": maximum_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "Resize": resize,
    "Upsample": resize,
}
