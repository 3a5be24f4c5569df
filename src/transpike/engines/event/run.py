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
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.network import LARGEST, Network, Section, begin, keep_idle, key
from transpike.engines.event.plan import EventPlan, is_global, plan
from transpike.engines.event.pools import EventPool
from transpike.engines.event.weights import image, padded
from transpike.engines.event.wires import Planes, moved, of_one_stride
from transpike.engines.modes.reasons import why_dense
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
        self.events: dict[str, int] = {}  # bits of several planes, which readers gather weights for
        reason = why_dense(program)
        self.kernels = dict.fromkeys(event.choice.kernels, f"dense: {reason}") if reason else event.choice.kernels

    def enter(self, x: Tensor) -> None:
        super().enter(x)
        layers = self.event.choice.layers
        self.constants = {n: value for n, value in self.constants.items() if not layers[n].constant_wires}  # type: ignore[union-attr]

    def _steps(self, steps: int) -> None:
        dense = len(self.x) * self.event.dense_bytes  # per step
        room = min(_native.STEPS, LARGEST_TENSOR // dense, self.memory // (LIVE_WIRES * dense))
        while steps > 0:
            chunk = min(max(1, room), steps)
            steps -= chunk
            self._chunk(chunk, self.over and not steps)
        if self.over and self.network is not None:  # for the next run
            keep_idle(self.network)
            self.network, self.states = None, {}

    def _chunk(self, steps: int, last: bool = False) -> None:
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
                if isinstance(layer, EventLayer):
                    words[name] = self._fire(layer, words, steps, last)
                else:
                    words[name] = [self._pool(layer, words, steps)]
                self._count(node, words[name], steps)
            elif name in choice.moved:
                shapes = [self.plan.table[i].shape for i in node.inputs]
                factors = [choice.planes[i] for i in node.inputs]
                words[name] = moved(node, [words[i] for i in node.inputs], shapes, factors)
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
        """The chunk as few calls, for small batches of binary spikes; trains are recorded node by node."""
        batch = len(self.x)
        if not self.event.binary or self.counter.record or batch * self.event.wire_bytes > LARGEST:
            return None
        layers = [layer for layer in self.event.choice.layers.values() if isinstance(layer, EventLayer)]
        changed = [layer for layer in layers if layer.node.name not in self.constants]
        for layer in changed:
            self.constants[layer.node.name] = self._constant(layer)
        found = self.network
        if found is None or (found.batch, found.threads) != (batch, torch.get_num_threads()):
            found = None if self.states else self.event.idle.pop(key(batch, self.counter), None)
            if found is None:
                for one in self.event.choice.layers.values():
                    self._ready(one)
                self.network = Network(self.event, batch, self.states, self.constants, self.counter)
                return self.network
            self.network, self.states, changed = found, dict(found.states), layers
            for name, state in self.states.items():
                begin(self.event.choice.layers[name], state)
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
        if is_global(node) and node.inputs[0] in words:
            values[node.name] = self._sum(node, words[node.inputs[0]], steps)
            return
        for name in node.inputs:
            if name not in values and name in words:
                values[name] = self._unpack(name, words[name], steps)
        values[node.name] = self._evaluate(node, values, steps)
        if isinstance(node.op, (Cell, Input)):
            self.counter.add(node.name, values[node.name].unflatten(0, (steps, len(self.x))))
        if node.name in self.event.packed:
            words[node.name] = self._pack(node, values[node.name], steps, words.get(node.name))

    # -- the native library ------------------------------------------------------------------------------------

    def _ready(self, layer: EventLayer | EventPool) -> None:
        """The layer has a state."""
        name, batch = layer.node.name, len(self.x)
        if name in self.states:
            return
        channels, _, _ = image(layer.node.shape)
        if isinstance(layer, EventLayer):
            begin(layer, self._allocate(layer))
            return
        _, rows, columns = image(self.plan.table[layer.node.inputs[0]].shape)
        counts = torch.zeros((batch, rows * columns, padded(channels)), dtype=torch.int32)
        self.states[name] = (counts, torch.zeros((batch, len(layer.taps), padded(channels)), dtype=torch.int32))

    def _allocate(self, layer: EventLayer) -> tuple[Tensor, ...]:
        """Memory for the state of a layer."""
        channels, height, width = image(layer.node.shape)
        shape = (len(self.x), height * width, padded(channels))
        parts = tuple(torch.empty(shape) for _ in range(1 + layer.firing.counts_sent))
        self.states[layer.node.name] = parts if layer.firing.counts_sent else parts[0]
        return parts

    def _fire(self, layer: EventLayer, words: dict[str, Planes], steps: int, last: bool) -> Planes:
        """One layer of neurons over ``steps`` steps, the ``last`` of the run or not."""
        name, batch = layer.node.name, len(self.x)
        channels, height, width = image(layer.node.shape)
        fresh = name not in self.states
        if fresh and not last:
            self._allocate(layer)
        if name not in self.constants:
            self.constants[name] = self._constant(layer)
        constant, state = self.constants[name], self.states.get(name)
        fired = torch.empty((len(layer.planes), batch, height, width, padded(channels)), dtype=torch.int32)
        wires = [of_one_stride([words[source.wire][i] for i in source.planes]) for source in layer.sources]
        call, alive = self.event.calls[name].filled(wires, constant, state, fired, steps, self.t, fresh)
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
        return list(fired)

    def _constant(self, layer: EventLayer) -> Tensor:
        """The current of every step, (batch or 1, positions or 1, padded channels): bias and constant wires."""
        if layer.node.name in self.event.entrances:
            return self.event.entrances[layer.node.name].current(self.library, self.x)
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

    def _count(self, node: Node, fired: Planes, steps: int) -> None:
        counter = self.counter
        if node.name in counter.record:
            train = self._unpack(node.name, fired, steps)
            counter.trains[node.name].append(train.unflatten(0, (steps, len(self.x))))
        if node.name not in counter.fans:
            return
        totals, bits = self._totals(node, fired, self.event.fans[node.name], steps)
        self.events[node.name] = self.events.get(node.name, 0) + bits
        crossed = None
        if node.name in counter.boundary:
            crossed = self._totals(node, fired, self.event.boundary[node.name], steps)[0][1]
        counter.add_totals(node.name, totals, crossed)

    def _totals(self, node: Node, fired: Planes, fan: Tensor, steps: int) -> tuple[Tensor, int]:
        """(2, steps): spikes, and their sums of ``fan``; and the number of bits in all planes."""
        every = self.plan.lowered.alphabets[node.name].kind == "levels"  # a burst is as many spikes as its level
        found, bits, threads = torch.zeros((2, steps), dtype=torch.int64), 0, torch.get_num_threads()
        for factor, plane in zip(self.event.choice.planes[node.name], fired, strict=True):
            totals = torch.zeros((2, steps), dtype=torch.int64)
            self.library.tp_count(
                plane.data_ptr(), fan.data_ptr(), len(plane), fan.numel(), steps, threads, totals[0].data_ptr(),
                totals[1].data_ptr(),
            )  # fmt: skip
            found += totals * factor if every else totals
            bits += int(totals[0].sum())
        return found.double(), bits

    def _sum(self, node: Node, planes: Planes, steps: int) -> Tensor:
        """The sum of all positions, (steps · batch, channels, 1 …)."""
        batch, total = len(self.x), None
        for factor, plane in zip(self.event.choice.planes[node.inputs[0]], planes, strict=True):
            plane = plane.contiguous()
            positions, channels = plane.shape[1] * plane.shape[2], plane.shape[3]
            sums = torch.empty((steps, batch, channels))
            self.library.tp_sum_positions(
                plane.data_ptr(), batch, positions, channels, steps, torch.get_num_threads(), sums.data_ptr()
            )
            total = _added(total, sums, factor)
        assert total is not None
        return total[..., : node.shape[0]].reshape(steps * batch, *node.shape)

    def _unpack(self, name: str, planes: Planes, steps: int) -> Tensor:
        """The packed spikes of a wire → (steps · batch, *shape), channels last in memory."""
        shape, total = self.plan.table[name].shape, None
        for factor, plane in zip(self.event.choice.planes[name], planes, strict=True):
            plane = plane.contiguous()
            values = torch.empty((steps, *plane.shape))
            self.library.tp_unpack(
                plane.data_ptr(), plane.numel(), 0, steps, torch.get_num_threads(), values.data_ptr()
            )
            total = _added(total, values, factor)
        assert total is not None
        return total[..., : shape[0]].flatten(0, 1).movedim(-1, 1).reshape(-1, *shape)

    def _pack(self, node: Node, values: Tensor, steps: int, into: Planes | None = None) -> Planes:
        """(steps · batch, *shape) → packed spikes, in any memory layout of channels and positions."""
        channels, height, width = image(node.shape)
        left = values.float().reshape(len(values), channels, height * width)
        planes, shape = self.event.choice.planes[node.name], (len(self.x), height, width, padded(channels))
        packed = [torch.empty(shape, dtype=torch.int32) for _ in planes] if into is None else into
        if planes != (1,):
            left = left.clone()
        for factor, plane in zip(planes, packed, strict=True):
            ones = left
            if planes != (1,):  # the largest factor first, of each sign
                ones = (left * (1 if factor > 0 else -1) >= abs(factor)).float()
                left.sub_(ones, alpha=factor)
            odd = self.library.tp_pack_wire(
                ones.data_ptr(), steps, len(self.x), height * width, channels, padded(channels),
                ones.stride(0), ones.stride(2), ones.stride(1), plane.data_ptr(),
            )  # fmt: skip
            assert not odd, "a binary wire carried values other than 0 and 1"
        assert planes == (1,) or not bool(left.any()), f"{node.name} sent a level outside its alphabet"
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


def _added(total: Tensor | None, values: Tensor, factor: int) -> Tensor:
    """``total + factor values``, in the memory of one of them."""
    if total is not None:
        return total.add_(values, alpha=factor)
    return values if factor == 1 else values.mul_(factor)
