"""Preparation for the event engine: which layers the native kernels run, and their weights."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.alphabet import BINARY
from transpike.core.cell import Cell
from transpike.core.channels import resolved
from transpike.core.graph import Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.engines.event.firing import FINITE, ONE, SIGNED, Factors, Firing, joined, of_alphabet
from transpike.engines.event.pools import EventPool, pool_of
from transpike.engines.event.weights import (
    BLOCK,
    GATHER,
    GRADED,
    LONGEST_LIST,
    LOOKUP,
    MASKED,
    NARROW,
    NARROW_LOOKUP,
    UnfitError,
    block_weights,
    blocks_of,
    image,
    most_listed,
    narrow_units,
    padded,
    pair,
    rows,
    sums_are_narrow,
    ungrouped,
)
from transpike.engines.native.library import UNIT
from transpike.lowering.lowered import Lowered
from transpike.neurons import LateralInhibition
from transpike.ops import Add, AvgPool, Conv, Linear, Pad
from transpike.ops.scale import Scale
from transpike.ops.wiring import Selection

KINDS = {GATHER: "gather", LOOKUP: "look-up", MASKED: "masked", NARROW: "gather, 16 bits",
         NARROW_LOOKUP: "look-up, 16 bits", GRADED: "levels"}  # fmt: skip
LARGEST_TABLE = 2 * 2**20  # bytes of a look-up table that fits into the cache
MOST_TAPS = 100  # of a masked synapse, summed over all planes; of a graded one without planes
MOST_KEPT = 128  # inputs of one channel that a graded synapse keeps
MOST_PLANES = 64
FEW = 48  # channels of a 1×1 convolution that reads tables: to write and read lists of so few takes longer
TALLEST = 16  # rows of a convolution kernel that uses the look-up table
FARTHEST = 4096  # largest stride, padding, dilation and number of kernel rows
MOST_SOURCES = 64


@dataclass(frozen=True, eq=False)
class Source:
    """One synapse into a layer: the planes of a wire that have one factor, its native kernel, weights times that factor
    in blocks, and geometry; for ``GRADED`` all planes, and their ``factors``.

    It reads ``channels`` padded channels of the wire from ``first`` on: those of a wide wire are divided among several
    sources, because list entries have 16 bits.
    """

    wire: str
    planes: tuple[int, ...]
    first: int
    channels: int
    kind: int
    weights: Tensor
    units: Tensor
    factors: Tensor
    block_weights: Tensor
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True, eq=False)
class EventLayer:
    """A layer of neurons for the native kernel. Rows of values are (1 or positions, padded channels).

    ``constant_wires`` are wires with the same current in every step, and their factors; ``bias`` is the synapses'.
    """

    node: Node
    sources: tuple[Source, ...]
    constant_wires: tuple[tuple[str, float], ...]
    bias: Tensor
    threshold: Tensor
    initial: Tensor
    room: Tensor
    hard: bool
    firing: Firing
    edge: Tensor
    leak: float
    block_start: Tensor
    block_units: Tensor

    @property
    def wires(self) -> tuple[str, ...]:
        """The wires of spikes that it reads."""
        return tuple(source.wire for source in self.sources)

    @property
    def kernel(self) -> str:
        """The name of its kernel in reports."""
        kinds = sorted({KINDS[source.kind] for source in self.sources})
        return "event: " + (" + ".join(kinds) or "constant current")

    @property
    def planes(self) -> Factors:
        """The factors of the planes that it sends."""
        return self.firing.planes


@dataclass(frozen=True, eq=False)
class Choice:
    """The assignment of kernels. ``layers`` are native; ``moved`` is wiring on packed spikes; the rest is dense.

    ``dense`` are the nodes whose real values are needed; ``kernels`` lists the kernel of every cell and the reason.
    ``planes`` are the factors of the planes of wires that are packed, or can be.
    """

    layers: dict[str, EventLayer | EventPool]
    moved: frozenset[str]
    dense: frozenset[str]
    kernels: dict[str, str] = field(default_factory=dict)
    planes: dict[str, Factors] = field(default_factory=dict)


def choose(lowered: Lowered, constant: frozenset[str], unwanted: frozenset[str] = frozenset()) -> Choice:
    """Assign the native kernels to all layers that they can run, except the ``unwanted`` ones."""
    table = {node.name: node for node in lowered.nodes}
    layers: dict[str, EventLayer | EventPool] = {}
    kernels: dict[str, str] = {}
    planes: dict[str, Factors] = {}  # wires that are available as packed spikes
    for node in lowered.nodes:
        if node.name in constant:
            continue
        if isinstance(node.op, Input):
            if lowered.alphabets[node.name] == BINARY and len(node.shape) <= 3:  # spikes, as of a recording
                planes[node.name] = (1,)
            continue
        if not isinstance(node.op, Cell):
            if found := _planes(node, planes):
                planes[node.name] = found
            continue
        try:
            if node.name in unwanted:
                raise UnfitError("its inputs fire too often for events to be faster")
            layer = _Compiler(lowered, table, constant, planes).cell(node, node.op)
            layers[node.name], kernels[node.name], planes[node.name] = layer, layer.kernel, layer.planes
        except UnfitError as reason:
            kernels[node.name] = f"dense: {reason}"
            whole = of_alphabet(lowered.alphabets[node.name])
            if whole and len(node.shape) <= 3:
                planes[node.name] = whole
    dense = _dense_nodes(lowered, table, constant, layers)
    moved: set[str] = set()
    wanted = [wire for layer in layers.values() for wire in layer.wires]
    while wanted:
        node = table[wanted.pop()]
        if isinstance(node.op, Input):
            dense |= {node.name}
        elif not isinstance(node.op, Cell) and node.name not in moved:
            moved.add(node.name)
            wanted.extend(node.inputs)
    return Choice(layers, frozenset(moved), dense, kernels, planes)


def _planes(node: Node, planes: dict[str, Factors]) -> Factors:
    """The planes of packed spikes whose sum is the wire; none if it is not available in this form."""
    if len(node.shape) > 3 or not all(name in planes for name in node.inputs):
        return ()
    op, found = node.op, Factors()
    if is_plain(op, Pad) and op.mode != "constant":
        return ()
    if is_plain(op, Selection):
        found = joined([planes[name] for name in node.inputs])
    elif is_plain(op, AvgPool) and not op.divide and len(op.kernel) <= 2:
        found = tuple(factor for factor in planes[node.inputs[0]] for _ in range(prod(op.kernel)))
    return found if len(found) <= MOST_PLANES else ()


def _dense_nodes(
    lowered: Lowered, table: dict[str, Node], constant: frozenset[str], layers: dict[str, EventLayer | EventPool]
) -> frozenset[str]:
    """The output and the cells without a kernel, and all linear nodes before them, up to the cells that feed them."""
    needed: set[str] = set()
    heads = [lowered.output.name]
    heads += [n.name for n in lowered.nodes if isinstance(n.op, Cell) and n.name not in layers]
    open_nodes = list(heads)
    while open_nodes:
        name = open_nodes.pop()
        if name in needed or name in constant:
            continue
        needed.add(name)
        node = table[name]
        if not isinstance(node.op, Cell) or name not in layers:
            open_nodes.extend(node.inputs)
    return frozenset(needed)


class _Compiler:
    """Analyses the input of one cell."""

    def __init__(
        self, lowered: Lowered, table: dict[str, Node], constant: frozenset[str], planes: dict[str, Factors]
    ) -> None:
        self.lowered, self.table, self.constant, self.planes = lowered, table, constant, planes

    def cell(self, node: Node, cell: Cell) -> EventLayer | EventPool:
        if is_plain(cell, LateralInhibition):
            return pool_of(node, cell, self.lowered, self.planes)
        unit = cell.unit
        if unit is None or len(node.inputs) != 1:
            raise UnfitError(f"{cell.describe()} has no kernel")
        firing = Firing.of(unit, self.lowered.alphabets[node.name])
        channels = image(node.shape)[0]
        terms = list(self._terms(node.inputs[0], 1.0, node.shape))
        constant_wires = tuple((name, factor) for name, factor in terms if name in self.constant)
        synapses = [(self.table[name], factor) for name, factor in terms if name not in self.constant]
        shapes = [self._shape(synapse, channels) for synapse, _ in synapses]
        starts, units = blocks_of(channels, [groups for _, groups, _ in shapes])
        parts = [
            (*synapse, kind, groups, first, size)
            for synapse, (kind, groups, size) in zip(synapses, shapes, strict=True)
            for first in range(0, padded(image(self.table[synapse[0].inputs[0]].shape)[0]), size)
        ]
        if len(parts) > MOST_SOURCES:
            raise UnfitError(f"more than {MOST_SOURCES} synapses, or parts of wide ones, feed it")
        sources = tuple(source for part in parts for source in self._sources(*part, starts, units, channels))
        if len(sources) > MOST_SOURCES:
            raise UnfitError(f"more than {MOST_SOURCES} planes of levels feed it")
        fill = torch.inf if firing.rule == ONE else FINITE
        exactness = self.lowered.exactness
        room = None if exactness is None else exactness.rooms.get(node.name)
        return EventLayer(
            node,
            sources,
            constant_wires,
            rows(self.lowered.biases[node.name][0], node.shape, 0.0),
            rows(unit.threshold, node.shape, fill),
            rows(unit.initial, node.shape, 0.0),
            rows(torch.tensor(torch.inf) if room is None else room, node.shape, torch.inf),
            unit.reset == "hard",
            firing,
            rows(firing.edge, node.shape, -FINITE if firing.rule == SIGNED else FINITE),
            unit.leak,
            torch.tensor(starts),
            torch.tensor(units),
        )

    def _terms(self, name: str, factor: float, shape: tuple[int, ...]) -> Iterator[tuple[str, float]]:
        """(constant wire or synapse, factor) for every term of the current."""
        node = self.table[name]
        if node.shape != shape:
            raise UnfitError(f"{name} is broadcast")
        if name in self.constant or isinstance(node.op, Synapse):
            yield name, factor
        elif is_plain(node.op, Add):
            for source, coefficient in zip(node.inputs, node.op.coefficients, strict=True):
                yield from self._terms(source, factor * coefficient, shape)
        else:
            what = node.op.describe() if isinstance(node.op, (Op, Cell)) else "input"
            raise UnfitError(f"{what} lies between the synapse and the neuron")

    def _shape(self, node: Node, channels: int) -> tuple[int, int, int]:
        """(kernel, groups, channels that one source reads). Raises UnfitError with the reason if there is no kernel."""
        op, wire = node.op, node.inputs[0]
        if wire not in self.planes:
            raise UnfitError(f"{wire} does not carry spikes of integer levels")
        planes = max(Counter(self.planes[wire]).values())  # of one factor
        inputs = image(self.table[wire].shape)[0]
        every = padded(inputs)
        if is_plain(op, Scale):
            if op.weight.ndim > 1:
                raise UnfitError("its synapse has one weight per element")
            if op.weight.ndim and resolved(op.channel_axis, len(node.shape)) != 1:
                raise UnfitError("its channels are not the first axis")
            return MASKED, 1, every
        if is_plain(op, Linear):
            if len(node.shape) > 1:
                raise UnfitError("a linear layer over several positions has no kernel")
            return GATHER, 1, min(every, most_listed(1, (1, 1)))
        if not is_plain(op, Conv) or op.transposed or op.dimensions > 2:
            raise UnfitError(f"{op.describe() if isinstance(op, Op) else '?'} has no kernel")
        kernel, taps = pair(op.weight.shape[2:], 1), prod(op.weight.shape[2:])
        if op.groups == inputs == channels:
            kept = ((kernel[1] - 1) * pair(op.dilation, 1)[1] + 1) * kernel[0]
            # of two planes it takes as long as a list of places for each
            if len(self.planes[wire]) > 2 and 1 < taps <= MOST_TAPS and kept <= MOST_KEPT:
                return GRADED, 1, every
            if taps * planes <= MOST_TAPS:
                return MASKED, 1, every
        groups = op.groups
        while groups > 1 and (inputs // groups % UNIT or channels // groups % UNIT or op.groups % groups):
            groups -= 1
        width = image(self.table[wire].shape)[2]
        table = kernel[0] * kernel[1] * 2 * 256 * min(padded(channels), BLOCK * UNIT) * 4
        longest = most_listed(width, kernel)
        single = planes == 1 or (planes == 2 and len(set(self.planes[wire])) > 1)  # two equal factors of a burst
        tabled = single and kernel[0] <= TALLEST and table <= LARGEST_TABLE
        few = every == UNIT or (groups == 1 and kernel == (1, 1) and every <= FEW)
        if tabled and (few or (groups == 1 and not longest)):
            return LOOKUP, 1, UNIT
        if groups == 1 and longest:
            return GATHER, 1, min(every, longest)
        if padded(inputs // groups) > longest:
            raise UnfitError(f"a row of its windows has more than {LONGEST_LIST} inputs of one group or 16 channels")
        return GATHER, groups, every

    def _sources(
        self,
        node: Node,
        factor: float,
        kind: int,
        groups: int,
        first: int,
        size: int,
        starts: list[int],
        units: list[int],
        channels: int,
    ) -> list[Source]:
        op, wire = node.op, node.inputs[0]
        assert isinstance(op, Synapse)
        inputs = image(self.table[wire].shape)[0]
        kernel, stride, padding, dilation = (1, 1), (1, 1), (0, 0), (1, 1)
        if is_plain(op, Conv):
            kernel, stride = pair(op.weight.shape[2:], 1), pair(op.stride, 1)
            padding, dilation = pair(op.padding, 0), pair(op.dilation, 1)
        if max(kernel[0], *stride, *padding, *dilation) > FARTHEST:
            raise UnfitError(f"its stride, padding, dilation or kernel is beyond {FARTHEST}")
        blocks = list(zip(starts, units, strict=True))
        units_of = torch.zeros(0)
        if kind in (MASKED, GRADED):
            weight = op.weight.expand(channels) if op.weight.ndim == 0 else op.weight
            taps = (weight * factor).reshape(channels, -1).t()  # (taps, channels)
            taps = F.pad(taps, (0, padded(channels) - channels))
            parts = [taps[:, start : start + count * UNIT] for start, count in blocks]
        else:
            dense = ungrouped(op, groups, inputs, channels) * factor  # (out, in of a group, y, x)
            dense = dense[:, first : first + size]
            narrow = narrow_units(dense)
            if narrow is not None and (kind == GATHER or sums_are_narrow(dense / narrow[:, None, None, None])):
                kind = NARROW if kind == GATHER else NARROW_LOOKUP
                units_of = F.pad(narrow, (0, padded(channels) - channels))
                dense = dense / narrow[:, None, None, None]
            parts = [block_weights(dense, kind, groups, start, count, padded(channels)) for start, count in blocks]
        kept = torch.int16 if kind in (NARROW, NARROW_LOOKUP) else torch.float32
        weights = torch.cat([part.to(kept).reshape(-1) for part in parts])
        sizes = [0, *(part.numel() for part in parts)]
        offsets = torch.tensor(sizes).cumsum(0)[:-1].contiguous()
        size, found, planes = min(size, padded(inputs) - first), list[Source](), self.planes[wire]
        geometry, none = (groups, kernel, stride, padding, dilation), torch.zeros(0)
        if kind == GRADED:
            every, levels = tuple(range(len(planes))), torch.tensor(planes, dtype=torch.float32)
            return [Source(wire, every, first, size, kind, weights, units_of, levels, offsets, *geometry)]
        for each in sorted(set(planes), reverse=True):
            own = tuple(index for index, one in enumerate(planes) if one == each)
            whole = kind in (NARROW, NARROW_LOOKUP)  # weights of 16 bits, which carry the factor in their units
            own_weights, own_units = (weights, units_of * each) if whole else (weights * each, units_of)
            tables = kind in (LOOKUP, NARROW_LOOKUP)  # they read one plane
            for part in [(index,) for index in own] if tables else [own]:
                found.append(Source(wire, part, first, size, kind, own_weights, own_units, none, offsets, *geometry))
        return found
