"""Leaky ReLUs and clips to both sides as two rectifications each, which every neuron can represent."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.activations import Clip, LeakyReLU, ReLU
from transpike.core.graph import Graph, Node
from transpike.core.naming import listed
from transpike.core.op import Op, Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import Add, Cat, MaxPool, Pad, Scale
from transpike.ops.wiring import Selection


@dataclass(frozen=True)
class Rectify(Pass):
    """``f(z) = p − a n`` with ``p = min(max(z, 0), c)`` and ``n = min(max(−z, 0), d)``, for every ``LeakyReLU``.

    p and n become separate activations, and the factor −a goes into the weights of the layers that read f:
    ``W f + b = (W p + b) + (−W a) n``, so that weights add spikes. Wiring in between is repeated for n. A maximum
    pooling moves before a rising f. Where anything else reads f (a sum, a neuron, the output), it reads p − a n.
    Remarks name the layers, and where the slopes of the model are: where p − a n is computed, under their name in the
    model's state_dict, else in the weights that they multiply.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        if not any(is_plain(node.op, LeakyReLU) for node in graph):
            return graph
        split = _Split(graph)
        for node in graph:
            split.add(node)
        context.remark(
            f"two rectifications each, f(z) = relu(z) − a relu(−z), clipped where f is: {', '.join(split.found)}"
        )
        if split.absorbed:
            context.remark(f"slopes that are part of other weights: {listed(split.absorbed)}")
        return split.graph(graph.output.name)


def rectified(graph: Graph, passes: Iterable[Pass], context: Context) -> Graph:
    """The source network with the activations that a recipe with these ``passes`` gives it: those of its neurons."""
    return Rectify().apply(graph, context) if any(isinstance(one, Rectify) for one in passes) else graph


@dataclass(frozen=True)
class _Parts:
    """``f = positive + factor · negative``: the names of two wires, and (1, *shape)."""

    positive: str
    negative: str
    factor: Tensor
    current: str = ""
    op: LeakyReLU | None = None
    """The wire and the function, if f is the activation itself."""
    key: str = ""
    """The name of its slopes in the model's state_dict."""


