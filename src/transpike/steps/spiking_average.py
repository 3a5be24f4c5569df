"""Average pooling with a neuron of its own."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transpike.activations import ReLU
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.step import Context, Step
from transpike.ops import AdaptiveMaxPool, MaxPool
from transpike.ops._base import Average


@dataclass(frozen=True)
class SpikingAverage(Step):
    """A rectification behind every average pooling of activations, which later becomes a neuron: pooled spikes are
    binary again, at the price of one more staircase.

    Exact, for means of what is never negative stay so. An average that meets the input or a signed wire, or that only
    the readout follows, stays linear. Source: SpKeras (ECC's code) and Li et al. 2021 (AvgPoolConv on ImageNet).
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        positive: set[str] = set()
        nodes: list[Node] = []
        renamed: dict[str, str] = {}
        for node in graph:
            node = dataclasses.replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
            nodes.append(node)
            op = node.op
            kept = isinstance(op, Op) and bool(node.inputs) and _keeps_sign(op) and set(node.inputs) <= positive
            if kept or (isinstance(op, Op) and op.role == "activation"):
                positive.add(node.name)
            if isinstance(op, Average) and node.name in positive and node.name != graph.output.name:
                name = f"{node.name}.fired"
                nodes.append(Node(name, ReLU(), (node.name,), node.path))
                positive.add(name)
                renamed[node.name] = name
        return Graph(tuple(nodes)) if renamed else graph


def _keeps_sign(op: Op) -> bool:
    """True where nothing negative comes out if nothing negative goes in: moved, pooled, added."""
    pooled = isinstance(op, (MaxPool, AdaptiveMaxPool))
    return pooled or (op.role == "wiring" and all(c >= 0 for c in getattr(op, "coefficients", ())))
