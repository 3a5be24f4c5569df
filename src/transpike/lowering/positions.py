"""The position of a sequence that every element of a network waits for."""

from collections.abc import Mapping

import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Input
from transpike.errors import UnsupportedModel
from transpike.lowering.entrances import LookUp
from transpike.lowering.lowered import Lowered
from transpike.ops.embedding import Embedding

PROBES = 3
"""Random sequences that are tried; a dependence that all of them miss would have to vanish three times."""
RELATIVE = 1e-9
"""A change that is smaller, relative to the largest value of its wire, is one of the arithmetic's order."""
TOGETHER = 16
"""Changed sequences that run at the same time."""


def positions(lowered: Lowered) -> dict[str, Tensor]:
    """Wire → the last position of the input that each of its elements depends on, (1, *shape); −1 for constants.

    For differential networks that look up one sequence of integers, (batch, length), and have one answer for
    each position. Found by trial: the sequence is changed from each position on, and an element waits for the last
    position whose change reaches it. The look-ups are random numbers in this, so that no two words look alike.
    Raises UnsupportedModel for other inputs, answers or cells, and if an answer depends on a later position.
    """
    for node in lowered.nodes:
        if isinstance(node.op, Cell) and type(node.op).settled is Cell.settled:
            raise UnsupportedModel(
                f"{node.name} ({node.op.describe()}) cannot begin later at some positions than at others, as a "
                "sequence that grows needs it; sigma-delta neurons, analogue operators and products can"
            )
    length = _length(lowered)
    starts = {n.name: _looked_up(n.op, length) for n in lowered.nodes if isinstance(n.op, LookUp)}
    found = {node.name: torch.full((1, *node.shape), -1) for node in lowered.nodes}
    for seed in range(PROBES):
        for first in range(0, length, TOGETHER):
            places = torch.tensor([*range(first, min(first + TOGETHER, length)), length])
            _try(lowered, starts, places, found, torch.Generator().manual_seed(seed))
    _check_causal(lowered, found[lowered.output.name][0], length)
    return found


def _length(lowered: Lowered) -> int:
    """The length of the sequence that the network takes and answers."""
    inputs = [node for node in lowered.nodes if isinstance(node.op, Input)]
    other = [node.name for node in inputs if not isinstance(node.op, LookUp)]
    parts = [(p.shape, p.name) for n in inputs if isinstance(n.op, LookUp) for p in n.op.layers.inputs]
    if other or len({name for _, name in parts}) != 1 or len(parts[0][0]) != 1:
        names = ", ".join(other or sorted({name for _, name in parts}))
        raise UnsupportedModel(
            f"only a network whose single input is a sequence of integers, (batch, length), which it looks up, "
            f"takes one position after another; this one reads {names}"
        )
    (length,), output = parts[0][0], lowered.output
    if len(output.shape) < 2 or output.shape[0] != length:
        raise UnsupportedModel(
            f"{output.name}: the answer is of shape {output.shape}, and one of the shape ({length}, …), one part for "
            f"each of the {length} positions of the input, is needed"
        )
    return length


def _looked_up(op: LookUp, length: int) -> Tensor:
    """The position of each element of a look-up, (1, *shape)."""
    first = torch.zeros((1, length), dtype=torch.float64)
    last = op.layers.output.op
    if not isinstance(last, Embedding) or len(last.weight) < 2:
        raise UnsupportedModel(f"{op.layers.output.name}: a table with one row cannot be read")
    places = torch.full((1, *op.shape), -1)
    base = op.part(first)
    for position in range(length):
        changed = first.clone()
        changed[0, position] = 1
        differs = (op.part(changed) != base).any(-1, keepdim=True)
        places = torch.where(differs, position, places)
    return places


def _try(
    lowered: Lowered, starts: dict[str, Tensor], places: Tensor, found: dict[str, Tensor], random: torch.Generator
) -> None:
    """Runs one random sequence, changed from each of ``places`` on, and updates ``found``. The last is unchanged."""
    values: dict[str, Tensor] = {}
    for node in lowered.nodes:
        if isinstance(node.op, LookUp):
            size = node.op.largest.double().clamp(min=2.0**-20).expand(1, *node.shape)
            one, other = (torch.randn(size.shape, generator=random, dtype=torch.float64) * size for _ in range(2))
            marks = places.reshape(-1, *[1] * len(node.shape))
            values[node.name] = torch.where(starts[node.name] >= marks, other, one)
            found[node.name] = starts[node.name]
            continue
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.op, Cell):
            charges = [x + bias for x, bias in zip(inputs, lowered.biases[node.name], strict=True)]
            values[node.name] = node.op.settled(*charges)
        else:
            values[node.name] = node.op.linear(*inputs)
        if isinstance(node.op, Neuron):  # a function of each value: that of two values may be the same
            found[node.name] = torch.maximum(found[node.name], found[node.inputs[0]])
            continue
        value = values[node.name]
        differs = (value - value[-1:]).abs() > RELATIVE * value.abs().amax()
        reached = torch.where(differs, places.reshape(-1, *[1] * (value.ndim - 1)), -1).amax(0, keepdim=True)
        found[node.name] = torch.maximum(found[node.name], reached)


def _check_causal(lowered: Lowered, waits: Tensor, length: int) -> None:
    """Raises UnsupportedModel where the answer at a position waits for a later one."""
    each = waits.reshape(length, -1).amax(1)
    late = (each > torch.arange(length)).nonzero().flatten().tolist()
    if late:
        raise UnsupportedModel(
            f"{lowered.output.name}: the answer at position {late[0]} depends on the input at position "
            f"{int(each[late[0]])}, so that the network is not causal: it cannot continue a sequence. Its attention "
            "needs a causal mask"
        )


def multiplications(lowered: Lowered, present: Mapping[str, Tensor]) -> float:
    """Multiplications of one pass without spikes over the elements that are ``present``, (1, *shape) by name.

    Those of terms of products and weights whose elements all exist. Factors that only the lowered form has are left
    out.
    """
    total, shapes = 0.0, {node.name: node.shape for node in lowered.nodes}
    for node in lowered.nodes:
        op = node.op
        if isinstance(op, Cell) and op.multiplies:
            here = [present[name].double() for name in node.inputs]
            nothing = [torch.zeros_like(one) for one in here[1:]]
            total += float(op.state_reads(here[0], *nothing, partners=here))
        elif node.inputs and "→" not in node.name:
            macs = op.macs(tuple(shapes[name] for name in node.inputs), node.shape) or 0
            total += macs * float(present[node.name].double().mean())
    return total
