"""Which layers of a network of sigma-delta neurons the native library runs, and what they read."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.channels import resolved
from transpike.core.graph import Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.engines.dense.narrow import lowest_bits
from transpike.engines.native.delta import DeltaLayer, Neurons, Weights, rows
from transpike.lowering.bounds import Span, spans
from transpike.lowering.lowered import Lowered
from transpike.neurons import SigmaDelta
from transpike.ops import Conv, Linear
from transpike.ops.shape import Pad


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer of the library in the network: ``reads`` is the wire of its levels or, without weights, of currents.

    ``synapse`` and ``neuron`` are the nodes that it stands for, or "". ``axis``: that of the features of what it reads.
    ``first``: the bias, (positions or 1, features).
    """

    layer: DeltaLayer
    reads: str
    synapse: str
    neuron: str
    axis: int
    first: Tensor | None


@dataclass(frozen=True, eq=False)
class Levels:
    """``placed``: by the node at whose place a layer runs. ``passed``: nodes that are not run, as such layers stand for
    them. ``reads``: what every other node reads; ``last``: the last reader of each wire. ``largest``: bytes of the
    largest wire of one step.
    """

    placed: dict[str, Placed] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    largest: int = 0

    @classmethod
    def of(cls, lowered: Lowered, device: torch.device) -> "Levels":
        """``lowered``: the float64 form. Nothing is placed off the exact grid, where sums depend on their order."""
        exactness = lowered.exactness
        possible = exactness is not None and exactness.timesteps > 0 and device.type == "cpu"
        if not possible:
            return cls.none(lowered)
        assert exactness is not None
        return _placed(lowered, spans(lowered, exactness.input_bound))

    @classmethod
    def none(cls, lowered: Lowered) -> "Levels":
        """Every node runs by itself."""
        reads = {node.name: node.inputs for node in lowered.nodes}
        return cls(reads=reads, last=lowered.last_reader, largest=max(8 * prod(node.shape) for node in lowered.nodes))


def _placed(lowered: Lowered, found: dict[str, Span]) -> Levels:
    table = {node.name: node for node in lowered.nodes}
    readers: dict[str, list[str]] = {node.name: [] for node in lowered.nodes}
    for node in lowered.nodes:
        for name in node.inputs:
            readers[name].append(node.name)
    placed: dict[str, Placed] = {}
    passed: set[str] = set()
    reads = {node.name: node.inputs for node in lowered.nodes}
    for node in lowered.nodes:
        if isinstance(node.op, Synapse) and (one := _weights(lowered, table, node, found)) is not None:
            weights, source = one
            axis = resolved(node.op.channel_axis, len(node.shape))
            neuron = next((name for name in readers[node.name] if _fits(lowered, table[name], axis)), None)
            others = len(readers[node.name]) > (neuron is not None) or node.name == lowered.output.name
            place = _place(lowered, node, weights, source, axis, table[neuron] if neuron else None, others)
            passed |= {neuron} if neuron else set()
        elif node.name not in passed and _fits(lowered, node, lowered.axes[node.name]):
            place = _place(lowered, node, None, node.inputs[0], lowered.axes[node.name], node, False)
        else:
            continue
        placed[node.name], reads[node.name] = place, (place.reads,)
    for node in reversed(lowered.nodes):  # zeros around the levels that only such layers read
        if is_plain(node.op, Pad) and not any(node.name in reads[name] for name in readers[node.name]):
            passed.add(node.name)
    last = {name: node.name for node in lowered.nodes if node.name not in passed for name in reads[node.name]}
    natively = {place.neuron for place in placed.values()}
    opened = {name for node in lowered.nodes if node.name not in passed | placed.keys() for name in reads[node.name]}
    sizes = []
    for node in lowered.nodes:
        at = placed.get(node.name)  # others read levels in float32, and add in float64
        width = 2 if node.name in natively and node.name not in opened else 8
        exists = node.name in natively or (node.name not in passed and (at is None or at.layer.currents))
        sizes.append(width * prod(node.shape) if exists else 0)
    return Levels(placed, frozenset(passed), reads, last, max(sizes))


def _place(
    lowered: Lowered, node: Node, weights: Weights | None, source: str, axis: int, neuron: Node | None, others: bool
) -> Placed:
    space = [*node.shape[: axis - 1], *node.shape[axis:], node.shape[axis - 1]]
    neurons = first = None
    if neuron is not None:
        assert isinstance(neuron.op, SigmaDelta)
        neurons = Neurons.of(neuron.op, node.shape, axis)
        bias = lowered.biases[neuron.name][0]
        first = rows(bias, node.shape, axis) if bool(bias.any()) else None
    layer = DeltaLayer(weights, neurons, tuple(space), axis, others)
    return Placed(layer, source, node.name if weights else "", neuron.name if neuron else "", axis, first)


def _fits(lowered: Lowered, node: Node, axis: int) -> bool:
    """True for sigma-delta neurons whose function the library has, and whose features are on ``axis``."""
    op = node.op
    if not is_plain(op, SigmaDelta) or not is_plain(op.source, (Unchanged, ReLU, Clip)) or not node.shape:
        return False
    return lowered.axes[node.name] == axis and lowered.axes[node.inputs[0]] == axis and 0 not in node.shape


def _weights(
    lowered: Lowered, table: dict[str, Node], node: Node, found: dict[str, Span]
) -> tuple[Weights, str] | None:
    """The weights of a layer that reads levels, and the wire where they are sent, before zeros are put around them."""
    op = node.op
    assert isinstance(op, Synapse)
    if not is_plain(op, (Conv, Linear)) or 0 in node.shape:
        return None
    channels = node.shape[resolved(op.channel_axis, len(node.shape)) - 1]
    source, before = table[node.inputs[0]], (0, 0)
    if isinstance(op, Conv):
        one_each = op.groups == channels == source.shape[0]
        if (
            op.transposed
            or op.dimensions > 2
            or op.weight.ndim != len(node.shape) + 1
            or not (one_each or op.groups == 1)
        ):
            return None
        while is_plain(source.op, Pad) and (zeros := _zeros(source.op, op.dimensions)) is not None:
            before = before[0] + zeros[0], before[1] + zeros[1]
            source = table[source.inputs[0]]
    alphabet, largest = lowered.alphabets[source.name], float(found[source.name].largest.max())
    if (
        not alphabet.is_spiking
        or alphabet.kind not in ("bits", "levels", "binary")
        or not isinstance(source.op, SigmaDelta)
    ):
        return None
    made = Weights.of(op, lowest_bits(op, channels), largest, before)
    return None if made is None else (made, source.name)


def _zeros(pad: Op, dimensions: int) -> tuple[int, int] | None:
    """The zeros that a Pad puts in front of rows and columns of images; None if it does anything else."""
    assert isinstance(pad, Pad)
    amounts = (*pad.amounts, 0, 0, 0, 0)[: max(4, len(pad.amounts))]
    if pad.mode != "constant" or min(amounts) < 0 or any(amounts[2 * dimensions :]):
        return None
    return amounts[2], amounts[0]
