"""A bias that adds half a threshold over all time steps."""

from dataclasses import dataclass

from transpike.core.graph import Graph
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import IntegrateAndFire
from transpike.passes.shift import only_synapse, per_channel, shifted


@dataclass(frozen=True)
class BiasShift(Pass):
    """``b ← b + θ / 2T``: over T steps every neuron receives half a threshold.

    Equal in sum to v(0) = θ/2. Source: Deng and Gu 2021, section 3.2.
    Raises SettingError for neurons with an initial potential, which would be shifted twice; UnsupportedModel where no
    bias reaches only one neuron layer.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        for node in graph:
            cell = node.op
            if not isinstance(cell, IntegrateAndFire):
                continue
            if bool(cell.initial.any()):
                raise SettingError(
                    f"{node.name} already has an initial potential, and the bias shift θ/2T would add half a threshold "
                    "a second time; set beta=0 or leave out the bias shift"
                )
            synapse = only_synapse(graph, node.name)
            theta = per_channel(cell.threshold, node.shape, graph.channel_axes[node.name])
            if synapse is None or theta is None:
                raise UnsupportedModel(
                    f"no bias before {node.name} reaches only its neurons, with one value per channel; use "
                    "granularity='layer' or 'channel', or a recipe that starts from v(0) = θ/2 (ECC, FewSteps)"
                )
            graph = shifted(graph, synapse, theta / (2 * context.timesteps))
        return graph

    def describe(self) -> str:
        return "b + θ/2T"