class _Split:
    """Walks a graph once; ``parts`` are the wires that stand as two parts."""

    def __init__(self, graph: Graph) -> None:
        self.shapes = {node.name: node.shape for node in graph}
        self.taken = set(self.shapes)
        self.nodes: dict[str, Node] = {}
        self.parts: dict[str, _Parts] = {}
        self.sums: dict[str, str] = {}
        self.found: list[str] = []
        self.absorbed: list[str] = []

    def graph(self, output: str) -> Graph:
        last = self._sum(output)
        read = {name for node in self.nodes.values() for name in node.inputs} | {last}
        while unread := [name for name in list(self.nodes)[1:] if name not in read]:
            for name in unread:
                del self.nodes[name]
            read = {name for node in self.nodes.values() for name in node.inputs} | {last}
        nodes = [node for node in self.nodes.values() if node.name != last]
        return Graph((*nodes, self.nodes[last]))

    def add(self, node: Node) -> None:
        if is_plain(node.op, LeakyReLU):
            self.found.append(node.name)
            self._activation(node, self._sum(node.inputs[0]), node.op, dict(node.origin).get("slope", ""))
        elif self.parts.keys().isdisjoint(node.inputs) or not self._passed(node):
            self._place(dataclasses.replace(node, inputs=tuple(map(self._sum, node.inputs))))

    def _activation(self, node: Node, current: str, op: LeakyReLU, key: str) -> None:
        negated = self._new(node, "negated", Add(coefficients=(-1.0,)), current)
        positive = Node(node.name, _rectification(op.ceiling), (current,), node.path)
        self._place(positive)
        negative = self._new(node, "negative", _rectification(op.floor), negated)
        factor = -op.slopes(len(node.shape)).expand(1, *self.shapes[node.name])
        self.parts[node.name] = _Parts(node.name, negative, factor, current, op, key)

    def _passed(self, node: Node) -> bool:
        """True if the node could be applied to the parts of what it reads."""
        if isinstance(node.op, Cat):
            return is_plain(node.op, Cat) and self._joined(node, node.op)
        if len(node.inputs) != 1 or not isinstance(node.op, Op) or node.op.role == "activation":
            return False
        parts = self.parts[node.inputs[0]]
        if isinstance(node.op, MaxPool):
            return is_plain(node.op, MaxPool) and self._pooled(node, node.op, parts)
        if isinstance(node.op, Synapse):
            return self._weighted(node, parts, node.op)
        op = node.op
        if op.role != "wiring":
            return False
        factor = _after(op, parts.factor)
        if factor is None:
            return False
        self._place(dataclasses.replace(node, inputs=(parts.positive,)))
        negative = self._new(node, "negative", op, parts.negative)
        self.parts[node.name] = _Parts(node.name, negative, factor, key=parts.key)
        return True

    def _weighted(self, node: Node, parts: _Parts, op: Synapse) -> bool:
        absorbed = op.absorb(parts.factor.to(op.weight))
        if absorbed is None:
            return False
        positive = self._new(node, "positive", op, parts.positive, node.origin)
        negative = self._new(node, "negative", dataclasses.replace(absorbed, bias=None), parts.negative)
        self._place(Node(node.name, Add(), (positive, negative), node.path))
        if parts.key:
            self.absorbed.append(f"{parts.key} in {negative}.weight")
        return True

    def _pooled(self, node: Node, pool: MaxPool, parts: _Parts) -> bool:
        op = parts.op
        if op is None or not op.rises:
            return False
        uniform = all(size == 1 for size in op.slopes(len(node.shape)).shape[1:])
        if not uniform:
            return False
        pooled = self._new(node, "current", pool, parts.current)
        self._activation(node, pooled, op, parts.key)
        return True

    def _joined(self, node: Node, op: Cat) -> bool:
        """A concatenation of the positive parts, and one of the negative ones with zeros in the place of the others."""
        axis, rank = op.axis, len(node.shape)
        sizes = [self.shapes[name][axis - 1] for name in node.inputs]
        positive, negative, factors, zeros = [], [], [], 0
        for name, size in zip(node.inputs, sizes, strict=True):
            parts = self.parts.get(name)
            positive.append(name if parts is None else parts.positive)
            factors.append(torch.ones(1, *self.shapes[name]) if parts is None else parts.factor)
            if parts is None:
                zeros += size
            else:
                negative.append(self._padded(node, parts.negative, axis, rank, zeros, 0))
                zeros = 0
        negative[-1] = self._padded(node, negative[-1], axis, rank, 0, zeros)
        self._place(dataclasses.replace(node, inputs=tuple(positive)))
        joined = negative[0] if len(negative) == 1 else self._new(node, "negative", op, *negative)
        self.parts[node.name] = _Parts(node.name, joined, torch.cat([f.to(factors[0]) for f in factors], axis))
        return True

    def _padded(self, node: Node, wire: str, axis: int, rank: int, before: int, after: int) -> str:
        if not before and not after:
            return wire
        return self._new(node, "zeros", Pad(amounts=(0, 0) * (rank - axis) + (before, after)), wire)

    def _sum(self, name: str) -> str:
        """The wire of f itself."""
        parts = self.parts.get(name)
        if parts is None:
            return name
        if name not in self.sums:
            place = self.nodes[parts.positive]
            if parts.op is not None and parts.key:  # the slopes themselves, so that they keep their name
                origin, sign = (("weight", parts.key),), -1.0
                weighted = self._new(place, "weighted", Scale(weight=parts.op.slope), parts.negative, origin)
            else:
                weighted, sign = self._new(place, "weighted", _scale(parts.factor), parts.negative), 1.0
            self.sums[name] = self._new(place, "sum", Add(coefficients=(1.0, sign)), parts.positive, weighted)
        return self.sums[name]

    def _place(self, node: Node) -> None:
        self.nodes[node.name] = node

    def _new(self, node: Node, kind: str, op: Op, *inputs: str | tuple[tuple[str, str], ...]) -> str:
        """A new layer next to ``node``; the last of ``inputs`` may be its origin."""
        wires = tuple(one for one in inputs if isinstance(one, str))
        origin = next((one for one in inputs if not isinstance(one, str)), ())
        name, number = f"{node.name}.{kind}", 1
        while name in self.taken:
            name, number = f"{node.name}.{kind}_{number}", number + 1
        self.taken.add(name)
        self._place(Node(name, op, wires, node.path, origin))
        return name


def _rectification(ceiling: float | None) -> Op:
    return ReLU() if ceiling is None else Clip(ceiling=ceiling)


def _scale(factor: Tensor) -> Scale:
    """Multiplies by ``factor`` (1, *shape), in its shortest form."""
    if bool((factor == factor.flatten()[0]).all()):
        return Scale(weight=factor.flatten()[0].clone())
    channels = factor[0].flatten(1)
    if factor.ndim > 2 and bool((channels == channels[:, :1]).all()):
        return Scale(weight=channels[:, 0].clone())
    return Scale(weight=factor[0].clone())


def _after(op: Op, factor: Tensor) -> Tensor | None:
    """The factor after wiring: ``op(factor · x) = factor' · op(x)`` for every x; None if there is none."""
    if isinstance(op, Selection):
        return op.run(factor)
    after = op.run(factor) / op.run(torch.ones_like(factor))
    probe = torch.rand(factor.shape, generator=torch.Generator().manual_seed(0)).to(factor)
    same = torch.allclose(op.run(factor * probe), after * op.run(probe), rtol=1e-6, atol=1e-9)
    return after if same else None
