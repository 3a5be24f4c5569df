"""Ways of levels to a neuron: which source, how it is rearranged, which weights multiply it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.lowering.lowered import Lowered
from transpike.ops.add import Add
from transpike.ops.average import AvgPool, Mean

MOST_SUMMED = 128
"""The largest number of levels that are added before a weight: each of them is a separate term."""


@dataclass(frozen=True, eq=False)
class Path:
    """A way from ``source`` through linear ``nodes``; ``places`` says which input of each node it takes."""

    source: str
    nodes: tuple[Node, ...] = ()
    places: tuple[int, ...] = ()

    def through(self, node: Node, place: int) -> "Path":
        return Path(self.source, (*self.nodes, node), (*self.places, place))

    def split(self) -> tuple["Path", "Path | None"]:
        """Before its only layer of weights, and from it on; (self, None) without or with several such layers."""
        found = [k for k, node in enumerate(self.nodes) if isinstance(node.op, Synapse)]
        if len(found) != 1:
            return self, None
        k = found[0]
        return replace(self, nodes=self.nodes[:k], places=self.places[:k]), replace(
            self, nodes=self.nodes[k:], places=self.places[k:]
        )


def sends_levels(lowered: Lowered, node: Node) -> bool:
    """True for cells and for inputs that consist of spikes."""
    return isinstance(node.op, Cell) or (isinstance(node.op, Input) and lowered.spike_scales[node.name] is not None)


def paths(lowered: Lowered, table: Mapping[str, Node], name: str) -> Iterator[Path]:
    """All ways of levels to the wire ``name``; constant currents are not levels."""
    node = table[name]
    if sends_levels(lowered, node):
        yield Path(name)
    elif name not in lowered.time_invariant:
        for place, source in enumerate(node.inputs):
            for path in paths(lowered, table, source):
                yield path.through(node, place)


def applied(table: Mapping[str, Node], node: Node, place: int, value: Tensor) -> Tensor:
    """The output of a linear node for ``value`` at one of its inputs and zeros at the others."""
    inputs = [
        value if k == place else value.new_zeros((len(value), *table[name].shape)) for k, name in enumerate(node.inputs)
    ]
    return node.op.linear(*inputs)  # type: ignore[union-attr]


def moved(table: Mapping[str, Node], path: Path) -> tuple[Tensor, int] | None:
    """(index (terms, *shape), factor) of a way without weights: what arrives is ``factor · Σ_k levels[index_k]``.

    An index is a flat position of the source, −1 for a zero. None if it mixes levels in another way.
    """
    shape, factor = table[path.source].shape, 1.0
    index = torch.arange(prod(shape), dtype=torch.float64).reshape(1, *shape) + 1
    for node, place in zip(path.nodes, path.places, strict=True):
        assert isinstance(node.op, Op)
        summed = _summed(node.op, index)
        if summed is not None:
            index = summed
        else:
            one = node.op.coefficients[place] if is_plain(node.op, Add) else 1.0
            found = _selected(table, node, place, index, one) if one else None
            if found is None:
                return None
            index, factor = found, factor * one
        index = _without_empty(index)
        if len(index) > MOST_SUMMED:
            return None
    return (index.long() - 1, int(factor)) if factor == int(factor) else None


def keeps_order(table: Mapping[str, Node], path: Path) -> int | None:
    """The factor of a way without weights whose levels keep their order, at most in another shape; else None."""
    found = moved(table, path)
    if found is None:
        return None
    index, factor = found
    return factor if in_order(index, prod(table[path.source].shape)) else None


def in_order(index: Tensor, size: int) -> bool:
    """True if one index takes every one of ``size`` levels in its order."""
    return len(index) == 1 and index.numel() == size and torch.equal(index.flatten(), torch.arange(size))


def _selected(table: Mapping[str, Node], node: Node, place: int, index: Tensor, factor: float) -> Tensor | None:
    """The index after a node that only moves elements; None if it does anything else, which a random input shows."""
    found = applied(table, node, place, index) / factor
    flat = torch.arange(prod(index.shape[1:]), dtype=torch.float64).reshape(1, *index.shape[1:]) + 1
    at = (applied(table, node, place, flat) / factor).long()
    if bool((at < 0).any()) or bool((at > flat.numel()).any()):
        return None
    values = torch.rand(flat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.cat([torch.zeros(1, dtype=torch.float64), values.flatten()])[at.flatten()].reshape(at.shape)
    return found if torch.equal(applied(table, node, place, values), expected * factor) else None


def _summed(op: Op, index: Tensor) -> Tensor | None:
    """The index after a sum over windows or axes, one row more for each summand; None for other ops."""
    if is_plain(op, Mean) and not op.divide:
        moved_axes = index.movedim(op.axes, tuple(range(1, len(op.axes) + 1)))
        summands = moved_axes.flatten(1, len(op.axes)).flatten(0, 1)
        if not op.keep:
            return summands
        for axis in op.axes:
            summands = summands.unsqueeze(axis)
        return summands
    if not is_plain(op, AvgPool) or op.divide:
        return None
    count, out = len(op.kernel), op.run(index).shape
    amounts: list[int] = []
    for axis in reversed(range(count)):
        reach = (out[2 + axis] - 1) * op.stride[axis] + op.kernel[axis]
        left = op.padding[axis]
        amounts += [left, max(0, reach - left - index.shape[2 + axis])]
    padded = torch.nn.functional.pad(index, amounts)
    for axis in range(count):
        padded = padded.unfold(2 + axis, op.kernel[axis], op.stride[axis]).narrow(2 + axis, 0, out[2 + axis])
    windows = padded.flatten(2 + count)
    return windows.movedim(-1, 1).flatten(0, 1)


def _without_empty(index: Tensor) -> Tensor:
    """Without the rows that are zero everywhere; zeros move to the last rows."""
    if len(index) == 1:
        return index
    index = index.sort(0, descending=True).values
    filled = index.flatten(1).any(1)
    return index[filled] if bool(filled.any()) else index[:1]


def matrix(table: Mapping[str, Node], path: Path, most: int) -> Tensor | None:
    """The whole way as one matrix (outputs, inputs), both flat, in float64; None if it has more than ``most`` values.

    A way through several layers of weights is the product of their matrices, which lies on the grid as well.
    """
    shape = table[path.source].shape
    size = prod(shape)
    if size * prod(path.nodes[-1].shape) > most:
        return None
    columns = []
    for start in range(0, size, 256):
        number = min(256, size - start)
        rows = torch.zeros((number, size), dtype=torch.float64)
        rows[torch.arange(number), start + torch.arange(number)] = 1.0
        value = rows.reshape(number, *shape)
        for node, place in zip(path.nodes, path.places, strict=True):
            value = applied(table, node, place, value)
        columns.append(value.flatten(1))
    return torch.cat(columns).T.contiguous()


def onward(lowered: Lowered, known: Mapping[str, Tensor], *, magnitude: bool = False) -> dict[str, Tensor]:
    """``known`` values of constant currents, and what they are on the wires after them while no neuron fires."""
    found = dict(known)
    shapes = {node.name: node.shape for node in lowered.nodes}
    for node in lowered.nodes:
        if node.name in found or isinstance(node.op, (Cell, Input)) or not any(name in found for name in node.inputs):
            continue
        first = next(found[name] for name in node.inputs if name in found)
        inputs = [
            found[name] if name in found else first.new_zeros((len(first), *shapes[name])) for name in node.inputs
        ]
        found[node.name] = (node.op.magnitude() if magnitude else node.op).linear(*inputs)
    return found
