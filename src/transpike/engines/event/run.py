"""The event engine's run: spikes as bits, weights gathered for the inputs that fired, on CPUs, in a native library."""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.core.plain import is_plain
from transpike.engines.dense.plan import Plan, bytes_per_sample
from transpike.engines.dense.run import FOLDED_IMAGES, LARGEST_TENSOR, LIVE_WIRES, FoldedRun
from transpike.engines.event.call import LayerCall
from transpike.engines.event.layers import EventLayer, EventPool, choose
from transpike.engines.event.weights import image, padded, pair
from transpike.engines.native import library as _native
from transpike.engines.run import Run, map_state
from transpike.errors import SettingError
from transpike.lowering.program import Program
from transpike.ops import AvgPool, Mean

Planes = list[Tensor]
"""A wire as packed spikes: the sum of planes (batch, height, width, padded channels) of 32-bit words."""


@dataclass(frozen=True)
class Event:
    """Native kernels for all layers that they support, the dense engine for the others.

    Same spikes as the reference on the exact grid. ``memory``: limit of the memory that a run adds, in bytes. Raises
    SettingError without the native library, and for inputs that are not on the CPU.
    """

    memory: int = 2 * 2**30

    def start(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str] = (), count: bool = True
    ) -> Run:
        """``x`` is (batch, *shape) after preprocessing; ``record`` names layers whose trains are recorded."""
        if x.device.type != "cpu":
            raise SettingError(f"the event engine runs on the CPU, not on {x.device}; use engine='dense'")
        return EventRun(program, plan(program), x, sample_ids, record, count, self.memory)

    def batch_limit(self, program: Program) -> int:
        """The number of samples that fit into the memory limit together."""
        state, largest = bytes_per_sample(program)
        if program.schedule.mode != "steps":
            return max(1, self.memory // (state + LIVE_WIRES * largest))
        return plan(program).batch_limit(self.memory)


class EventPlan:
    """A program prepared for the native kernels. ``unwanted`` layers run dense."""

    def __init__(self, program: Program, unwanted: frozenset[str] = frozenset()) -> None:
        library, why = _native.load()
        if library is None:
            raise SettingError(f"the event engine's native library is {why}")
        self.library = library
        self.folded = Plan(program, torch.device("cpu"))
        self.choice = choose(self.folded.lowered, self.folded.constant_nodes, unwanted)
        self.calls = {
            n: LayerCall.of(layer) for n, layer in self.choice.layers.items() if isinstance(layer, EventLayer)
        }
        self.fans = {
            name: _rows_of_fans(fan, self.folded.table[name])
            for name, fan in program.fans.items()
            if name in self.choice.layers
        }
        self.boundary = {
            name: _rows_of_fans(fan, self.folded.table[name])
            for name, fan in program.boundary_fans.items()
            if name in self.choice.layers
        }
        self.reads = self._readers()
        """Node → the wires that it reads, packed or as numbers."""
        self.last = {wire: name for name, wires in self.reads.items() for wire in wires}
        """Wire → its last reader."""
        wanted = {w for layer in self.choice.layers.values() for w in layer.wires}
        wanted |= {w for name in self.choice.moved for w in self.folded.table[name].inputs}
        self.packed = {
            name for name in wanted if isinstance(self.folded.table[name].op, Cell) and name not in self.choice.layers
        }
        nodes = self.folded.table
        self.all_native = len(self.choice.layers) == sum(isinstance(n.op, Cell) for n in nodes.values())
        read = {i for name in self.choice.dense for i in nodes[name].inputs if not _is_global(nodes[name])}
        unpacked = [n for n in self.choice.dense if n not in self.choice.layers or n in read]
        self.dense_bytes = max((4 * prod(nodes[name].shape) for name in unpacked), default=4)

    def _readers(self) -> dict[str, tuple[str, ...]]:
        choice, found = self.choice, dict[str, tuple[str, ...]]()
        for node in self.folded.lowered.nodes:
            if node.name in choice.layers:
                found[node.name] = choice.layers[node.name].wires
            elif node.name in choice.moved or node.name in choice.dense:
                found[node.name] = node.inputs
        return found

    def batch_limit(self, memory: int) -> int:
        """The number of samples whose membranes, spikes and dense images fit into the memory limit and the cache."""
        state, largest = self.folded.state, self.folded.largest
        most = min(memory // (2 * state + LIVE_WIRES * largest), LARGEST_TENSOR // (_native.STEPS * self.dense_bytes))
        return max(1, most if self.all_native else min(most, FOLDED_IMAGES // _native.STEPS))


def plan(program: Program) -> EventPlan:
    """The program's plan with every supported layer native; cached."""
    if "event" not in program.prepared:
        program.prepared["event"] = EventPlan(program)
    return program.prepared["event"]


class EventRun(FoldedRun):
    """Like the dense run, but wires between native layers are packed spikes."""

    def __init__(
        self,
        program: Program,
        event: EventPlan,
        x: Tensor,
        sample_ids: Tensor,
        record: Iterable[str],
        count: bool,
        memory: int,
    ) -> None:
        super().__init__(program, event.folded, x, sample_ids, record, count, memory)
        self.event, self.library = event, event.library
        self.scratch = torch.empty(0, dtype=torch.uint8)
        self.constants: dict[str, Tensor] = {}
        synchronous = dict.fromkeys(event.choice.kernels, "dense: windows, cycles and differences are dense passes")
        self.kernels = event.choice.kernels if program.schedule.mode == "steps" else synchronous

    def enter(self, x: Tensor) -> None:
        super().enter(x)
        self.constants = {}

    def _steps(self, steps: int) -> None:
        dense = len(self.x) * self.event.dense_bytes  # per step
        room = min(_native.STEPS, LARGEST_TENSOR // dense, self.memory // (LIVE_WIRES * dense))
        while steps > 0:
            chunk = min(max(1, room), steps)
            self._chunk(chunk)
            steps -= chunk

    def _chunk(self, steps: int) -> None:
        choice, lowered = self.event.choice, self.plan.lowered
        values: dict[str, Tensor] = {}
        words: dict[str, Planes] = {}
        for node in lowered.nodes:
            name = node.name
            if name in self.plan.constant_nodes:
                continue
            if name in choice.layers:
                layer = choice.layers[name]
                fire = (
                    self._fire(layer, words, steps)
                    if isinstance(layer, EventLayer)
                    else self._pool(layer, words, steps)
                )
                words[name] = [fire]
                self._count(node, fire, steps)
            elif name in choice.moved:
                shapes = [self.plan.table[i].shape for i in node.inputs]
                words[name] = moved(node, [words[i] for i in node.inputs], shapes)
            if name in choice.dense and name not in choice.layers:
                self._dense(node, values, words, steps)
            for source in self.event.reads.get(name, ()):
                if self.event.last.get(source) == name:
                    values.pop(source, None)
                    words.pop(source, None)
            if name not in self.event.last and name != lowered.output.name:
                words.pop(name, None)
        self._answer(values.get(lowered.output.name), steps)

    def _dense(self, node: Node, values: dict[str, Tensor], words: dict[str, Planes], steps: int) -> None:
        """Evaluate a node on real values, and pack the result if a kernel needs it."""
        if _is_global(node) and len(words.get(node.inputs[0], ())) == 1:
            values[node.name] = self._sum(node, words[node.inputs[0]][0], steps)
            return
        for name in node.inputs:
            if name not in values and name in words:
                values[name] = self._unpack(words[name], self.plan.table[name].shape, steps)
        values[node.name] = self._evaluate(node, values, steps)
        if isinstance(node.op, (Cell, Input)):
            self.counter.add(node.name, values[node.name].unflatten(0, (steps, len(self.x))))
        if node.name in self.event.packed:
            words[node.name] = [self._pack(values[node.name], node.shape, steps)]

    # -- the native library ------------------------------------------------------------------------------------

    def _fire(self, layer: EventLayer, words: dict[str, Planes], steps: int) -> Tensor:
        """One layer of neurons over ``steps`` steps: packed spikes (batch, height, width, padded channels)."""
        name, batch = layer.node.name, len(self.x)
        channels, height, width = image(layer.node.shape)
        shape = (batch, height * width, padded(channels))
        if name not in self.states:
            self.states[name] = layer.initial.expand(shape).clone(memory_format=torch.contiguous_format)
        if name not in self.constants:
            self.constants[name] = self._constant(layer)
        constant, potential = self.constants[name], self.states[name]
        fired = torch.empty((batch, height, width, padded(channels)), dtype=torch.int32)
        wires = [of_one_stride(words[source.wire]) for source in layer.sources]
        call, alive = self.event.calls[name].filled(wires, constant, potential, fired, steps, self.t)
        call.count_ties, call.threads = not self.exact, torch.get_num_threads()
        needed = self.library.tp_scratch_bytes(ctypes.byref(call))
        if needed < 0:
            raise SettingError(f"the native library refuses {name}; use engine='dense' and report this")
        if needed > len(self.scratch):
            self.scratch = torch.empty(needed, dtype=torch.uint8)
        self.library.tp_run(ctypes.byref(call), self.scratch.data_ptr())
        del alive  # the kernel's inputs can be freed only now
        self.ties += call.ties
        if self.exact and call.beyond:
            self._left_the_grid(layer.node)
        return fired

    def _constant(self, layer: EventLayer) -> Tensor:
        """The current of every step, (batch or 1, positions or 1, padded channels): bias and constant wires."""
        total = layer.bias[None]
        for name, factor in layer.constant_wires:
            channels, height, width = image(layer.node.shape)
            current = self.constant_values[name].reshape(len(self.x), channels, height * width).movedim(1, -1) * factor
            total = total + F.pad(current, (0, padded(channels) - channels))
        return total.contiguous()

    def _pool(self, layer: EventPool, words: dict[str, Planes], steps: int) -> Tensor:
        node, batch = layer.node, len(self.x)
        plane = words[node.inputs[0]][0].contiguous()
        inputs, channels = plane.shape[1] * plane.shape[2], plane.shape[3]
        outputs, window = layer.taps.shape
        if node.name not in self.states:
            counts = torch.zeros((batch, inputs, channels), dtype=torch.int32)
            self.states[node.name] = (counts, torch.zeros((batch, outputs, channels), dtype=torch.int32))
        counts, largest = self.states[node.name]
        fired = torch.empty((batch, *image(node.shape)[1:], channels), dtype=torch.int32)
        self.library.tp_pool_max(
            plane.data_ptr(),
            layer.taps.data_ptr(),
            batch,
            inputs,
            outputs,
            window,
            channels,
            steps,
            torch.get_num_threads(),
            counts.data_ptr(),
            largest.data_ptr(),
            fired.data_ptr(),
        )
        return fired

    def _count(self, node: Node, fired: Tensor, steps: int) -> None:
        counter, threads = self.counter, torch.get_num_threads()
        if node.name in counter.record:
            counter.trains[node.name].append(
                self._unpack([fired], node.shape, steps).unflatten(0, (steps, len(self.x)))
            )
        if node.name not in counter.fans:
            return
        totals = self._totals(fired, self.event.fans[node.name], steps, threads)
        crossed = None
        if node.name in counter.boundary:
            crossed = self._totals(fired, self.event.boundary[node.name], steps, threads)[1]
        counter.add_totals(node.name, totals, crossed)

    def _totals(self, fired: Tensor, fan: Tensor, steps: int, threads: int) -> Tensor:
        """(2, steps): spikes, and their sums of ``fan``."""
        totals = torch.zeros((2, steps), dtype=torch.int64)
        self.library.tp_count(
            fired.data_ptr(),
            fan.data_ptr(),
            len(fired),
            fan.numel(),
            steps,
            threads,
            totals[0].data_ptr(),
            totals[1].data_ptr(),
        )
        return totals.double()

    def _sum(self, node: Node, plane: Tensor, steps: int) -> Tensor:
        """The sum of all positions, (steps · batch, channels, 1 …)."""
        plane, batch = plane.contiguous(), len(self.x)
        positions, channels = plane.shape[1] * plane.shape[2], plane.shape[3]
        sums = torch.empty((steps, batch, channels))
        self.library.tp_sum_positions(
            plane.data_ptr(), batch, positions, channels, steps, torch.get_num_threads(), sums.data_ptr()
        )
        return sums[..., : node.shape[0]].reshape(steps * batch, *node.shape)

    def _unpack(self, planes: Planes, shape: tuple[int, ...], steps: int) -> Tensor:
        """Packed spikes → (steps · batch, *shape), channels last in memory."""
        total: Tensor | None = None
        for plane in planes:
            plane = plane.contiguous()
            values = torch.empty((steps, *plane.shape))
            self.library.tp_unpack(
                plane.data_ptr(), plane.numel(), 0, steps, torch.get_num_threads(), values.data_ptr()
            )
            total = values if total is None else total.add_(values)
        assert total is not None
        return total[..., : shape[0]].flatten(0, 1).movedim(-1, 1).reshape(-1, *shape)

    def _pack(self, values: Tensor, shape: tuple[int, ...], steps: int) -> Tensor:
        lanes = lanes_of(values, shape)
        packed = torch.empty((len(self.x), *lanes.shape[1:]), dtype=torch.int32)
        odd = self.library.tp_pack(lanes.data_ptr(), packed.numel(), steps, torch.get_num_threads(), packed.data_ptr())
        assert not odd, "a binary wire carried other values than 0 and 1"
        return packed

    def _keep(self, order: Tensor) -> None:
        native = {name: self.states.pop(name) for name in self.event.choice.layers if name in self.states}
        super()._keep(order)
        repeated = {name: value for name, value in self.constants.items() if len(value) > 1}
        holes = (order != torch.arange(len(order))).nonzero()[:, 0]

        def close_up(value: Tensor) -> Tensor:
            """In place, because these tensors are large and belong to this run only."""
            value[holes] = value[order[holes]]
            return value[: len(order)]

        self.states |= {name: map_state(state, close_up) for name, state in native.items()}
        self.constants |= {name: close_up(value) for name, value in repeated.items()}


def of_one_stride(planes: Planes) -> Planes:
    """The planes in a form that the kernels can read: channels contiguous, all with the same strides."""
    first = planes[0].stride()
    same = all(plane.stride() == first for plane in planes) and first[3] == 1
    return planes if same else [plane.contiguous() for plane in planes]


def _rows_of_fans(fan: Tensor, node: Node) -> Tensor:
    """Fan-outs (positions · channels) as 32-bit numbers with padded channels."""
    if fan.numel() and float(fan.max()) >= 2**24:
        raise SettingError(f"a spike of {node.name} reaches more than 2^24 neurons; use engine='dense'")
    channels = node.shape[0]
    lanes = fan.reshape(-1, channels).to(torch.int32)
    return F.pad(lanes, (0, padded(channels) - channels)).contiguous()


def _is_global(node: Node) -> bool:
    """True for the sum over all positions."""
    op = node.op
    return is_plain(op, Mean) and not op.divide and prod(node.shape) == node.shape[0] and 1 not in op.axes


def moved(node: Node, inputs: list[Planes], shapes: list[tuple[int, ...]]) -> Planes:
    """Wiring on packed spikes: it moves words instead of numbers; a sum over a window gives more planes."""
    op: Any = node.op
    if is_plain(op, AvgPool):
        return [window for plane in inputs[0] for window in _windows(op, plane, node.shape)]
    outputs = []
    for index in range(max(map(len, inputs))):
        parts = [planes[index] if index < len(planes) else torch.zeros_like(planes[0]) for planes in inputs]
        plain = [
            part[..., : shape[0]].movedim(-1, 1).reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)
        ]
        outputs.append(lanes_of(op.run(*plain), node.shape))
    return outputs


def lanes_of(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(…, *shape) → (…, height, width, padded channels)."""
    channels, height, width = image(shape)
    lanes = value.reshape(-1, channels, height, width).movedim(1, -1)
    return F.pad(lanes, (0, padded(channels) - channels)).contiguous()


def _windows(op: AvgPool, plane: Tensor, shape: tuple[int, ...]) -> Planes:
    """One plane for each position in the pooling window."""
    _, height, width = image(shape)
    (ky, kx), (sy, sx), (py, px) = pair(op.kernel, 1), pair(op.stride, 1), pair(op.padding, 0)
    below = max(0, (height - 1) * sy + ky - py - plane.shape[1])
    right = max(0, (width - 1) * sx + kx - px - plane.shape[2])
    if py or px or below or right:
        plane = F.pad(plane, (0, 0, px, right, py, below))
    rows, columns = (height - 1) * sy + 1, (width - 1) * sx + 1
    return [plane[:, y : y + rows : sy, x : x + columns : sx] for y in range(ky) for x in range(kx)]
