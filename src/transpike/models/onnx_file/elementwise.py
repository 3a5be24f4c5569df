"""Operators on each element: activations, arithmetic, softmax, casts."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.models.onnx_file.values import (
    Call,
    Node,
    Steps,
    Unknown,
    Value,
    WithConstant,
    positive,
    reversed_operands,
    tensor_of,
)

PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": operator.truediv, "Pow": operator.pow,
}  # fmt: skip
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Neg": torch.neg, "Abs": torch.abs, "Erf": torch.erf,
    "Reciprocal": torch.reciprocal, "Softsign": F.softsign, "Sin": torch.sin, "Cos": torch.cos,
}  # fmt: skip
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # of ONNX and of torch


def activation(steps: Steps, node: Node) -> Value:
    """Functions of one number."""
    x = node.value(0)
    return steps.run(_activation(node), [x], x.axis)


def _activation(node: Node) -> nn.Module:
    number = node.number
    match node.kind:
        case "Relu":
            return nn.ReLU()
        case "LeakyRelu":
            return nn.LeakyReLU(number("alpha", 0.01))
        case "Sigmoid":
            return nn.Sigmoid()
        case "Tanh":
            return nn.Tanh()
        case "Elu":
            return nn.ELU(number("alpha", 1.0))
        case "Celu":
            return nn.CELU(number("alpha", 1.0))
        case "Softplus":
            return nn.Softplus()
        case "Mish":
            return nn.Mish()
        case "HardSwish":
            return nn.Hardswish()
        case "Gelu":
            return nn.GELU(number("approximate", b"none").decode())
        case "Selu":
            if max(abs(number("alpha", SELU_ALPHA) - SELU_ALPHA), abs(number("gamma", SELU_GAMMA) - SELU_GAMMA)) > 1e-5:
                raise Unknown("its alpha or gamma is not that of SELU")
            return nn.SELU()
        case "HardSigmoid":
            alpha, beta = number("alpha", 0.2), number("beta", 0.5)
            if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
                return nn.Hardsigmoid()
            return Call(_clipped_line, alpha, beta)
    return Call(UNARY[node.kind])


def _clipped_line(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def clip(steps: Steps, node: Node) -> Value:
    """Clip; with 0 and 6 it is ReLU6."""
    x, ends = node.value(0), []
    for index, name in ((1, "min"), (2, "max")):
        given = node.constant(index)
        ends.append(node.number(name, None) if given is None else float(given.ravel()[0]))
    low, high = ends
    if (low, high) == (0, 6):
        return steps.run(nn.ReLU6(), [x], x.axis)
    if low == 0 and (high is None or high > 1e30):
        return steps.run(nn.ReLU(), [x], x.axis)
    if low is None and high is None:
        return x
    return steps.run(Call(torch.clamp, min=low, max=high), [x], x.axis)


def prelu(steps: Steps, node: Node) -> Value:
    """PRelu."""
    x, slope = node.value(0), node.required(1)
    count = slope.size
    x = steps.batch_first(x)
    channels = x.shape[1] if len(x.shape) > 1 else 1
    if count not in (1, channels) or (count > 1 and slope.ndim > 1 and slope.shape[-len(x.shape) + 1 :][0] != count):
        raise Unknown(f"its slopes have the shape {list(slope.shape)}, neither one nor one for each channel")
    layer = nn.PReLU(count)
    layer.weight = nn.Parameter(tensor_of(slope.ravel()).float())
    return steps.run(layer, [x], 0)


def arithmetic(steps: Steps, node: Node) -> Value:
    """Add, Sub, Mul, Div, Pow, Sum, Mean, Min and Max of wires and constants."""
    given = list(node.inputs)
    if node.kind in ("Sum", "Mean", "Min", "Max"):
        function: Callable[[Any, Any], Any] = {"Min": torch.minimum, "Max": torch.maximum}.get(node.kind, operator.add)
        total = given[0]
        for one in given[1:]:
            total = _pair(steps, function, total, one)
        if node.kind == "Mean":
            total = _pair(steps, operator.truediv, total, np.asarray(len(given), np.float32))
        return total  # type: ignore[return-value]
    return _pair(steps, PAIRS[node.kind], given[0], given[1])


def _pair(steps: Steps, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Value:
    if isinstance(left, Value) and isinstance(right, Value):
        count = max(len(left.shape), len(right.shape))
        pair = [steps.with_axes(one, count) for one in (left, right)]
        if pair[0].axis != pair[1].axis:
            pair = [steps.whole(one) for one in pair]
        return steps.run(Call(function), pair, pair[0].axis)
    x, constant, first = (left, right, False) if isinstance(left, Value) else (right, left, True)
    if not isinstance(x, Value) or constant is None:
        raise Unknown("an input is missing")
    constant = np.asarray(constant)
    if constant.size == 1 and constant.ndim <= len(x.shape):
        return steps.run(_with_number(function, float(constant.ravel()[0]), first), [x], x.axis)
    x = steps.with_axes(x, constant.ndim)
    shape = (1,) * (len(x.shape) - constant.ndim) + constant.shape
    if x.axis is not None and shape[x.axis] != 1:
        x = steps.whole(x)
    rest = [size for k, size in enumerate(shape) if k != x.axis]
    return steps.run(WithConstant(function, tensor_of(constant).reshape(1, *rest), first), [x], x.axis)


def _with_number(function: Callable[[Any, Any], Any], number: float, first: bool) -> nn.Module:
    if function in (torch.minimum, torch.maximum):
        return Call(torch.clamp, **{"max" if function is torch.minimum else "min": number})
    return Call(reversed_operands, function, number) if first else Call(function, number)


def softmax(steps: Steps, node: Node) -> Value:
    """Softmax and LogSoftmax."""
    x, old = node.value(0), node.version < 13
    axis = positive(node.number("axis", 1 if old else -1), len(x.shape))
    last = max(k for k, size in enumerate(x.shape) if size > 1 or k == 0)
    if old and axis != last and math.prod(x.shape[axis + 1 :]) > 1:
        raise Unknown(
            f"a softmax over all axes from {axis} on (opset {node.version}); export it with opset 13 or later"
        )
    if axis == x.axis:
        x = steps.whole(x)
    layer = nn.Softmax(x.inner(axis)) if node.kind == "Softmax" else nn.LogSoftmax(x.inner(axis))
    return steps.run(layer, [x], x.axis)


def same(steps: Steps, node: Node) -> Value:
    """Identity, dropout of evaluation mode, casts between real numbers."""
    x = node.value(0)
    if node.kind == "Dropout" and len([name for name in node.outputs if name]) > 1:
        raise Unknown("the mask of dropout, its second output, is used")
    if node.kind == "Cast":
        real = int(node.attributes["to"]) in (1, 10, 11, 16)
        if not real and x.tensor.is_floating_point():
            raise Unknown("it turns activations into integers")
        if real and not x.tensor.is_floating_point():
            return steps.run(Call(_real), [x], x.axis)
    return x


def _real(x: Tensor) -> Tensor:
    return x.float()


OPERATORS = {
    **dict.fromkeys(
        (
            "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Celu", "Softplus", "Mish", "HardSwish", "Gelu", "Selu",
            "HardSigmoid", *UNARY,
        ),
        activation,
    ),
    "Clip": clip,
    "PRelu": prelu,
    **dict.fromkeys((*PAIRS, "Sum", "Mean", "Min", "Max"), arithmetic),
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Identity": same,
    "Dropout": same,
    "Cast": same,
}  # fmt: skip
