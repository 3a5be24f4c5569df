"""The event engine's run: spikes as bits, weights gathered for the inputs that fired, on CPUs, in a native library."""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.engines.dense.plan import bytes_per_sample
from transpike.engines.dense.run import LARGEST_TENSOR, LIVE_WIRES, FoldedRun
from transpike.engines.event.layers import EventLayer, EventPool
from transpike.engines.event.network import LARGEST, Network, Section
from transpike.engines.event.plan import EventPlan, is_global, plan
from transpike.engines.event.weights import image, padded
from transpike.engines.event.wires import Planes, moved, of_one_stride
from transpike.engines.native import library as _native
from transpike.engines.run import Run, map_state
from transpike.errors import SettingError
from transpike.lowering.program import Program


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
        self.network: Network | None = None
        synchronous = dict.fromkeys(event.choice.kernels, "dense: windows, cycles and differences are dense passes")
        self.kernels = event.choice.kernels if program.schedule.mode == "steps" else synchronous

    def enter(self, x: Tensor) -> None:
        super().enter(x)
        layers = self.event.choice.layers
        self.constants = {n: value for n, value in self.constants.items() if not layers[n].constant_wires}  # type: ignore[union-attr]

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
        if (network := self._fixed()) is not None:
            self._sections(network, values, steps)
            return
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

    def _fixed(self) -> Network | None:
        """The chunk as few calls, for small batches; trains are recorded node by node."""
        batch = len(self.x)
        if self.counter.record or batch * self.event.wire_bytes > LARGEST:
            return None
        layers = [layer for layer in self.event.choice.layers.values() if isinstance(layer, EventLayer)]
        changed = [layer for layer in layers if layer.node.name not in self.constants]
        for layer in changed:
            self.constants[layer.node.name] = self._constant(layer)
        found = self.network
        if found is None or (found.batch, found.threads) != (batch, torch.get_num_threads()):
            for one in self.event.choice.layers.values():
                self._ready(one)
            self.network = found = Network(self.event, batch, self.states, self.constants, self.counter)
            return found
        for layer in changed:
            found.set_constant(layer.node.name, self.constants[layer.node.name])
        return found

    def _sections(self, network: Network, values: dict[str, Tensor], steps: int) -> None:
        for one in network.steps:
            if isinstance(one, Section):
                ties, left = network.run(one, steps, self.t, not self.exact)
                self.ties += ties
                if left:
                    self._left_the_grid(self.plan.table[left])
                continue
            self._dense(one, values, network.words, steps)
            for source in self.event.reads.get(one.name, ()):
                if self.event.last.get(source) == one.name:
                    values.pop(source, None)
        if network.counted:
            self.counter.add_later(network.counted, network.totals[:, :, :steps])
        self._answer(values.get(self.plan.lowered.output.name), steps)

    def _dense(self, node: Node, values: dict[str, Tensor], words: dict[str, Planes], steps: int) -> None:
        """Evaluate a node on real values, and pack the result if a kernel needs it."""
        if is_global(node) and len(words.get(node.inputs[0], ())) == 1:
            values[node.name] = self._sum(node, words[node.inputs[0]][0], steps)
            return
        for name in node.inputs:
            if name not in values and name in words:
                values[name] = self._unpack(words[name], self.plan.table[name].shape, steps)
        values[node.name] = self._evaluate(node, values, steps)
        if isinstance(node.op, (Cell, Input)):
            self.counter.add(node.name, values[node.name].unflatten(0, (steps, len(self.x))))
        if node.name in self.event.packed:
            into = words[node.name][0] if node.name in words else None
            words[node.name] = [self._pack(values[node.name], node.shape, steps, into)]

    # -- the native library ------------------------------------------------------------------------------------

    def _ready(self, layer: EventLayer | EventPool) -> None:
        """The layer has a state."""
        name, batch = layer.node.name, len(self.x)
        if name in self.states:
            return
        channels, height, width = image(layer.node.shape)
        if isinstance(layer, EventLayer):
            shape = (batch, height * width, padded(channels))
            self.states[name] = layer.initial.expand(shape).clone(memory_format=torch.contiguous_format)
            return
        _, rows, columns = image(self.plan.table[layer.node.inputs[0]].shape)
        counts = torch.zeros((batch, rows * columns, padded(channels)), dtype=torch.int32)
        self.states[name] = (counts, torch.zeros((batch, len(layer.taps), padded(channels)), dtype=torch.int32))

    def _fire(self, layer: EventLayer, words: dict[str, Planes], steps: int) -> Tensor:
        """One layer of neurons over ``steps`` steps: packed spikes (batch, height, width, padded channels)."""
        name, batch = layer.node.name, len(self.x)
        channels, height, width = image(layer.node.shape)
        self._ready(layer)
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
        self._ready(layer)
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

    def _pack(self, values: Tensor, shape: tuple[int, ...], steps: int, into: Tensor | None = None) -> Tensor:
        """(steps · batch, *shape) → packed spikes, in any memory layout of channels and positions."""
        channels, height, width = image(shape)
        values = values.float().reshape(len(values), channels, height * width)
        packed = (
            torch.empty((len(self.x), height, width, padded(channels)), dtype=torch.int32) if into is None else into
        )
        odd = self.library.tp_pack_wire(
            values.data_ptr(), steps, len(self.x), height * width, channels, padded(channels),
            values.stride(0), values.stride(2), values.stride(1), packed.data_ptr(),
        )  # fmt: skip
        assert not odd, "a binary wire carried other values than 0 and 1"
        return packed

    def _keep(self, order: Tensor) -> None:
        self.network = None
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
