"""Fully connected layers."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.op import Captured, Part, Shape, Shapes, Synapse, spatially_uniform
from transpike.ops._contraction import Contraction, contraction, equation, product
from transpike.ops.conv import Conv
from transpike.ops.shape import Identity, with_axes, with_shape


@dataclass(frozen=True, eq=False)
class Linear(Synapse):
    """``y = x Wᵀ + b``; x is (batch, …, in), W is (out, in)."""

    aten: ClassVar[tuple[str, ...]] = (
        "linear.default",
        "addmm.default",
        "mm.default",
        "matmul.default",
        "einsum.default",
    )

    channel_axis: ClassVar[int] = -1

    @classmethod
    def capture(cls, call: Call) -> Captured:
        if call.operator != "linear.default":
            return _product(call)
        weight = call.constant("weight")
        assert weight is not None
        return cls(weight=weight, bias=call.constant("bias")), (call.wire("input"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight, self.bias)

    def linear(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight)

    def absorb(self, spike_scale: Tensor) -> "Linear | None":
        last = spatially_uniform(spike_scale, -1)
        return None if last is None else replace(self, weight=self.weight * last)

    def per_input(self, value: Tensor) -> Tensor:
        return value

    def per_output(self, value: Tensor) -> Tensor:
        return value.reshape(-1, 1)

    def scale_outputs(self, factor: Tensor) -> "Linear":
        bias = None if self.bias is None else self.bias * factor
        return replace(self, weight=self.weight * factor[:, None], bias=bias)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return prod(output) * self.weight.shape[1]

    def describe(self) -> str:
        return f"linear {self.weight.shape[1]}→{self.weight.shape[0]}"


def _product(call: Call) -> Captured:
    """A matrix product with a constant on either side, or an einsum of two operands, one of them a constant."""
    if call.operator == "addmm.default":
        weight, bias = call.constant("mat2"), call.constant("self")
        assert weight is not None and bias is not None
        if bias.shape not in (weight.shape[1:], (1, *weight.shape[1:])):
            raise Refused("its added term is not one value for each output")
        full = call["beta"] * bias.reshape(-1)
        return Linear(weight=(call["alpha"] * weight.T).contiguous(), bias=full), (call.wire("mat1"),)
    operands = call["tensors"] if "tensors" in call.arguments else [call["self"], call.get("other", call.get("mat2"))]
    wires = [value for value in operands if isinstance(value, Wire)]
    if len(wires) != 1 or len(operands) > 2:
        raise Refused("it multiplies " + ("two activations" if len(wires) > 1 else "three factors; write two products"))
    ranks = [len(value.shape) + isinstance(value, Wire) for value in operands]
    labels, answer = equation(call["equation"], ranks) if "equation" in call.arguments else product(*ranks)
    place = next(index for index, value in enumerate(operands) if isinstance(value, Wire))
    weight, other = (operands[1 - place], labels[1 - place]) if len(operands) == 2 else (torch.ones(()), "")
    return _contracted(wires[0], contraction(labels[place], wires[0].shape, other, weight, answer))


def _contracted(wire: Wire, plan: Contraction) -> Captured:
    """The product as a fully connected layer, or as one of groups, between wiring that moves axes."""
    groups, outputs, inputs = plan.matrix.shape
    part = with_axes(wire, plan.order)
    if plan.groups:
        part = _shaped(part, plan.entering, (groups * inputs, prod(plan.kept)))
        weight = plan.matrix.reshape(groups * outputs, inputs, 1).contiguous()
        settings = {"stride": (1,), "padding": (0,), "dilation": (1,), "output_padding": (0,)}
        part = (Conv(weight=weight, groups=groups, **settings), (part,))  # type: ignore[arg-type]
        part = with_shape(part, (*plan.groups, *plan.outer, *plan.kept))
    elif plan.matrix.numel() > 1 or float(plan.matrix) != 1:
        part = _shaped(part, plan.entering, (*plan.kept, inputs))
        part = (Linear(weight=plan.matrix[0].contiguous()), (part,))
        part = _shaped(part, (*plan.kept, outputs), (*plan.kept, *plan.outer))
    else:
        part = _shaped(part, plan.entering, (*plan.kept, *plan.outer))
    part = with_axes(part, plan.back)
    return (Identity(), (part,)) if isinstance(part, Wire) else part


def _shaped(part: Part, before: tuple[int, ...], after: tuple[int, ...]) -> Part:
    return part if before == after else with_shape(part, after)
