"""What layers receive while a network is simulated layer by layer: computed from the trains that are stored."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.lowering.trains import Train, Values, joined

CACHED = 2**17
"""Neurons that are stepped together, so that their state stays in the cache."""
PART = 2**22
"""Bytes of one wire's values over time that are computed together."""
KEPT = 2**28
"""Bytes of a layer's currents that are kept while its correction is found; larger ones are computed again."""


class Currents:
    """What a layer receives: (time, samples, *shape) of a few samples after the other, computed when it is asked for.

    ``time`` is 1 for constant values and for windows, whose values are means over the T steps, or, in windows of slots,
    the single value sent.
    """

    def __init__(self, graph: Graph, name: str, trains: dict[str, Train], samples: int, timesteps: int) -> None:
        self.name, self.trains, self.samples = name, trains, samples
        self.nodes = between(graph, name, trains)
        largest = max(math.prod(graph[one].shape) for one in (name, *(i for n in self.nodes for i in n.inputs)))
        self.few = max(1, min(CACHED // largest, PART // (4 * largest * timesteps)))
        self.kept: list[Tensor] | None = []

    def __iter__(self) -> Iterator[Tensor]:
        if self.kept:
            yield from self.kept
            return
        room = KEPT
        for start in range(0, self.samples, self.few):
            part = self.of(slice(start, min(start + self.few, self.samples)))[self.name]
            room -= part.nbytes
            if self.kept is not None and room >= 0:
                self.kept.append(part)
            else:
                self.kept = None
            yield part

    def train(self) -> Train:
        """The currents of all samples as a train of real numbers."""
        return Values(joined(list(self), 1))

    def of(self, rows: slice) -> dict[str, Tensor]:
        """The values of the wires before the layer for some samples."""
        values = {i: self.trains[i].part(rows) for n in self.nodes for i in n.inputs if i in self.trains}
        if self.name in self.trains:
            values[self.name] = self.trains[self.name].part(rows)
        for node in self.nodes:
            values[node.name] = folded(node, values)
        return values

    def mean(self, name: str) -> Tensor | None:
        """(batch, *shape): the mean over time of a wire before the layer; None if it is not one of them."""
        if name not in self.trains and all(name != node.name for node in self.nodes):
            return None
        parts = range(0, self.samples, self.few)
        found = [self.of(slice(start, min(start + self.few, self.samples))) for start in parts]
        return torch.cat([one[name].mean(0) for one in found])


def between(graph: Graph, name: str, stored: Mapping[str, Train]) -> list[Node]:
    """The layers without memory from the stored trains to the wire ``name``, in order."""
    found: dict[str, Node] = {}
    stack = [] if name in stored else [name]
    while stack:
        node = graph[stack.pop()]
        if node.name not in found:
            found[node.name] = node
            stack += [i for i in node.inputs if i not in stored]
    return [node for node in graph if node.name in found]


def folded(node: Node, values: dict[str, Tensor]) -> Tensor:
    """An op on every step, time folded into the batch."""
    assert isinstance(node.op, Op)
    time = max(len(values[name]) for name in node.inputs)
    inputs = [values[name].expand(time, *values[name].shape[1:]) for name in node.inputs]
    return node.op.run(*(value.flatten(0, 1) for value in inputs)).unflatten(0, (time, -1))


@dataclass(frozen=True)
class Reach:
    """``last``: the place after which nothing needs a wire, including changes to the layers before the next neuron.

    ``shared``: several cells read it without another between them, so that its values are computed once and kept.
    """

    last: int
    shared: bool


def reach_of(graph: Graph) -> dict[str, Reach]:
    """The places of the cells that each wire reaches without passing another."""
    order, readers = {node.name: index for index, node in enumerate(graph)}, graph.readers
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for node in reversed(graph.nodes):
        ends = [
            (order[one], order[one]) if isinstance(graph[one].op, Cell) else (first[one], last[one])
            for one in readers[node.name]
        ]
        first[node.name] = min((one for one, _ in ends), default=len(order))
        last[node.name] = max((one for _, one in ends), default=-1)
    return {name: Reach(last[name], first[name] < last[name]) for name in order}
