"""The quantised ANN of a network of sigma-delta neurons: the same graph, with rounded functions in their place."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph, Node
from transpike.core.op import Op, Role, Shape, Shapes
from transpike.snn import SNN
from transpike.workflow.hybrid import joined

POINTS = 257
"""Currents, from the smallest to the largest of the calibration, at which the range of a function is found."""


@dataclass(frozen=True, eq=False)
class QuantisedFunction(Op):
    """``f(x)`` rounded to a multiple of ``step`` from ``low`` to ``high`` steps: an activation with these levels."""

    role: ClassVar[Role] = "activation"
    source: Op
    step: Tensor
    low: Tensor
    high: Tensor

    def run(self, *inputs: Tensor) -> Tensor:
        value, step = self.source.run(*inputs), self.step.to(inputs[0])
        levels = torch.round(value / step)
        return torch.minimum(torch.maximum(levels, self.low.to(step)), self.high.to(step)) * step

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        return self.source.macs(inputs, output)

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return self.source.evaluations(inputs, output)

    def describe(self) -> str:
        return f"{self.source.describe()}, quantised"


def quantised_functions(snn: SNN, activation_bits: int | None) -> tuple[Graph, dict[str, int]]:
    """The spiking graph without time, and the bits of its activations: ``⌈log2(levels)⌉`` of the largest channel.

    The levels of a neuron are the multiples of its lowest threshold that its function reaches on the calibration
    data, but no more than its thresholds add up to. Products and analogue operators are themselves.
    """
    bits: dict[str, int] = {}

    def change(node: Node) -> Node | None:
        if not isinstance(node.op, Cell):
            return None
        if not isinstance(node.op, Neuron) or node.op.is_delay:
            inner: Op = node.op.op  # type: ignore[attr-defined]
            return dataclasses.replace(node, op=inner, origin=())
        scale, (low, high) = _charge(node.op), _range(snn, node, node.op)
        step, span = scale.double(), float(((high - low) / scale).max())
        width = math.ceil(math.log2(max(2.0, math.ceil(span - 1e-6) + 1)))
        bits[node.name] = width if activation_bits is None else activation_bits
        levels = 2.0 ** bits[node.name] - 1
        step = ((high - low) / levels).clamp(min=1e-30)
        first = torch.round(low / step)
        op = QuantisedFunction(node.op.source, step.float(), first.float(), (first + levels).float())
        return dataclasses.replace(node, op=op, origin=())

    return joined(snn, snn.graph.rewrite(change)).to(dtype=torch.float32), bits


def _charge(cell: Neuron) -> Tensor:
    """The charge of one level, a value for each channel."""
    scale = cell.output_scale()
    return torch.ones(()) if scale is None else scale


def _range(snn: SNN, node: Node, cell: Neuron) -> tuple[Tensor, Tensor]:
    """The smallest (at most 0) and the largest (at least 0) output, a value for each channel."""
    most = (2 ** cell.output_alphabet().levels.bit_length() - 1) * _charge(cell).double()  # the sum of all thresholds
    if node.name not in snn.ranges:
        return -most, most
    largest = snn.ranges[node.name].double()
    currents = torch.linspace(-1, 1, POINTS, dtype=torch.float64).reshape(-1, *(1,) * len(node.shape)) * largest
    values = cell.source.to(dtype=torch.float64).run(currents)
    low, high = values.amin(0).clamp(max=0), values.amax(0).clamp(min=0)
    return torch.maximum(low, -most), torch.minimum(high, most)
