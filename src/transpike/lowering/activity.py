"""Static counts of the lowered form: fan-outs, multiplications and connections."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from transpike.core.activity import Connection
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.lowering.entrances import LookUp
from transpike.lowering.lowered import Lowered
from transpike.ops.scale import Scale


def fan_outs(lowered: Lowered) -> dict[str, Tensor]:
    """For every wire that carries levels: the non-zero weighted paths from each element to the next cells.

    Computed as the gradient of the chain of wiring and synapses with non-zero weights set to one; borders, stride and
    groups are included. An identity shortcut between layers of different scale is a diagonal synapse: one operation a
    spike. A path without a synapse (a spike that is only moved or pooled) costs no operation, and one to a product is
    not counted here (``state_fans``). Shapes (1, *shape).
    """
    return _gradients(lowered, products=False)


def state_fans(
    lowered: Lowered, masks: Mapping[str, Tensor] | None = None, present: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """For every wire that carries levels: the stored words of products that a spike of each element reads and adds.

    ``masks``: what the sources of masks hide in each sample of a batch, (batch, *shape); the result then is of each
    sample too. Without it nothing is hidden but by constant masks, and the batch is 1. ``present``: True where an
    element of a wire exists, (1, *shape) by name, if some do not yet.
    """
    if not any(isinstance(node.op, Cell) and node.op.multiplies for node in lowered.nodes):
        return {}
    return _gradients(lowered, products=True, masks=masks, present=present)


def sample_masks(lowered: Lowered, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is hidden in the samples x: by the name of the source, and by that of each cell that a source masks."""
    table = {node.name: node for node in lowered.nodes}
    sources: dict[str, Tensor] = {}
    cells: dict[str, Tensor] = {}
    for node in lowered.nodes:
        if isinstance(node.op, Cell) and node.op.hides_by_sample:
            name = node.inputs[-1]
            while table[name].inputs:  # a rounding point
                name = table[name].inputs[0]
            source = table[name].op
            assert isinstance(source, LookUp)
            sources[name] = cells[node.name] = source.part(x).double()
    return sources, cells


