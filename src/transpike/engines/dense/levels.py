"""Which layers of a network of sigma-delta neurons the native library runs, and what they read."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.cell import Cell
from transpike.core.channels import resolved
from transpike.core.graph import Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.engines.dense.maxima import pools_levels
from transpike.engines.dense.narrow import lowest_bits
from transpike.engines.dense.wiring import passes_levels
from transpike.engines.native.delta import LARGEST_LEVEL, DeltaLayer, Neurons, Weights, rows
from transpike.engines.native.library import UNIT
from transpike.lowering.bounds import Span, spans
from transpike.lowering.lowered import Lowered
from transpike.neurons import SigmaDelta
from transpike.ops import Add, Conv, Linear, Scale
from transpike.ops.shape import Pad


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer of the library in the network: ``reads`` is the wire of its levels or, without weights, of currents.

    ``currents`` and ``neuron`` are the nodes that it represents, or "": weights, or their sum with the wire ``adds``,
    and neurons. ``adds`` carries currents, or levels if the layer has ``factors`` for them. ``axis``: that of the
    features of what it reads. ``first``: the bias, (positions or 1, features).
    """

    layer: DeltaLayer
    reads: str
    currents: str
    neuron: str
    axis: int
    first: Tensor | None
    adds: str = ""


@dataclass(frozen=True, eq=False)
class Levels:
    """``placed``: by the node at whose place a layer runs. ``passed``: nodes that are not run, as such layers represent
    them. ``wired``: wiring and maximum pooling that pass 16-bit levels on to such layers. ``reads``: what every other
    node reads; ``last``: the last reader of each wire. ``largest``: bytes of the largest wire of one step.
    """

    placed: dict[str, Placed] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    wired: frozenset[str] = frozenset()
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


@dataclass(frozen=True, eq=False)
class _Summed:
    """Weights that read the levels of a wire, at the place of ``node``: of the weights, or of their sum with ``adds``.

    ``passed``: the other nodes that such a layer represents.
    """

    node: Node
    weights: Weights
    reads: str
    axis: int
    adds: str = ""
    factors: Tensor | None = None
    passed: frozenset[str] = frozenset()


def _placed(lowered: Lowered, found: dict[str, Span]) -> Levels:
    network = _Network.of(lowered, found)
    table, readers = network.table, network.readers
    summed: dict[str, _Summed] = {}  # by the node at whose place the layer runs
    for node in lowered.nodes:
        if isinstance(node.op, Synapse) and (one := network.weights(node)) is not None:
            one = network.with_sum(one, frozenset(summed)) or one
            summed[one.node.name] = one
    wired = network.wiring(summed.values())
    read = {name for one in summed.values() for name in (one.reads, one.adds)}
    read |= {source for name in wired for source in table[name].inputs}
    placed: dict[str, Placed] = {}
    passed = {name for one in summed.values() for name in one.passed}
    reads = {node.name: node.inputs for node in lowered.nodes}
    for node in lowered.nodes:
        if node.name in summed:
            one = summed[node.name]
            neuron = next((name for name in readers[node.name] if _fits(lowered, table[name], one.axis)), None)
            others = len(readers[node.name]) > (neuron is not None) or node.name == lowered.output.name
            place = _place(lowered, node, one, table[neuron] if neuron else None, others)
            passed |= {neuron} if neuron else set()
        elif node.name not in passed and _fits(lowered, node, lowered.axes[node.name]):
            place = _place(lowered, node, None, node, False, None if node.name in read else _wide_axis(lowered, node))
        else:
            continue
        placed[node.name] = place
        reads[node.name] = (place.reads, place.adds) if place.adds else (place.reads,)
    for node in reversed(lowered.nodes):  # zeros around the levels that only such layers read
        if is_plain(node.op, Pad) and not any(node.name in reads[name] for name in reads if name not in passed):
            passed.add(node.name)
    last = {name: node.name for node in lowered.nodes if node.name not in passed for name in reads[node.name]}
    natively = {place.neuron for place in placed.values()}
    inside = passed | placed.keys() | wired
    opened = {name for node in lowered.nodes if node.name not in inside for name in reads[node.name]}
    sizes = []
    for node in lowered.nodes:
        at = placed.get(node.name)  # others read levels in float32, and add in float64
        width = 2 if node.name in natively | wired and node.name not in opened else 8
        exists = node.name in natively or (node.name not in passed and (at is None or at.layer.currents))
        sizes.append(width * prod(node.shape) if exists else 0)
        if node.name in wired and isinstance(node.op, Cell):  # maxima of estimates in 32 bits, and the estimates
            sizes.append(8 * prod(table[node.inputs[0]].shape))
    return Levels(placed, frozenset(passed), wired - passed, reads, last, max(sizes))


def _wide_axis(lowered: Lowered, node: Node) -> int:
    """The axis whose neurons lie next to each other, where no weights expect a certain one: the last one if the feature
    axis, for example of heads, is shorter than a vector.
    """
    axis, shape = lowered.axes[node.name], node.shape
    return len(shape) if shape[axis - 1] < UNIT <= shape[-1] else axis


def _place(
    lowered: Lowered, node: Node, summed: _Summed | None, neuron: Node | None, others: bool, axis: int | None = None
) -> Placed:
    axis = summed.axis if summed else axis or lowered.axes[node.name]
    space = [*node.shape[: axis - 1], *node.shape[axis:], node.shape[axis - 1]]
    neurons = first = None
    if neuron is not None:
        assert isinstance(neuron.op, SigmaDelta)
        neurons = Neurons.of(neuron.op, node.shape, axis)
        bias = lowered.biases[neuron.name][0]
        first = rows(bias, node.shape, axis) if bool(bias.any()) else None
    name = neuron.name if neuron else ""
    if summed is None:
        return Placed(DeltaLayer(None, neurons, tuple(space), axis, others), node.inputs[0], "", name, axis, first)
    layer = DeltaLayer(summed.weights, neurons, tuple(space), axis, others, summed.factors)
    return Placed(layer, summed.reads, node.name, name, axis, first, summed.adds)


