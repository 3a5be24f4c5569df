"""A chunk as few calls of the native library: its nodes in order, with buffers that stay from chunk to chunk.

A call from Python takes longer than a small layer. Consecutive native nodes are one ``Section``, which counts too.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.graph import Node
from transpike.core.plain import is_plain
from transpike.engines.counter import Counter
from transpike.engines.event.call import stride
from transpike.engines.event.layers import EventLayer, EventPool
from transpike.engines.event.plan import EventPlan
from transpike.engines.event.weights import image, padded
from transpike.engines.event.wires import Planes, moved, of_one_stride
from transpike.engines.native import library as _native
from transpike.errors import SettingError
from transpike.ops import AvgPool

LARGEST = 16 * 2**20  # bytes of all wires together; beyond it buffers that are used again are faster than fixed ones
FIRE, POOL, MOVE = 0, 1, 2  # native/transpike.h


@dataclass(eq=False)
class Section:
    """Consecutive native nodes; ``names`` of its parts."""

    parts: Any
    names: list[str]
    call: _native.Section


class Network:
    """The nodes of a chunk for one batch size. ``words`` are the packed wires; ``steps`` alternates between native
    sections and nodes for PyTorch.

    ``totals`` (counted layers, 3, 32): what a section counted in each step: spikes, their operations, and those that
    leave the spiking part.
    """

    def __init__(
        self, event: EventPlan, batch: int, states: Mapping[str, Any], constants: Mapping[str, Tensor], counter: Counter
    ) -> None:
        self.event, self.batch, self.threads = event, batch, torch.get_num_threads()
        self.counted = tuple(n for n in event.choice.layers if n in counter.fans)
        self.totals = torch.zeros((len(self.counted), 3, _native.STEPS), dtype=torch.int64)
        self.boundary = counter.boundary.keys()
        self.words: dict[str, Planes] = {}
        self.steps: list[Section | Node] = []
        self.calls: dict[str, _native.Layer] = {}
        self.alive: list[Any] = []  # what the structures point to
        self.scratch_bytes = 0
        self._parts: list[tuple[str, _native.Part]] = []
        for node in event.folded.lowered.nodes:
            name = node.name
            if name in event.folded.constant_nodes:
                continue
            if name in event.packed:
                self.words[name] = [self._buffer(node)]
            layer = event.choice.layers.get(name)
            if isinstance(layer, EventLayer):
                self._fire(layer, states[name], constants[name])
            elif isinstance(layer, EventPool):
                self._pool(layer, states[name])
            elif name in event.choice.moved:
                self._move(node)
            if name in event.choice.dense and layer is None:
                self._close()
                self.steps.append(node)
        self._close()
        self.scratch = torch.empty(self.scratch_bytes, dtype=torch.uint8)

    def set_constant(self, name: str, constant: Tensor) -> None:
        """The current of every step of a layer, from now on."""
        call = self.calls[name]
        call.constant = constant.data_ptr()
        call.constant_sample, call.constant_position = stride(constant, 0), stride(constant, 1)

    def run(self, section: Section, steps: int, first_step: int, count_ties: bool) -> tuple[int, str]:
        """(near ties, the layer whose potential left its exact range, or "")."""
        call = section.call
        call.steps, call.first_step, call.count_ties = steps, first_step, count_ties
        if self.event.library.tp_run_section(ctypes.byref(call), self.scratch.data_ptr()) < 0:
            raise SettingError("the native library refuses a layer; use engine='dense' and report this")
        return call.ties, "" if call.left < 0 else section.names[call.left]

    def _buffer(self, node: Node) -> Tensor:
        channels, height, width = image(node.shape)
        return torch.empty((self.batch, height, width, padded(channels)), dtype=torch.int32)

    def _add(self, name: str, **fields: Any) -> None:
        """Count a layer of neurons or a pool where the counter wants it."""
        part = _native.Part(**fields)
        if part.kind != MOVE and name in self.counted:
            fan = self.event.fans[name]
            part.fan_out, part.neurons = fan.data_ptr(), fan.numel()
            part.totals = self.totals[self.counted.index(name)].data_ptr()
            if name in self.boundary:
                part.boundary = self.event.boundary[name].data_ptr()
        self._parts.append((name, part))

    def _close(self) -> None:
        if not self._parts:
            return
        parts = (_native.Part * len(self._parts))(*(part for _, part in self._parts))
        call = _native.Section(
            parts=ctypes.addressof(parts), part_count=len(parts), batch=self.batch, threads=self.threads
        )
        self.steps.append(Section(parts, [name for name, _ in self._parts], call))
        self._parts = []

    def _fire(self, layer: EventLayer, potential: Tensor, constant: Tensor) -> None:
        name, fired = layer.node.name, self._buffer(layer.node)
        prepared = self.event.calls[name]
        wires = [self.words[source.wire] for source in layer.sources]
        wires = [w if w is of_one_stride(w) else [self._solid(name, plane) for plane in w] for w in wires]
        call, alive = prepared.filled(wires, constant, potential, fired, 1, 0)
        call.threads = self.threads
        needed = self.event.library.tp_scratch_bytes(ctypes.byref(call))
        if needed < 0:
            raise SettingError(f"the native library refuses {name}; use engine='dense' and report this")
        self.scratch_bytes = max(self.scratch_bytes, needed)
        self.alive += [call, alive, potential, fired]
        self.words[name], self.calls[name] = [fired], call
        self._add(name, kind=FIRE, layer=ctypes.addressof(call), to=fired.data_ptr(), work=prepared.work)

    def _pool(self, layer: EventPool, state: tuple[Tensor, Tensor]) -> None:
        node = layer.node
        plane = self._solid(node.name, self.words[node.inputs[0]][0])
        fired, (counts, largest) = self._buffer(node), state
        outputs, window = layer.taps.shape
        self.alive += [plane, fired, state]
        self.words[node.name] = [fired]
        self._add(
            node.name, kind=POOL, source=plane.data_ptr(), to=fired.data_ptr(), taps=layer.taps.data_ptr(),
            counts=counts.data_ptr(), largest=largest.data_ptr(), inputs=plane.shape[1] * plane.shape[2],
            outputs=outputs, window=window, channels=plane.shape[3], work=outputs * window * plane.shape[3],
        )  # fmt: skip

    def _move(self, node: Node) -> None:
        """Windows of a pool are views; other wiring copies words from their places."""
        inputs, found = [self.words[name] for name in node.inputs], dict[int, Tensor]()
        if is_plain(node.op, AvgPool):
            views = moved(node, inputs, [])
            if {_memory(view) for view in views} <= {_memory(plane) for plane in inputs[0]}:  # without a border
                self.words[node.name] = views
                return
        for k, planes in enumerate(inputs):
            for index, plane in enumerate(planes):
                places = self._places(node, k, index)
                for to, part in enumerate(places, index * len(places)):
                    joins = to in found
                    found.setdefault(to, self._buffer(node))
                    self._copy(node.name, plane, found[to], part, joins)
        self.words[node.name] = [found[index] for index in range(len(found))]

    def _places(self, node: Node, k: int, index: int) -> list[Tensor]:
        """For each plane that plane ``index`` of input ``k`` becomes: which of its words it copies, −1: none."""
        key, known = (node.name, k, index), self.event.places
        if key not in known:
            numbered = [[_numbers(self.words[name][0])] for name in node.inputs]
            for j, planes in enumerate(numbered):
                planes[:] = [_numbers(self.words[node.inputs[k]][index]) if j == k else torch.zeros_like(planes[0])]
            shapes = [self.event.folded.table[name].shape for name in node.inputs]
            known[key] = [_places_of(plane) for plane in moved(node, numbered, shapes)]
        return known[key]

    def _solid(self, name: str, plane: Tensor) -> Tensor:
        """The plane, or a copy of it, whose words lie one after another."""
        if plane.is_contiguous():
            return plane
        to = torch.empty(plane.shape, dtype=torch.int32)
        self._copy(name, plane, to, _places_of(_numbers(plane)), joins=False)
        return to

    def _copy(self, name: str, source: Tensor, to: Tensor, places: Tensor, joins: bool) -> None:
        self.alive += [source, to, places]
        self._add(
            name, kind=MOVE, source=source.data_ptr(), source_sample=source.stride(0), to=to.data_ptr(),
            places=places.data_ptr(), outputs=places.numel(), joins=joins,
        )  # fmt: skip


def _memory(plane: Tensor) -> int:
    return plane.untyped_storage().data_ptr()


def _numbers(plane: Tensor) -> Tensor:
    """One sample's words, numbered from 1 on as they lie in memory."""
    sample = plane[:1]
    reach = sum((size - 1) * step for size, step in zip(sample.shape[1:], sample.stride()[1:], strict=True)) + 1
    numbers = torch.arange(1, reach + 1, dtype=torch.int32)
    return numbers.as_strided(sample.shape, (reach, *sample.stride()[1:]))


def _places_of(numbers: Tensor) -> Tensor:
    """Wiring has moved the numbers; 0 stands where it put none."""
    return (numbers - 1).flatten().contiguous()
