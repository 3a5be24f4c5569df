"""A common threshold for all layers whose spikes are added."""

import dataclasses
from dataclasses import dataclass

import torch

from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.neurons import IntegrateAndFire
from transpike.ops import AdaptiveMaxPool, MaxPool


@dataclass(frozen=True)
class ShareThresholds(Pass):
    """``θ ← max θ`` over all neurons whose spikes meet in one sum, so that a sum of counts is the sum of the values.

    The ratio of spike scale to threshold does not change. Sums here scale each spike by its own threshold and need no
    common one; SpKeras (ECC's code) gives all inputs of an ``Add`` the scale of its output. Sums of a spiking wire and
    a current are not changed.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        groups: list[set[str]] = []
        sums = [node for node in graph if isinstance(node.op, Op) and node.op.is_sum and len(node.inputs) > 1]
        for node in sums:
            group = _neurons(graph, node.name)
            if group:  # groups with a common neuron have a common threshold
                groups = [
                    *(other for other in groups if not other & group),
                    group.union(*(o for o in groups if o & group)),
                ]
        if sums and not groups:
            context.remark("residual='shared' changed nothing: every sum of this network has a current as an input")
        shared = {}
        for group in groups:
            largest = torch.stack([graph[name].op.tensors()["threshold"].max() for name in sorted(group)]).max()
            shared.update(dict.fromkeys(group, largest))

        def change(node: Node) -> Node | None:
            if node.name not in shared or not isinstance(node.op, IntegrateAndFire):
                return None
            found = node.op.tensors()
            ratio = shared[node.name] / found["threshold"]
            spike_scale = {"spike_scale": found["spike_scale"] * ratio} if "spike_scale" in found else {}
            return dataclasses.replace(node, op=node.op.with_tensors(threshold=shared[node.name], **spike_scale))

        return graph.rewrite(change)


def _neurons(graph: Graph, name: str) -> set[str]:
    """The neurons whose spikes reach this wire by moving, pooling or adding; empty where it carries a current."""
    op = graph[name].op
    if isinstance(op, IntegrateAndFire):
        return {name}
    if not isinstance(op, Op) or not (op.is_sum or op.role == "wiring" or is_plain(op, (MaxPool, AdaptiveMaxPool))):
        return set()
    found = [_neurons(graph, source) for source in graph[name].inputs]
    return set().union(*found) if all(found) else set()