def _fits(lowered: Lowered, node: Node, axis: int) -> bool:
    """True for sigma-delta neurons whose function the library has, and whose features are on ``axis``."""
    op = node.op
    if not is_plain(op, SigmaDelta) or not is_plain(op.source, (Unchanged, ReLU, Clip)) or not node.shape:
        return False
    return lowered.axes[node.name] == axis and lowered.axes[node.inputs[0]] == axis and 0 not in node.shape


@dataclass(frozen=True, eq=False)
class _Network:
    """``readers`` of each wire; ``found``: the spans of the wires; ``sending``: the wires of 16-bit levels."""

    lowered: Lowered
    table: dict[str, Node]
    readers: dict[str, list[str]]
    found: dict[str, Span]
    sending: frozenset[str]

    @classmethod
    def of(cls, lowered: Lowered, found: dict[str, Span]) -> "_Network":
        readers: dict[str, list[str]] = {node.name: [] for node in lowered.nodes}
        table = {node.name: node for node in lowered.nodes}
        sending: set[str] = set()
        for node in lowered.nodes:
            for name in node.inputs:
                readers[name].append(node.name)
            alphabet = lowered.alphabets[node.name]
            known = alphabet.is_spiking and alphabet.kind in ("bits", "levels", "binary")
            passed = known and bool(node.inputs) and sending.issuperset(node.inputs) and 0 not in node.shape
            if passed and not pools_levels(lowered, node):
                small = float(found[node.name].largest.max()) <= LARGEST_LEVEL
                passed = small and passes_levels(lowered, node, table[node.inputs[0]].shape)
            if passed or (known and isinstance(node.op, SigmaDelta)):
                sending.add(node.name)
        return cls(lowered, table, readers, found, frozenset(sending))

    def wiring(self, summed: Iterable[_Summed]) -> frozenset[str]:
        """The wiring between neurons and the weights, or factors, that read their levels."""
        found: set[str] = set()
        names = [name for one in summed for name in (one.reads, one.adds if one.factors is not None else one.reads)]
        while names:
            node = self.table[names.pop()]
            if node.name not in found and not isinstance(node.op, SigmaDelta):
                found.add(node.name)
                names += node.inputs
        return frozenset(found)

    def weights(self, node: Node) -> _Summed | None:
        """Weights that read levels, where they are sent, before zeros are put around them."""
        op = node.op
        assert isinstance(op, Synapse)
        if not is_plain(op, (Conv, Linear)) or 0 in node.shape:
            return None
        axis = resolved(op.channel_axis, len(node.shape))
        channels = node.shape[axis - 1]
        source, before = self.table[node.inputs[0]], (0, 0)
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
                source = self.table[source.inputs[0]]
        if source.name not in self.sending:
            return None
        made = Weights.of(op, lowest_bits(op, channels), self._largest(source), before)
        return None if made is None else _Summed(node, made, source.name, axis)

    def with_sum(self, one: _Summed, taken: frozenset[str]) -> _Summed | None:
        """The same with the sum that alone reads its currents; None if there is none, or if it is ``taken``."""
        node, readers = one.node, self.readers[one.node.name]
        if len(readers) != 1 or readers[0] in taken or node.name == self.lowered.output.name:
            return None
        total = self.table[readers[0]]
        if not is_plain(total.op, Add) or total.op.coefficients != (1.0, 1.0) or total.inputs[0] == total.inputs[1]:
            return None
        (other,) = (self.table[name] for name in total.inputs if name != node.name)
        same = node.shape == other.shape == total.shape
        if not same or any(self.lowered.axes[name] != one.axis for name in (total.name, other.name)):
            return None
        found = replace(one, node=total, adds=other.name, passed=frozenset({node.name}))
        return self._with_levels(found, other) or found

    def _with_levels(self, one: _Summed, other: Node) -> _Summed | None:
        """The same for a wire that only multiplies levels by one number for each channel, as a shortcut does."""
        source = self.table[other.inputs[0]] if is_plain(other.op, Scale) else None
        if source is None or self.readers[other.name] != [one.node.name] or other.name == self.lowered.output.name:
            return None
        scale = other.op
        assert isinstance(scale, Scale)
        per_channel = scale.weight.ndim == 0 or resolved(scale.axis, len(other.shape)) == one.axis
        if scale.weight.ndim > 1 or not per_channel or source.name not in self.sending:
            return None
        if self.lowered.axes[source.name] != one.axis or source.shape != other.shape:
            return None
        factors = scale.weight.double().expand(other.shape[one.axis - 1]).contiguous()
        return replace(one, adds=source.name, factors=factors, passed=one.passed | {other.name})

    def _largest(self, node: Node) -> float:
        """The largest |level|."""
        return float(self.found[node.name].largest.max())


def _zeros(pad: Op, dimensions: int) -> tuple[int, int] | None:
    """The zeros that a Pad puts before rows and columns of images; None if it does anything else."""
    assert isinstance(pad, Pad)
    amounts = (*pad.amounts, 0, 0, 0, 0)[: max(4, len(pad.amounts))]
    if pad.mode != "constant" or min(amounts) < 0 or any(amounts[2 * dimensions :]):
        return None
    return amounts[2], amounts[0]
