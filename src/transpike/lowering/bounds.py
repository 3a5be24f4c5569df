"""Bounds of the values on each wire: interval arithmetic over the lowered form."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.lowering.entrances import bound_of
from transpike.lowering.lowered import Lowered


@dataclass(frozen=True, eq=False)
class Span:
    """The values of one step on a wire: ``middle ± radius``, (1, *shape) each; an infinite radius means no bound."""

    middle: Tensor
    radius: Tensor

    @property
    def largest(self) -> Tensor:
        """The largest absolute value; it also bounds every partial sum."""
        return self.middle.abs() + self.radius

    def with_bias(self, bias: Tensor) -> Tensor:
        """The largest absolute value before or after a bias is added."""
        return torch.maximum((self.middle + bias).abs(), self.middle.abs()) + self.radius


def spans(lowered: Lowered, input_bound: float) -> dict[str, Span]:
    """The span of every wire, for inputs of at most ``input_bound``."""
    found: dict[str, Span] = {}
    for node in lowered.nodes:
        zero = torch.zeros((1, *node.shape), dtype=torch.float64)
        if isinstance(node.op, Input):
            analogue = lowered.spike_scales[node.name] is None
            found[node.name] = Span(zero, zero + (bound_of(node, input_bound) if analogue else 1.0))
        elif isinstance(node.op, Cell):
            found[node.name] = _cell_span(lowered, node, node.op, found, zero)
        else:
            inputs = [found[name] for name in node.inputs]
            middle = node.op.linear(*(span.middle for span in inputs))
            found[node.name] = Span(middle, node.op.magnitude().linear(*(span.radius for span in inputs)))
    return found


def _cell_span(lowered: Lowered, node: Node, cell: Cell, found: dict[str, Span], zero: Tensor) -> Span:
    alphabet = lowered.alphabets[node.name]
    pairs = list(zip(node.inputs, lowered.biases[node.name], strict=True))
    largest = [found[name].largest + bias.abs() for name, bias in pairs]
    if not alphabet.is_spiking or not alphabet.levels:
        bound = cell.bound(*largest)
        return Span(zero, zero + (torch.inf if bound is None else bound))
    if cell.takes_levels and not cell.multiplies:  # what it passes on may be sums of levels
        passed = cell.bound(*largest)
        if passed is not None and bool((passed > alphabet.levels).any()):
            return Span(zero, zero + passed.clamp(min=alphabet.levels))
    middle = 0.0 if alphabet.signed else alphabet.levels / 2
    return Span(zero + middle, zero + (alphabet.levels - middle))


def growth(lowered: Lowered, node: Node, found: Mapping[str, Span]) -> Tensor:
    """The largest change of a cell's charge in one step, with or without its bias, (1, *input shape)."""
    pairs = zip(node.inputs, lowered.biases[node.name], strict=True)
    steps = [found[name].with_bias(bias) for name, bias in pairs]
    return torch.stack(steps).amax(0) if len({step.shape for step in steps}) == 1 else steps[0]


def offset(node: Node) -> Tensor:
    """The sum of |v(0)| and the threshold of a neuron: the values added to its charge besides the input."""
    unit = node.op.unit if isinstance(node.op, Cell) else None
    return torch.zeros(()) if unit is None else unit.threshold.abs() + unit.initial.abs()
