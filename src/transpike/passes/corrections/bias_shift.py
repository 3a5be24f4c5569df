"""A bias that adds half a threshold over all time steps."""

import dataclasses
from dataclasses import dataclass

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire
from transpike.ops import Scale
from transpike.ops.scale import shift
from transpike.passes.shift import only_synapse, per_channel, shifted


@dataclass(frozen=True)
class BiasShift(Pass):
    """``b ← b + θ / 2T``: over T steps every neuron receives half a threshold.

    Equal in sum to v(0) = θ/2. Source: Deng and Gu 2021, section 3.2.
    Where no bias reaches one neuron layer only (two sides of a function share one current), the layer gets a
    separate one. Raises SettingError for neurons with an initial potential, which would be shifted twice.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        for node in graph:
            cell = node.op
            if not isinstance(cell, IntegrateAndFire):
                continue
            if bool(cell.initial.any()):
                raise SettingError(
                    f"{node.name} already has an initial potential, so the bias shift θ/2T would add half a threshold "
                    "a second time; set beta=0 or omit the bias shift"
                )
            synapse = only_synapse(graph, node.name)
            theta = per_channel(cell.threshold, node.shape, graph.channel_axes[node.name])
            if synapse is None or theta is None:
                graph = _before(graph, node, shift(cell.threshold / (2 * context.timesteps), node.shape))
            else:
                graph = shifted(graph, synapse, theta / (2 * context.timesteps))
        return graph

    def describe(self) -> str:
        return "b + θ/2T"


def _before(graph: Graph, neuron: Node, bias: Scale) -> Graph:
    """The graph with a bias of the neuron's own before it."""
    taken = {node.name for node in graph}
    name = next(name for name in (f"{neuron.name}.shift" + "_" * k for k in range(len(taken) + 1)) if name not in taken)
    changed = dataclasses.replace(neuron, inputs=(name,))
    inserted = Node(name, bias, neuron.inputs, neuron.path)
    return Graph(tuple(one for node in graph for one in ((inserted, changed) if node.name == neuron.name else (node,))))
