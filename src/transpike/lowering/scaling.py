"""The scale family: every normalisation of a converted network is a choice of each layer's threshold κ.

    W̃ ← (κ/θ) · W̃,   b ← (κ/θ) · b,   v(0) ← (κ/θ) · v(0),   threshold ← κ

does not change any spike train (rate-coding reference, eq. 3): κ = 1 is weight normalisation (Diehl et al. 2015),
κ = λ_n/λ_{n−1} is threshold balancing (Sengupta et al. 2019), a constant κ is ECC's current normalisation.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.channels import resolved, shaped
from transpike.core.graph import Node
from transpike.core.op import Synapse, spatially_uniform
from transpike.core.recipe import ThresholdScale
from transpike.errors import UnsupportedModel
from transpike.lowering.lowered import Lowered
from transpike.ops.scale import Scale


def unit_scale(lowered: Lowered) -> dict[str, float]:
    """κ = 1 for every layer with a threshold: the scale that engines use."""
    return {n.name: 1.0 for n in lowered.nodes if isinstance(n.op, Cell) and n.op.unit is not None}


def balanced_scale(lowered: Lowered) -> dict[str, float]:
    """κ = λ_n/λ_{n−1}, which keeps the trained weights.

    λ_n is the spike scale of layer n, the largest one if channels differ; that of the input is 1.
    """
    largest = {
        name: float(spike_scale.max()) for name, spike_scale in lowered.spike_scales.items() if spike_scale is not None
    }
    sources = {node.name: node.inputs for node in lowered.nodes}

    def before(name: str) -> float:
        """λ of the preceding layer."""
        return max((largest.get(source) or before(source) for source in sources[name]), default=1.0)

    return {name: largest[name] / before(name) for name in unit_scale(lowered)}


def own_scale(scale: ThresholdScale, lowered: Lowered) -> dict[str, float]:
    """κ of every layer with a threshold in the scale of a recipe (``Recipe.threshold_scale``)."""
    if scale == "balanced":
        return balanced_scale(lowered)
    return dict.fromkeys(unit_scale(lowered), 1.0 if scale == "unit" else float(scale))


def scaled(lowered: Lowered, kappa: Mapping[str, float], *, strict: bool = True) -> Lowered:
    """The lowered form with threshold κ in each named cell. Neurons that share a synapse cannot be scaled alone.

    ``strict=False`` leaves those unchanged; otherwise raises UnsupportedModel with their name.
    """
    table = {node.name: node for node in lowered.nodes}
    readers: dict[str, int] = {}
    for node in lowered.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    factors: dict[str, tuple[Tensor, int]] = {}
    cells: dict[str, tuple[Tensor, float]] = {}
    for name, value in kappa.items():
        node = table[name]
        unit = node.op.unit if isinstance(node.op, Cell) else None
        if unit is None:
            continue
        axis = lowered.axes.get(name, 1)
        factor = spatially_uniform((value / unit.threshold.double()).expand(1, *node.shape), axis)
        synapses = None if factor is None else _synapses(node.inputs[0], table, readers, axis)
        if factor is None or synapses is None:
            if strict:
                raise UnsupportedModel(
                    f"{name} shares its weights with another layer, so its scale cannot be chosen separately"
                )
            continue
        factors.update(dict.fromkeys(synapses, (factor, axis)))
        cells[name] = shaped(factor, axis, len(node.shape)), value
    nodes = tuple(_scaled_node(node, factors, cells) for node in lowered.nodes)
    biases = {
        name: tuple(b * cells[name][0] for b in values) if name in cells else values
        for name, values in lowered.biases.items()
    }
    return dataclasses.replace(lowered, nodes=nodes, biases=biases)


def _synapses(name: str, table: dict[str, Node], readers: dict[str, int], axis: int) -> list[str] | None:
    """The synapses that alone feed the wire ``name`` and nothing else; None if there are other inputs or readers.

    Each of them has one row of weights per channel of ``axis``, or one weight per element.
    """
    node = table[name]
    if readers[name] != 1 or isinstance(node.op, Cell):
        return None
    if isinstance(node.op, Synapse):
        fits = isinstance(node.op, Scale) or resolved(node.op.channel_axis, len(node.shape)) == axis
        return [name] if fits else None
    if not node.op.is_sum or any(table[i].shape != node.shape for i in node.inputs):
        return None
    found: list[str] = []
    for source in node.inputs:
        inner = _synapses(source, table, readers, axis)
        if inner is None:
            return None
        found += inner
    return found


def _scaled_node(node: Node, factors: dict[str, tuple[Tensor, int]], cells: dict[str, tuple[Tensor, float]]) -> Node:
    if node.name in factors and isinstance(node.op, Synapse):
        channels, axis = factors[node.name]
        if isinstance(node.op, Scale) and resolved(node.op.axis, len(node.shape)) != axis:
            return dataclasses.replace(node, op=node.op.times(shaped(channels, axis, len(node.shape))))
        return dataclasses.replace(node, op=node.op.scale_outputs(channels))
    if node.name in cells and isinstance(node.op, Cell):
        unit, (factor, value) = node.op.unit, cells[node.name]
        assert unit is not None
        initial = unit.initial * factor
        initial = initial.flatten()[0] if bool((initial == initial.flatten()[0]).all()) else initial
        threshold = torch.tensor(value, dtype=torch.float64)
        return dataclasses.replace(node, op=node.op.with_tensors(threshold=threshold, initial=initial))
    return node
