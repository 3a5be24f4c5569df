"""Operations of a spiking network, of its burst twin and of the quantised ANN, next to each other."""

import dataclasses
from dataclasses import dataclass, field

from transpike.core.activity import Activity
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.plain import is_plain
from transpike.energy import AnnActivity
from transpike.neurons import SigmaDelta
from transpike.recipes import BurstDigits, StreamingSigmaDelta
from transpike.snn import SNN


@dataclass(frozen=True)
class NetworkOperations:
    """The operations of one network per sample.

    ``weights``: spikes times fan-out, or products of an ANN that are not 0; each reads a weight. ``products``: those
    of products of two wires; in a spiking network each reads a stored word of the other side. ``multiplications`` are
    those that remain in a spiking network, or all products of an ANN. ``evaluations``: function → its evaluations, of a
    spiking network only those of parts whose inputs changed. ``value`` of the task's first metric, None if it was not
    measured.
    """

    network: str
    weights: float
    products: float
    multiplications: float
    evaluations: dict[str, float] = field(default_factory=dict)
    value: float | None = None

    @property
    def total(self) -> float:
        """Operations that read a weight or a state."""
        return self.weights + self.products


def burst_twin(snn: SNN) -> SNN | None:
    """The network with the same thresholds that sends all digits of a value at once, in one step.

    None for recipes other than ``sigma-delta``, and with other neurons.
    """
    recipe = snn.recipe
    if type(recipe) is not StreamingSigmaDelta or not any(is_plain(node.op, SigmaDelta) for node in snn.graph):
        return None

    def change(node: Node) -> Node | None:
        if not is_plain(node.op, SigmaDelta):
            return None
        return dataclasses.replace(node, op=dataclasses.replace(node.op, rule="all"))

    settings = {one.name: getattr(recipe, one.name) for one in dataclasses.fields(recipe)}
    graph: Graph = snn.graph.rewrite(change)
    return dataclasses.replace(snn, graph=graph, recipe=BurstDigits(**settings | {"timesteps": 1}), exit=None)


def spiking_operations(network: str, activity: Activity, value: float | None) -> NetworkOperations:
    """The counts of a run."""
    products, left = activity.product_operations, float(sum(activity.macs.values()))
    changed = {name: count for name, (_, count) in activity.evaluated.items()}
    return NetworkOperations(network, activity.events - products, products, left, changed, value)


def ann_operations(snn: SNN, ann: AnnActivity, evaluations: dict[str, int], value: float | None) -> NetworkOperations:
    """The counts of the quantised ANN of a spiking network, which skips products with a zero."""
    of_wires = {node.name for node in snn.graph if isinstance(node.op, Cell) and node.op.multiplies}
    weights = sum(layer.effective for layer in ann.layers if layer.weights)
    products = sum(layer.effective for layer in ann.layers if layer.name in of_wires)
    return NetworkOperations("quantised ANN", weights, products, float(ann.macs), dict(evaluations), value)


def recommendation(snn: NetworkOperations, burst: NetworkOperations) -> str:
    """One sentence: the spiking network, or its burst twin."""
    share = burst.total / snn.total if snn.total else 1.0
    if share < 1:
        return (
            f"The {burst.network} takes {share:.2f} of the operations of the {snn.network}: prefer it unless you need "
            "early answers or the input changes over time"
        )
    return (
        f"The {burst.network} takes {share:.2f} times the operations of the {snn.network}, which answers at any step: "
        "prefer the latter"
    )
