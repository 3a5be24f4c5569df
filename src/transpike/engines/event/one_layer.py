"""Single layers on the native kernels, for conversions that simulate a network layer by layer."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.alphabet import GRADED
from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph, Input, Node, PackedInput
from transpike.core.op import Op
from transpike.engines.event.call import LayerCall
from transpike.engines.event.firing import FINITE, ONE, SIGNED, Factors, Firing
from transpike.engines.event.layers import Choice, EventLayer, choose
from transpike.engines.event.weights import UnfitError, image, padded, rows
from transpike.engines.event.wires import Planes, lanes_of, moved, of_one_stride
from transpike.engines.native import library as _native
from transpike.errors import UnsupportedModel
from transpike.lowering.currents import Currents
from transpike.lowering.lowered import Lowered, lower
from transpike.lowering.trains import BYTE, Kernel, Levels, Train, Values, joined

MOST_OFTEN = 0.25
"""Bits per neuron and step of an input above which a layer runs dense: a fixed rate, independent of any clock."""
KERNELS = (ONE, SIGNED)
"""Rules of layers that are run here; bursts set more bits than a dense layer is worth, and others leak."""
TOGETHER = 2**22
"""Neurons that are simulated in one call."""
CONSTANT_SAMPLES = 4
BLOCK = 2**15
"""Words whose ones are counted together, in the cache."""


@dataclass(eq=False)
class Packed:
    """A train of integer levels as words of 32 steps: for each word its planes, (batch, height, width,
    padded channels), whose sum it is, each times its factor.
    """

    words: list[Planes]
    factors: Factors
    shape: tuple[int, ...]
    timesteps: int
    spike_scale: Tensor | None

    def part(self, rows: slice) -> Tensor:
        """The charge of the samples ``rows``, (time, samples, *shape), channels last in memory."""
        found, library, channels = [], _library(), self.shape[0]
        for steps, planes in zip(_steps(self.timesteps), self.words, strict=True):
            levels = torch.zeros(())
            for factor, plane in zip(self.factors, planes, strict=True):
                plane = plane[rows].contiguous()
                values = torch.empty((steps, *plane.shape))
                library.tp_unpack(plane.data_ptr(), plane.numel(), 0, steps, torch.get_num_threads(), values.data_ptr())
                levels = (
                    levels.add_(values, alpha=factor) if levels.ndim else values if factor == 1 else values * factor
                )
            found.append(levels[..., :channels].movedim(-1, 2))
        charge = joined(found, 0)
        charge = charge.reshape(*charge.shape[:2], *self.shape)
        return charge if self.spike_scale is None else charge.mul_(self.spike_scale)

    @property
    def train(self) -> Train:
        return self

    @property
    def mean(self) -> Tensor:
        """(batch, *shape): the mean charge over time; the caller may change it."""
        counts = torch.zeros(self.words[0][0].shape)
        for factor, words in (
            (f, plane) for planes in self.words for f, plane in zip(self.factors, planes, strict=True)
        ):
            for few, total in zip(words.flatten().split(BLOCK), counts.view(-1).split(BLOCK), strict=True):
                total.add_(_ones(few), alpha=factor)
        mean = counts[..., : self.shape[0]].movedim(-1, 1).reshape(-1, *self.shape) / self.timesteps
        return mean if self.spike_scale is None else mean.mul_(self.spike_scale)

    @cached_property
    def rate(self) -> float:
        """Bits of all planes per neuron and step."""
        samples, neurons = len(self.words[0][0]), self.words[0][0][0].numel()
        fan, totals = torch.zeros(neurons, dtype=torch.int32), torch.zeros((2, _native.STEPS), dtype=torch.int64)
        for steps, planes in zip(_steps(self.timesteps), self.words, strict=True):
            for plane in planes:
                _library().tp_count(
                    plane.data_ptr(), fan.data_ptr(), samples, neurons, steps, torch.get_num_threads(),
                    totals[0].data_ptr(), totals[1].data_ptr(),
                )  # fmt: skip
        return int(totals[0].sum()) / (samples * prod(self.shape) * self.timesteps)


@dataclass(frozen=True, eq=False)
class LayerKernel:
    """A layer of neurons whose inputs are ``trains``, over all steps."""

    layer: EventLayer
    choice: Choice
    lowered: Lowered
    trains: Mapping[str, Train]
    samples: int
    timesteps: int

    def __call__(self, cell: Neuron, shift: Tensor | None) -> Packed | None:
        firing, unit, shape = _firing(cell), cell.unit, self.layer.node.shape
        if firing is None or unit is None or firing.rule not in KERNELS:
            return None
        bias = self.layer.bias if shift is None else self.layer.bias + rows(shift, shape, 0.0)
        layer = replace(
            self.layer,
            bias=bias,
            threshold=rows(unit.threshold, shape, torch.inf if firing.rule == ONE else FINITE),
            initial=rows(unit.initial, shape, 0.0),
            hard=unit.reset == "hard",
            firing=firing,
            edge=rows(firing.edge, shape, -FINITE if firing.rule == SIGNED else FINITE),
        )
        channels, height, width = image(shape)
        few = max(1, TOGETHER // (padded(channels) * height * width))
        parts = [self._part(LayerCall.of(layer), slice(i, i + few)) for i in range(0, self.samples, few)]
        words = [list(torch.cat(one, 1)) for one in zip(*parts, strict=True)]
        return Packed(words, firing.planes, shape, self.timesteps, cell.output_scale())

    def _part(self, prepared: LayerCall, samples: slice) -> list[Tensor]:
        """The words that some samples send: for each word (planes, batch, height, width, padded channels)."""
        layer, library = prepared.layer, _library()
        channels, height, width = image(layer.node.shape)
        constant = self._constant(layer, samples)
        batch = min(samples.stop, self.samples) - samples.start
        words, found, scratch = _steps(self.timesteps), [], torch.empty(0)
        state: Any = None
        if len(words) > 1:
            potential = torch.empty((batch, height * width, padded(channels)))
            state = (potential, torch.empty_like(potential)) if layer.firing.counts_sent else potential
        for number, steps in enumerate(words):
            fired = torch.empty((len(layer.planes), batch, height, width, padded(channels)), dtype=torch.int32)
            planes = {source.wire: self._planes(source.wire, number, samples) for source in layer.sources}
            wires = [of_one_stride([planes[source.wire][i] for i in source.planes]) for source in layer.sources]
            call, alive = prepared.filled(wires, constant, state, fired, steps, number * _native.STEPS, not number)
            call.threads = torch.get_num_threads()
            needed = library.tp_scratch_bytes(ctypes.byref(call))
            if needed < 0:
                raise UnsupportedModel(f"the native library refuses {layer.node.name}: set TRANSPIKE_NATIVE=off")
            if needed > scratch.nbytes:
                scratch = torch.empty(needed, dtype=torch.uint8)
            library.tp_run(ctypes.byref(call), scratch.data_ptr())
            del alive  # the kernel's inputs can be freed only now
            found.append(fired)
        return found

    def _planes(self, wire: str, number: int, samples: slice) -> Planes:
        """A wire as packed spikes of the word ``number``; wiring moves them."""
        train = self.trains.get(wire)
        if isinstance(train, Packed):
            return [plane[samples] for plane in train.words[number]]
        table = {node.name: node for node in self.lowered.nodes}
        node = table[wire]
        shapes = [table[name].shape for name in node.inputs]
        factors = [self.choice.planes[name] for name in node.inputs]
        return moved(node, [self._planes(name, number, samples) for name in node.inputs], shapes, factors)

    def _constant(self, layer: EventLayer, samples: slice) -> Tensor:
        """The current of every step, (batch or 1, positions or 1, padded channels): bias and constant wires."""
        total = layer.bias[None]
        if not layer.constant_wires:
            return total.contiguous()
        values = self._constant_values(samples)
        channels, height, width = image(layer.node.shape)
        for name, factor in layer.constant_wires:
            current = values[name].reshape(-1, channels, height * width).movedim(1, -1) * factor
            total = total + F.pad(current, (0, padded(channels) - channels))
        return total.contiguous()

    def _constant_values(self, samples: slice) -> dict[str, Tensor]:
        """The constant wires, computed in float64, a few samples at a time."""
        wanted = {name for name, _ in self.layer.constant_wires}
        parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
        for first in range(samples.start, min(samples.stop, self.samples), CONSTANT_SAMPLES):
            few = slice(first, min(first + CONSTANT_SAMPLES, samples.stop))
            values: dict[str, Tensor] = {}
            for node in self.lowered.nodes:
                if isinstance(node.op, Input):
                    if node.name in self.trains:
                        values[node.name] = self.trains[node.name].part(few)[0].double()
                elif isinstance(node.op, Op) and all(name in values for name in node.inputs):
                    values[node.name] = node.op.to(dtype=torch.float64).linear(*(values[name] for name in node.inputs))
            for name in wanted:
                parts[name].append(values[name].float())
        return {name: torch.cat(found) for name, found in parts.items()}


def compiled(graph: Graph, node: Node, currents: Currents, timesteps: int) -> Kernel | None:
    """The native kernel of one layer of neurons after ``currents``; None where there is none, or it would be slower.

    Its sums of weights in float32 have another order than those of a convolution in PyTorch.
    """
    own = _firing(node.op)
    if _native.load()[0] is None or torch.get_default_dtype() != torch.float32 or own is None:
        return None
    if own.rule not in KERNELS:
        return None
    trains = currents.trains
    wires = list(dict.fromkeys(i for one in currents.nodes for i in one.inputs if i in trains))
    for name in wires:
        train = trains[name]
        sent, shape = _firing(graph[name].op), graph[name].shape
        few = sent is not None and (sent.planes == (1,) or sent.rule == SIGNED)
        if isinstance(train, Levels) and sent is not None and few and len(shape) <= 3:
            trains[name] = train = packed(train, shape, sent.planes, timesteps)
        constant = isinstance(train, Values) and len(train.values) == 1
        if not constant and not (isinstance(train, Packed) and train.rate <= MOST_OFTEN):
            return None
    if not wires:
        return None
    lowered = _alone(graph, node, currents.nodes, {name: trains[name] for name in wires})
    choice = choose(lowered, lowered.time_invariant)
    layer = choice.layers.get(node.name)
    if not isinstance(layer, EventLayer):
        return None
    return LayerKernel(layer, choice, lowered, dict(trains), currents.samples, timesteps)


def _alone(graph: Graph, node: Node, between: list[Node], trains: Mapping[str, Train]) -> Lowered:
    """The lowered form of a layer alone: the cells that send the ``trains`` have no network before them."""
    nodes: list[Node] = []
    axes, start = dict(graph.channel_axes), 0
    for name, train in trains.items():
        shape = graph[name].shape
        entry = PackedInput(shape, start)
        start += entry.size
        if not isinstance(train, Packed):
            nodes.append(Node(name, entry))
            continue
        before = f"{name} before"
        axes[before] = axes[name]
        nodes += [Node(before, entry), Node(name, graph[name].op, (before,))]
    nodes.sort(key=lambda one: isinstance(one.op, Cell))  # inputs come first
    return lower(Graph((*nodes, *between, node)), None, GRADED, axes).to(dtype=torch.float32)


def packed(train: Levels, shape: tuple[int, ...], factors: Factors, timesteps: int) -> Packed:
    """The same train as words, channels last; ``factors`` are those of the planes whose sum its levels are."""
    parts: list[list[list[Tensor]]] = [[[] for _ in factors] for _ in _steps(timesteps)]  # word, plane, samples
    for part in train.parts:
        for found, (first, steps) in zip(parts, _places(timesteps), strict=True):
            planes = _bytes(part, first, steps) if train.bits else _planes(part[first : first + steps], factors)
            for plane, words in zip(found, planes, strict=True):
                plane.append(lanes_of(words, shape))
    joint = [[torch.cat(plane) for plane in word] for word in parts]
    return Packed(joint, factors, shape, timesteps, train.spike_scale)


def _bytes(part: Tensor, first: int, steps: int) -> list[Tensor]:
    """The steps from ``first`` on of a binary train, whose bytes hold eight steps each, as one word."""
    bytes_ = part[first // BYTE : (first + steps + BYTE - 1) // BYTE]
    words = bytes_[0].to(torch.int32)
    for number, one in enumerate(bytes_[1:], 1):
        words |= one.to(torch.int32) << BYTE * number
    return [words]


def _planes(levels: Tensor, factors: Factors) -> list[Tensor]:
    """A word for each factor, of (steps, …) levels: the largest factor first, of each sign."""
    left, found = levels.to(torch.int32), []
    for factor in factors:
        ones = (left * (1 if factor > 0 else -1) >= abs(factor)).to(torch.int32)
        left = left - ones * factor
        words = ones[0].clone()
        for t, one in enumerate(ones[1:], 1):
            words |= one << t
        found.append(words)
    assert not bool(left.any()), "a neuron sent a level outside its alphabet"
    return found


def _firing(cell: object) -> Firing | None:
    """The rule by which the kernels run a cell; None if they do not."""
    if not isinstance(cell, Neuron) or cell.unit is None:
        return None
    try:
        return Firing.of(cell.unit, cell.output_alphabet(GRADED))
    except UnfitError:
        return None


def _places(timesteps: int) -> list[tuple[int, int]]:
    """(first step, number of steps) of each word."""
    return [(first, min(_native.STEPS, timesteps - first)) for first in range(0, timesteps, _native.STEPS)]


def _steps(timesteps: int) -> list[int]:
    """The number of steps of each word."""
    return [steps for _, steps in _places(timesteps)]


def _ones(words: Tensor) -> Tensor:
    """The number of ones in each 32-bit word."""
    pairs = words - (words >> 1).bitwise_and_(0x55555555)
    fours = (pairs >> 2).bitwise_and_(0x33333333).add_(pairs.bitwise_and_(0x33333333))
    eights = fours.add_(fours >> 4).bitwise_and_(0x0F0F0F0F)
    return (eights.mul_(0x01010101) >> 24).bitwise_and_(0x3F)


def _library() -> ctypes.CDLL:
    library = _native.load()[0]
    assert library is not None
    return library
