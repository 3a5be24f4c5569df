"""Checks that the neurons of a converted network can represent the activations that they replace."""

import torch
from torch import Tensor

from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context, Watch
from transpike.errors import UnsupportedModel

TOLERANCE = 1e-3
"""Relative: a measured threshold may exceed a ceiling by this share."""
LOST = 0.01
"""Share of a layer's activations on calibration data that may lie beyond a ceiling."""

NOTHING_SPIKES = "nothing can spike: the network has no neuron, and computes with real numbers in all layers"


def check_stand_ins(graph: Graph) -> None:
    """Raises UnsupportedModel if a neuron cannot represent the activation that it replaces."""
    for node in graph:
        if isinstance(node.op, Neuron) and node.op.source.role == "activation":
            verdict = node.op.stands_for(node.op.source)
            if verdict is not True:
                what = node.op.source.describe()
                raise UnsupportedModel(
                    f"{node.path or node.name} is a {what}, which {node.op.describe()} cannot represent: "
                    f"{verdict or 'the neuron does not support it'}; train with nn.ReLU or one of "
                    "transpike.activations, or keep the layer analogue"
                )


def has_neurons(graph: Graph) -> bool:
    """Whether any neuron of a converted network can spike; delays only repeat what they receive."""
    return any(isinstance(node.op, Neuron) and not node.op.is_delay for node in graph)


def check_ceilings(graph: Graph, context: Context) -> None:
    """Raises UnsupportedModel if neurons send more than the ceiling of their activation on many samples.

    Measured on the calibration data: more than ``LOST`` of a layer's activations are clipped by the source network
    and not by its neurons. A smaller share becomes a remark.
    """
    places = {node.name: node for node in graph if _exceeds(node)}
    if not places or not context.analogue:
        return
    lost, total = dict.fromkeys(places, 0.0), dict.fromkeys(places, 0.0)

    def read(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> tuple[float, float] | None:
        if node.name not in places:
            return None
        cell = places[node.name].op
        assert isinstance(cell, Neuron)
        most, ceiling = _limits(cell)
        sent = torch.minimum(inputs[0], most.to(inputs[0]))
        return float((sent - ceiling.to(sent)).clamp(min=0).sum()), float(output.abs().sum())

    def add(name: str, found: tuple[float, float]) -> None:
        lost[name] += found[0]
        total[name] += found[1]

    context.measure(context.analogue[0], Watch(read, add, dict))
    for name, node in places.items():
        share = lost[name] / total[name] if total[name] else 0.0
        if share > LOST:
            cell = node.op
            assert isinstance(cell, Neuron)
            most, ceiling = _limits(cell)
            raise UnsupportedModel(
                f"{node.path or name} is a {cell.source.describe()}, which clips activations at "
                f"{float(ceiling.max()):.3g}, but {cell.describe()} sends up to {float(most.max()):.3g}: on the "
                f"calibration data {share:.1%} of the layer's activations lie between; use a recipe whose thresholds "
                "end at the ceiling, like ecc or qcfs, lower the recipe's threshold, or train with nn.ReLU"
            )
        if share:
            context.remark(f"{name} does not clip at its ceiling: {share:.2%} of its activations lie beyond")


def _exceeds(node: Node) -> bool:
    if not isinstance(node.op, Neuron) or _ceiling(node.op.source) is None or node.op.peak is None:
        return False
    most, ceiling = _limits(node.op)
    return bool((most > ceiling * (1 + TOLERANCE)).any())


def _limits(cell: Neuron) -> tuple[Tensor, Tensor]:
    """The largest output of a neuron, and the ceiling of its activation, broadcastable to (batch, *shape)."""
    most, ceiling = cell.peak, _ceiling(cell.source)
    assert most is not None and ceiling is not None
    return most, ceiling.to(most)


def _ceiling(source: Op) -> Tensor | None:
    ceiling = getattr(source, "ceiling", None)
    return None if ceiling is None else torch.as_tensor(ceiling)
