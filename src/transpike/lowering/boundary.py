"""Data that crosses between the parts of a hybrid network, and the operations of its analogue parts."""

import math

import torch
from torch import Tensor

from transpike.core.activity import VALUE_BITS, Connection, Crossing, Evaluations
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.lowering.activity import connection
from transpike.lowering.lowered import Lowered
from transpike.ops.pack import Pack
from transpike.ops.scale import Scale


def boundary_fans(lowered: Lowered) -> dict[str, Tensor]:
    """Layer → 1 for each element whose spikes reach the output without passing weights, else 0, (1, *shape).

    Such a spike leaves the spiking part as it is. Layers without such an element are left out.
    """
    wires = {wire for wire, levels in _ends(lowered) if levels}
    sources = [node for node in lowered.nodes if isinstance(node.op, Cell) or not node.inputs]
    with torch.inference_mode(False), torch.enable_grad():  # in inference mode gradients would be 0
        leaves = {n.name: torch.zeros((1, *n.shape), dtype=torch.float64, requires_grad=True) for n in sources}
        values: dict[str, Tensor] = dict(leaves)
        total = torch.zeros((), dtype=torch.float64)
        for node in lowered.nodes:
            if node.name not in leaves:
                moved = node.op.paths().to(dtype=torch.float64)  # type: ignore[union-attr]
                value = moved.linear(*(values[name] for name in node.inputs))
                values[node.name] = torch.zeros_like(value) if isinstance(node.op, Synapse) else value
            if node.name in wires:
                total = total + values[node.name].sum()
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if total.requires_grad:
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    found = {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    return {
        name: (gradient > 0).double()
        for name, gradient in found.items()
        if bool((gradient > 0).any()) and lowered.alphabets[name].is_spiking
    }


def crossings(lowered: Lowered, before: Graph | None, rest: Graph | None) -> tuple[Crossing, ...]:
    """The boundaries of a hybrid network, without counts: of the part ``before`` it and of the ``rest`` after it."""
    found = []
    if before is not None:
        found.append(Crossing(before.output.name, "values", math.prod(before.output.shape), VALUE_BITS))
    if rest is not None:
        shapes = {node.name: node.shape for node in lowered.nodes}
        for name in boundary_fans(lowered):
            size = math.prod(shapes[name])
            address = max(1, math.ceil(math.log2(size)))
            found.append(Crossing(name, "spikes", size, address + lowered.alphabets[name].payload_bits))
        sums = (wire for wire, levels in _ends(lowered) if not levels)
        found += [Crossing(wire, "sums", math.prod(shapes[wire]), VALUE_BITS) for wire in sums]
    return tuple(found)


def _ends(lowered: Lowered) -> list[tuple[str, bool]]:
    """The wires that leave the spiking part, and whether their spikes do; else their sums are read once."""
    output, table = lowered.output, {node.name: node for node in lowered.nodes}
    found: dict[str, bool] = {}
    for name in output.inputs if isinstance(output.op, Pack) else (output.name,):
        node = table[name]
        charge = is_plain(node.op, Scale) and "→" in name and lowered.spike_scales[node.inputs[0]] is not None
        wire = node.inputs[0] if charge else name
        found[wire] = charge and lowered.alphabets[wire].is_spiking
    return list(found.items())


def macs_once(graph: Graph) -> dict[str, int]:
    """Layer → the known multiplications of one sample's forward pass, for layers that have any."""
    return {node.name: count for node in graph if (count := graph.macs(node))}


def evaluations_once(graph: Graph) -> tuple[Evaluations, ...]:
    """The functions of a part that is computed once for each answer; before a run, with one sample's needs."""
    found = []
    for node in graph:
        if each := node.op.evaluations(tuple(graph[name].shape for name in node.inputs), node.shape):
            found.append(Evaluations(node.name, each, 1, 1, torch.ones(1, dtype=torch.float64), once=True))
    return tuple(found)


def connections_once(graph: Graph) -> tuple[Connection, ...]:
    """Every layer of weights of an analogue part."""
    axes = graph.channel_axes

    def of(node: Node) -> Connection:
        entering = graph[node.inputs[0]]
        target = (graph.readers[node.name] or (node.name,))[0]
        return connection(node, (entering.name,), target, entering.shape, axes[node.name], analogue=True)

    return tuple(of(node) for node in graph if isinstance(node.op, Synapse))
