"""A chunk as few calls of the native library: its nodes in order, with buffers that stay from chunk to chunk.

A call from Python takes longer than a small layer. Consecutive native nodes are one ``Section``, which counts too.
"""

import ctypes
import itertools
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.graph import Node
from transpike.core.plain import is_plain
from transpike.engines.counter import Counter
from transpike.engines.event.call import stride
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.plan import EventPlan
from transpike.engines.event.pools import EventPool
from transpike.engines.event.weights import image, padded
from transpike.engines.event.wires import Copy, Planes, moved, numbers, of_one_stride
from transpike.engines.native import library as _native
from transpike.errors import SettingError
from transpike.ops import AvgPool

LARGEST = 16 * 2**20  # bytes of all wires together; beyond it buffers that are used again are faster than fixed ones
IDLE = 4 * 2**20  # bytes of a network that is kept from run to run
FIRE, POOL, MOVE = 0, 1, 2  # native/transpike.h


@dataclass(eq=False)
class Section:
    """Consecutive native nodes; ``names`` of its parts."""

    parts: Any
    names: list[str]
    call: _native.Section


def key(batch: int, counter: Counter) -> tuple[Any, ...]:
    """What a network is made for, in addition to its plan. Tensors of inference mode cannot be written outside."""
    fans, boundary = tuple(counter.fans), tuple(counter.boundary)
    return batch, torch.get_num_threads(), torch.is_inference_mode_enabled(), fans, boundary


def begin(layer: EventLayer | EventPool, state: Any) -> None:
    """Make ``state`` that before the first step."""
    parts = state if isinstance(state, tuple) else (state,)
    for part in parts:
        part.zero_()
    if isinstance(layer, EventLayer):
        parts[0].copy_(layer.initial)


def keep_idle(network: "Network") -> None:
    """For the next run of as many samples, because making it takes longer than running it."""
    if network.bytes <= IDLE:
        network.event.idle = {network.key: network}


