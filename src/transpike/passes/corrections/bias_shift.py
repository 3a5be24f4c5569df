"""Half a threshold, spread over all time steps."""

from dataclasses import dataclass

from transpike.core.graph import Graph
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import IntegrateAndFire
from transpike.passes.shift import only_synapse, per_channel, shifted


@dataclass(frozen=True)
class BiasShift(Pass):
    """``b ← b + θ / 2T``: after T steps every neuron has been given half a threshold.

    The same in sum as v(0) = θ/2, and refused together with an initial potential, which would shift twice.
    Source: Deng and Gu 2021, section 3.2. Raises UnsupportedModel where no bias reaches a neuron alone.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        for node in graph:
            cell = node.op
            if not isinstance(cell, IntegrateAndFire):
                continue
            if bool(cell.initial.any()):
                raise SettingError(
                    f"{node.name} starts from an initial potential and would be shifted by θ/2T too: half a threshold "
                    "twice; set beta=0 or leave out the bias shift"
                )
            synapse = only_synapse(graph, node.name)
            theta = per_channel(cell.threshold, node.shape, graph.channel_axes[node.name])
            if synapse is None or theta is None:
                raise UnsupportedModel(
                    f"no bias of the layer before {node.name} reaches its neurons alone, one value a channel; use "
                    "granularity='layer' or 'channel', or a recipe that starts from v(0) = θ/2 (ECC, FewSteps)"
                )
            graph = shifted(graph, synapse, theta / (2 * context.timesteps))
        return graph

    def describe(self) -> str:
        return "b + θ/2T"
