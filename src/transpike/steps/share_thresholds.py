"""One threshold for all layers whose spikes are added."""

import dataclasses
from dataclasses import dataclass

import torch

from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.step import Context, Step
from transpike.neurons import IntegrateAndFire
from transpike.ops import AdaptiveMaxPool, MaxPool


@dataclass(frozen=True)
class ShareThresholds(Step):
    """``θ ← max θ`` over all neurons whose spikes meet in one sum, so that a sum of counts is the sum of the values.

    Not needed where each spike is worth its own threshold, which is how sums run here; SpKeras (ECC's code) gives all
    inputs of an ``Add`` the scale of its output. Sums of a spiking wire and a current stay as they are.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        thresholds: dict[str, torch.Tensor] = {}
        for node in graph:
            if isinstance(node.op, Op) and node.op.is_sum and len(node.inputs) > 1:
                sources = [_neuron(graph, name) for name in node.inputs]
                names = [source.name for source in sources if source is not None]
                if len(names) == len(sources):
                    values = [thresholds.get(n, graph[n].op.tensors()["threshold"]) for n in names]
                    thresholds.update(dict.fromkeys(names, torch.stack([value.max() for value in values]).max()))

        def change(node: Node) -> Node | None:
            if node.name not in thresholds or not isinstance(node.op, IntegrateAndFire):
                return None
            return dataclasses.replace(node, op=node.op.with_tensors(threshold=thresholds[node.name]))

        return graph.rewrite(change)


def _neuron(graph: Graph, name: str) -> Node | None:
    """The neuron whose spikes this wire carries, moved or pooled at most."""
    node = graph[name]
    while isinstance(node.op, (MaxPool, AdaptiveMaxPool)) or (
        isinstance(node.op, Op) and node.op.role == "wiring" and len(node.inputs) == 1
    ):
        node = graph[node.inputs[0]]
    return node if isinstance(node.op, IntegrateAndFire) else None