class Network:
    """The nodes of a chunk for one batch size. ``words`` are the packed wires; ``steps`` alternates between native
    sections and nodes for PyTorch.

    ``totals`` (counted layers, 3, 32): what a section counted in each step: spikes, their operations, and those that
    leave the spiking part.
    """

    def __init__(
        self, event: EventPlan, batch: int, states: Mapping[str, Any], constants: Mapping[str, Tensor], counter: Counter
    ) -> None:
        self.event: EventPlan = weakref.proxy(event)  # which may keep this: a cycle would keep its memory for a while
        self.batch, self.threads, self.key = batch, torch.get_num_threads(), key(batch, counter)
        self.states = {name: states[name] for name in event.choice.layers}
        self.counted = tuple(n for n in event.choice.layers if n in counter.fans)
        self.totals = torch.zeros((len(self.counted), 3, _native.STEPS), dtype=torch.int64)
        self.boundary = counter.boundary.keys()
        self.words: dict[str, Planes] = {}
        self.read: set[int] = set()  # memory of the wires that something reads
        self.calls: dict[str, _native.Layer] = {}
        self.alive: list[Any] = []  # what the structures point to
        self.scratch_bytes = 0
        order: list[tuple[str, _native.Part] | Node] = []
        self._order = order
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
                self.read |= {_memory(plane) for i in node.inputs for plane in self.words.get(i, ())}
                order.append(node)
        self.steps = self._sections(order)
        self.scratch = torch.empty(self.scratch_bytes, dtype=torch.uint8)

    @property
    def bytes(self) -> int:
        """The bytes of its wires and states."""
        states = [part for state in self.states.values() for part in (state if isinstance(state, tuple) else (state,))]
        return self.scratch.nbytes + self.batch * self.event.wire_bytes + sum(part.nbytes for part in states)

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
        return torch.zeros((self.batch, height, width, padded(channels)), dtype=torch.int32)  # what nobody writes is 0

    def _add(self, name: str, **fields: Any) -> None:
        """Count a layer of neurons or a pool where the counter wants it."""
        part = _native.Part(**fields)
        if part.kind != MOVE and name in self.counted:
            fan = self.event.fans[name]
            part.fan_out, part.neurons = fan.data_ptr(), fan.numel()
            part.totals = self.totals[self.counted.index(name)].data_ptr()
            if name in self.boundary:
                part.boundary = self.event.boundary[name].data_ptr()
        self._order.append((name, part))

    def _sections(self, order: list[tuple[str, _native.Part] | Node]) -> list[Section | Node]:
        """Without the copies that nothing reads, because others copy from where they come from."""
        steps: list[Section | Node] = []
        wanted = [one for one in order if isinstance(one, Node) or one[1].kind != MOVE or one[1].to in self.read]
        for native, group in itertools.groupby(wanted, lambda one: not isinstance(one, Node)):
            if not native:
                steps += group  # type: ignore[arg-type]
                continue
            found: list[tuple[str, _native.Part]] = list(group)  # type: ignore[arg-type]
            parts = (_native.Part * len(found))(*(part for _, part in found))
            call = _native.Section(
                parts=ctypes.addressof(parts), part_count=len(parts), batch=self.batch, threads=self.threads
            )
            steps.append(Section(parts, [name for name, _ in found], call))
        return steps

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
        self.read |= {_memory(plane) for planes in wires for plane in planes}
        self.alive += [call, alive, potential, fired]
        self.words[name], self.calls[name] = [fired], call
        self._add(name, kind=FIRE, layer=ctypes.addressof(call), to=fired.data_ptr(), work=prepared.work)

    def _pool(self, layer: EventPool, state: tuple[Tensor, Tensor]) -> None:
        node = layer.node
        plane = self._solid(node.name, self.words[node.inputs[0]][0])
        fired, (counts, largest) = self._buffer(node), state
        outputs, window = layer.taps.shape
        self.read.add(_memory(plane))
        self.alive += [plane, fired, state]
        self.words[node.name] = [fired]
        self._add(
            node.name, kind=POOL, source=plane.data_ptr(), to=fired.data_ptr(), taps=layer.taps.data_ptr(),
            counts=counts.data_ptr(), largest=largest.data_ptr(), inputs=plane.shape[1] * plane.shape[2],
            outputs=outputs, window=window, channels=plane.shape[3], work=outputs * window * plane.shape[3],
        )  # fmt: skip

    def _move(self, node: Node) -> None:
        """Windows of a pool are views; other wiring copies words from the wires that neurons or inputs write."""
        known = self.event.copies
        if node.name not in known:
            known[node.name] = self._copies(node)
        if not known[node.name]:
            self.words[node.name] = moved(node, [self.words[name] for name in node.inputs], [])
            return
        self.words[node.name] = []
        for copies in known[node.name]:
            to = self._buffer(node)
            self.words[node.name].append(to)
            for copy in copies:
                self._copy(node.name, self.words[copy.wire][copy.index], to, copy)

    def _copies(self, node: Node) -> list[list[Copy]]:
        inputs, table = [self.words[name] for name in node.inputs], self.event.folded.table
        if is_plain(node.op, AvgPool):
            views = moved(node, inputs, [])
            if {_memory(view) for view in views} <= {_memory(plane) for plane in inputs[0]}:  # without a border
                return []
        found: dict[int, list[Copy]] = {}
        shapes = [table[name].shape for name in node.inputs]
        for k, (wire, planes) in enumerate(zip(node.inputs, inputs, strict=True)):
            for index, plane in enumerate(planes):
                numbered = [[numbers(plane) if j == k else torch.zeros_like(p[0][:1])] for j, p in enumerate(inputs)]
                parts = moved(node, numbered, shapes)
                for to, part in enumerate(parts, index * len(parts)):
                    found.setdefault(to, []).extend(self._from(wire, index, (part - 1).flatten()))
        return [found[index] for index in range(len(found))]

    def _from(self, wire: str, index: int, places: Tensor) -> list[Copy]:
        """Copies from where the words of this plane come from, if it consists of copies."""
        before = self.event.copies.get(wire)
        if not before:
            return [Copy.of(wire, index, places)]
        return [
            Copy.of(one.wire, one.index, torch.where(places >= 0, one.places[places.long().clamp(min=0)], -1))
            for one in before[index]
        ]

    def _solid(self, name: str, plane: Tensor) -> Tensor:
        """The plane, or a copy of it, whose words lie one after another."""
        if plane.is_contiguous():
            return plane
        to = torch.zeros(plane.shape, dtype=torch.int32)
        self.read.add(_memory(to))
        self._copy(name, plane, to, Copy.of("", 0, (numbers(plane) - 1).flatten()))
        return to

    def _copy(self, name: str, source: Tensor, to: Tensor, copy: Copy) -> None:
        self.read.add(_memory(source))
        self.alive += [source, to, copy]
        self._add(
            name, kind=MOVE, source=source.data_ptr(), source_sample=source.stride(0), to=to.data_ptr(),
            outputs=to[0].numel(), runs=copy.runs.data_ptr(), run_count=len(copy.runs),
        )  # fmt: skip


def _memory(plane: Tensor) -> int:
    return plane.untyped_storage().data_ptr()