def _gradients(
    lowered: Lowered,
    products: bool,
    masks: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    masks = masks or {}
    batch = len(next(iter(masks.values()))) if masks else 1
    sources = [n for n in lowered.nodes if isinstance(n.op, Cell) or not n.inputs]
    with torch.inference_mode(False), torch.enable_grad():  # in inference mode gradients would be 0
        leaves = {n.name: torch.zeros((batch, *n.shape), dtype=torch.float64, requires_grad=True) for n in sources}
        total = torch.zeros((), dtype=torch.float64)
        # each wire has two values: paths that contain a synapse, and paths that do not yet
        weighted: dict[str, Tensor] = {}
        bare: dict[str, Tensor] = {}
        for node in lowered.nodes:
            if node.name in leaves:
                if isinstance(node.op, Cell) and node.op.multiplies:
                    here = None if present is None else [present[name].double() for name in node.inputs]
                    events = (weighted[name] + bare[name] for name in node.inputs)
                    reads = node.op.state_reads(*events, partners=here)
                    total = total + reads if products else total
                elif not products:
                    total = total + sum((weighted[name].sum() for name in node.inputs), torch.zeros(()))
                bare[node.name] = masks[node.name].cpu() if node.name in masks else leaves[node.name]
                weighted[node.name] = torch.zeros_like(leaves[node.name])
                continue
            op = node.op.paths().to(dtype=torch.float64)  # type: ignore[union-attr]
            met = op.linear(*(weighted[name] for name in node.inputs))
            free = op.linear(*(bare[name] for name in node.inputs))
            synapse = isinstance(node.op, Synapse)
            weighted[node.name] = met + free if synapse else met
            bare[node.name] = torch.zeros_like(free) if synapse else free
        total = total if products else total + weighted[lowered.output.name].sum()
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if total.requires_grad:  # there is at least one layer
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else torch.round(gradient)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def analogue_macs(lowered: Lowered, times: int, is_constant: bool = True) -> dict[str, int]:
    """The remaining multiplications per sample, by node name: of layers with analogue inputs, and of cells around
    analogue operators.

    Counted as executed: once if the node depends on a constant input only, else ``times`` times. ``is_constant``: the
    encoder gives the same input in every step.
    """
    macs, scales, graded, shapes = (
        {},
        _state_scales(lowered),
        _graded(lowered),
        {node.name: node.shape for node in lowered.nodes},
    )
    for node in lowered.nodes:
        if node.name in scales:
            continue
        if not isinstance(node.op, Cell) and (not node.inputs or node.name not in graded):
            continue
        each = node.op.macs(tuple(shapes[name] for name in node.inputs), node.shape)
        if each or (each == 0 and isinstance(node.op, Synapse)):
            macs[node.name] = each * (1 if is_constant and node.name in lowered.time_invariant else times)
    return macs


def _graded(lowered: Lowered) -> frozenset[str]:
    """The wires that carry real numbers from an analogue source, up to the next cell that sends spikes."""
    graded: set[str] = set()
    for node in lowered.nodes:
        if isinstance(node.op, Cell) or not node.inputs:
            if not lowered.alphabets[node.name].is_spiking:
                graded.add(node.name)
        elif any(name in graded for name in node.inputs):
            graded.add(node.name)
    return frozenset(graded)


def _state_scales(lowered: Lowered) -> frozenset[str]:
    """The charges of levels of products: factors of the states that the products store, and no multiplications."""
    levels: set[str] = set()
    scales: set[str] = set()
    for node in lowered.nodes:
        if isinstance(node.op, Cell):
            if node.op.multiplies and lowered.spike_scales[node.name] is not None:
                levels.add(node.name)
        elif any(name in levels for name in node.inputs):
            (scales if is_plain(node.op, Scale) and "→" in node.name else levels).add(node.name)
    return frozenset(scales)


def multiplications(graph: Graph) -> int:
    """The known multiplications of one sample's forward pass; ``unpriced`` lists the rest."""
    return sum(graph.macs(node) or 0 for node in graph)


def unpriced(network: Graph | Lowered) -> dict[str, str]:
    """Layer → its operations per pass other than multiplications and additions, or that their number is unknown."""
    found, shapes = {}, {node.name: node.shape for node in network.nodes}
    for node in network.nodes:
        if text := _unpriced(node, tuple(shapes[name] for name in node.inputs)):
            found[node.name] = text
    return found


def _unpriced(node: Node, inputs: tuple[tuple[int, ...], ...]) -> str:
    parts = [f"{count:,} {name}" for name, count in node.op.evaluations(inputs, node.shape).items()]
    if node.op.macs(inputs, node.shape) is None:
        parts.append("an unknown number of multiplications")
    return ", ".join(parts)


def evaluations(graph: Graph) -> dict[str, int]:
    """Function → its evaluations in one sample's forward pass."""
    found: dict[str, int] = {}
    for node in graph:
        inputs = tuple(graph[name].shape for name in node.inputs)
        for name, count in node.op.evaluations(inputs, node.shape).items():
            found[name] = found.get(name, 0) + count
    return found


def connections(lowered: Lowered) -> tuple[Connection, ...]:
    """Every layer of weights, in order."""
    graded, scales, found = _graded(lowered), _state_scales(lowered), []
    table = {node.name: node for node in lowered.nodes}
    from_: dict[str, tuple[str, ...]] = {}
    for node in lowered.nodes:
        op = node.op
        if isinstance(op, Cell) or not node.inputs:
            from_[node.name] = (node.name,)
            continue
        sources = tuple(dict.fromkeys(source for name in node.inputs for source in from_[name]))
        from_[node.name] = sources
        if not isinstance(op, Synapse) or node.name in scales:
            continue
        axis, analogue = lowered.axes[node.name], node.name in graded
        found.append(
            connection(node, sources, _target(lowered, node.name), table[node.inputs[0]].shape, axis, analogue=analogue)
        )
    return tuple(found)


def connection(
    node: Node, sources: tuple[str, ...], target: str, entering: tuple[int, ...], axis: int, *, analogue: bool
) -> Connection:
    """The layer of weights ``node`` for an input of shape ``entering``; its channels are on ``axis``."""
    op = node.op
    assert isinstance(op, Synapse)
    ones = torch.ones((1, *entering), dtype=torch.float64)
    paths = op.paths().to(dtype=torch.float64).linear(ones)
    dense = op.macs((entering,), node.shape) or 0
    return Connection(
        node.name,
        sources,
        target,
        dense,
        int(torch.round(paths.sum())),
        op.weight.numel(),
        int((op.weight != 0).sum()),
        math.prod(entering),
        math.prod(node.shape),
        node.shape[axis - 1],
        _magnitudes(op),
        getattr(op, "groups", 1),
        tuple(op.weight.shape[2:]) if hasattr(op, "stride") else (),
        tuple(getattr(op, "stride", ())),
        analogue,
    )


def _magnitudes(op: Synapse) -> int:
    """The largest number of different |w| > 0 in one output channel."""
    weight = op.weight
    if getattr(op, "transposed", False):  # its first axis holds the input channels
        channels = weight.shape[1] * getattr(op, "groups", 1)
        marks = op.per_output(torch.arange(channels, dtype=torch.float64)).expand_as(weight).flatten()
        weight = weight.flatten()[marks.argsort(stable=True)].reshape(channels, -1)
    rows = weight.abs().reshape(len(weight) if weight.ndim > 1 else weight.numel(), -1).sort(1).values
    new = torch.ones_like(rows, dtype=torch.bool)
    new[:, 1:] = rows[:, 1:] > rows[:, :-1] * (1 + 1e-6)  # products are rounded in float32
    return int((new & (rows > 0)).sum(1).max()) if rows.numel() else 0


def _target(lowered: Lowered, name: str) -> str:
    """The first cell that integrates the output of a node, or the output node."""
    reached = {name}
    for node in lowered.nodes:
        if reached & set(node.inputs):
            if isinstance(node.op, Cell):
                return node.name
            reached.add(node.name)
    return lowered.output.name
