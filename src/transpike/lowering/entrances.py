"""How the inputs of a network enter a run: one, several packed ones, and what is looked up by integers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, Input, Node, PackedInput
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.lowering.truth import largest
from transpike.ops.embedding import Embedding


@dataclass(frozen=True, eq=False)
class LookUp(Input):
    """A source of constant currents in a lowered form: integers and their look-up, or Boolean values and the mask
    that is computed from them, in one.

    ``layers`` is the network from the packed input to the value; ``largest`` (1, *shape) bounds its size.
    """

    layers: Graph
    largest: Tensor

    def part(self, x: Tensor) -> Tensor:
        found = self.layers.to(device=x.device).run(x)
        return found.to(x.dtype)

    def describe(self) -> str:
        return self.layers.output.op.describe()


class StaticParts:
    """Takes what depends on integers and Boolean values only out of a graph while it is lowered.

    Where other layers read such a value, a source takes its place that computes it from the inputs.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.placed: set[str] = set()

    def take(self, node: Node) -> list[Node]:
        """The nodes of the lowered form that come in the place of this one: none for a part of a mask, a source for a
        look-up; before a layer that reads a mask, the source of the mask.
        """
        if node.name in self.graph.static:
            self.nodes[node.name] = node
            return [self._source(node)] if node.name == self.graph.output.name else []
        if is_plain(node.op, Embedding) and all(name in self.nodes for name in node.inputs):
            return [self._source(node)]
        new = [name for name in node.inputs if name in self.nodes and name not in self.placed]
        self.placed.update(new)
        return [*(self._source(self.nodes[name]) for name in dict.fromkeys(new)), node]

    def _source(self, last: Node) -> Node:
        wanted, stack = {last.name: last}, [last]
        while stack:
            for name in stack.pop().inputs:
                if name not in wanted:
                    wanted[name] = self.nodes[name]
                    stack.append(self.nodes[name])
        nodes = tuple(node for name, node in self.nodes.items() if name in wanted and name != last.name)
        layers = Graph((*nodes, last))
        if is_plain(last.op, Embedding):
            most = last.op.weight.double().abs().amax(0)
        else:
            most = torch.tensor(largest(self.graph, last.name), dtype=torch.float64)
        bound = most.expand(1, *last.shape).clone()
        return Node(last.name, LookUp(last.shape, layers, bound), (), last.path, (), last.shape)


def bound_of(node: Node, input_bound: float) -> float | Tensor:
    """The largest |value| of an input node for inputs of at most ``input_bound`` in units of each input's range."""
    if isinstance(node.op, LookUp):
        return node.op.largest.double()
    return input_bound * node.op.largest if isinstance(node.op, PackedInput) else input_bound


def scale_of(op: Op, encoder_scale: float | None) -> float | None:
    """The charge of one level of an input node; None for currents."""
    if encoder_scale is None or isinstance(op, LookUp) or (isinstance(op, PackedInput) and op.is_static):
        return None
    return encoder_scale * op.largest if isinstance(op, PackedInput) else encoder_scale


def in_ranges(nodes: Iterable[Node], x: Tensor) -> Tensor:
    """The inputs ``x`` in units of each one's range, 0 for integers; x itself for a single input."""
    parts = [node.op for node in nodes if isinstance(node.op, (PackedInput, LookUp))]
    if not parts:
        return x
    ranges = torch.full(x.shape[1:], torch.inf, dtype=torch.float64)
    for op in parts:
        if isinstance(op, PackedInput) and not op.is_static:
            ranges[op.start : op.start + op.size] = op.largest
    return x.double() / ranges.to(x.device)  # in float64, as an encoder divides: engines must round alike


def of_step(encoder: Encoder, nodes: Iterable[Node], node: Node, x: Tensor, ids: Tensor, t: int) -> Tensor:
    """What an input node sends in step t."""
    return _sent(encoder, nodes, node, x, lambda v: encoder.encode(v, ids, t))


def of_window(encoder: Encoder, nodes: Iterable[Node], node: Node, x: Tensor, ids: Tensor, timesteps: int) -> Tensor:
    """The sum of what an input node sends in a window."""
    return _sent(encoder, nodes, node, x, lambda v: encoder.counts(v, ids, timesteps), timesteps)


def _sent(encoder: Encoder, nodes: Iterable[Node], node: Node, x: Tensor, encode: Any, times: int = 1) -> Tensor:
    op = node.op
    assert isinstance(op, Input)
    if isinstance(op, LookUp) or (isinstance(op, PackedInput) and op.is_static):
        found = op.part(x)
        return found if times == 1 else found * times
    if not isinstance(op, PackedInput):
        return encode(x)
    return op.part(encode(x if encoder.spike_scale is None else in_ranges(nodes, x))).to(x.dtype)
