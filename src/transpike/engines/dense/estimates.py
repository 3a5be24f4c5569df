"""Differences with unit gain in the dense engine: layer by layer, several steps at once."""

import weakref
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.finite import NotFinite, at
from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.engines.dense.levels import Levels, Placed
from transpike.engines.dense.maxima import maxima
from transpike.engines.dense.narrow import Narrow
from transpike.engines.dense.plan import LARGEST_TENSOR, LIVE_WIRES, Plan
from transpike.engines.dense.wiring import wired
from transpike.engines.native import library, sigma_delta
from transpike.engines.native.delta import DeltaLayer, Sent, last, rows
from transpike.engines.pieces import linear
from transpike.engines.run import Run, map_state
from transpike.lowering.entrances import LookUp
from transpike.neurons import MaximumOfEstimates, SigmaDelta
from transpike.ops import MaxPool

Wire = Tensor | None
STEPS_AT_ONCE = 8
"""Steps for which a batch is chosen: most networks have settled then, and a layer that runs them together reads its
weights, states and functions once.
"""
FOLDED_IMAGES = 2**10
"""Time steps × samples in one call: of layers that are small enough for more, calls from Python are cheap then."""


@dataclass(frozen=True, eq=False)
class Once:
    """What comes in the first of some steps only, (batch, *shape)."""

    value: Tensor
    steps: int

    def train(self) -> Tensor:
        """(time · batch, *shape)"""
        train = self.value.new_zeros((self.steps * len(self.value), *self.value.shape[1:]))
        train[: len(self.value)] = self.value
        return train


Carried = Wire | Sent | Once


class Estimates:
    """Wires hold the messages of some steps, (time · batch, *shape), or None where every message is zero.

    A message changes its receiver's estimate by all of it, in any order, so that a layer can run all these steps before
    the next layer. Sums are exact in float64 on the grid, and run in float32 where that is exact too (``Plan.narrow``).
    A layer that receives nothing and has nothing left to send is skipped: a settled network costs next to nothing.
    """

    def __init__(self, run: Run, plan: Plan, memory: int) -> None:
        self.run: Run = weakref.proxy(run)  # a run keeps this: a cycle would keep its memory for a while
        self.plan, self.lowered, self.memory = plan, plan.float64_form, memory
        certain = run.exact and plan.sums is None  # other devices may round sums in float32
        self.narrow = plan.narrow if certain else Narrow()
        self.states: dict[str, Any] = {}
        self.silent: set[str] = set()  # cells that send nothing until they hear something
        self.plain = Levels.none(self.lowered)
        self.levels = plan.levels if run.exact and library.load()[0] is not None else self.plain
        self.counted = run.counter.summed
        self.answer: Wire = None
        self.native = sigma_delta.Scans()
        self.ends = False  # whether no steps follow this chunk

    def advance(self, steps: int) -> None:
        """Simulate ``steps`` more steps, as many at once as fit into the memory."""
        batch, wire = len(self.run.x), (self.levels if self.run.presence is None else self.plain).largest
        spare = self.memory - batch * self.plan.state
        limits = FOLDED_IMAGES // batch, LARGEST_TENSOR // (batch * wire), spare // (LIVE_WIRES * batch * wire)
        most = max(1, min(limits))
        for start in range(0, steps, most):
            self.ends = self.run.over and start + most >= steps
            self._chunk(min(most, steps - start))

    def _chunk(self, steps: int) -> None:
        values: dict[str, Carried] = {}
        levels = self.levels if self.run.presence is None else self.plain
        for node in self.lowered.nodes:
            if node.name in levels.passed:
                continue
            if node.name in levels.placed:
                for name, value in self._layer(levels.placed[node.name], values, steps).items():
                    values[name] = value
                    self._count(self.run.program.table[name], value, steps)
            else:
                carried = [values[name] for name in node.inputs]
                moved = self._wire(node, carried, steps) if node.name in levels.wired else None
                values[node.name] = self._evaluate(node, carried, steps) if moved is None else moved
                self._count(node, values[node.name], steps)
            for name in levels.reads[node.name]:
                if levels.last[name] == node.name:
                    values.pop(name, None)
        self._read(_train(values[self.lowered.output.name]), steps)
        self.run.arrived()

    def _evaluate(self, node: Node, carried: list[Carried], steps: int) -> Carried:
        if isinstance(node.op, Input):
            return self._input(node, steps)
        once = [value.value for value in carried if isinstance(value, Once)]
        if isinstance(node.op, Op) and node.name in self.plan.constant_nodes and len(once) == len(carried):
            # what depends on a constant input comes in the first step
            return Once(linear(node.op, once), steps)
        inputs = [_train(value) for value in carried]
        if isinstance(node.op, Cell):
            return self._cell(node, node.op, inputs, steps)
        if all(value is None for value in inputs):
            return None
        given = [self._zeros(name, steps) if v is None else v for v, name in zip(inputs, node.inputs, strict=True)]
        return self.narrow.linear(node.name, node.op, given)

    def _wire(self, node: Node, carried: list[Carried], steps: int) -> Sent | None:
        """Levels that go on as levels; None if nothing is sent, or if the library did not run a neuron before them."""
        sent = [value for value in carried if isinstance(value, Sent)]
        if not sent or any(value is not None and not isinstance(value, Sent) for value in carried):
            return None
        if isinstance(node.op, MaximumOfEstimates):
            return self._maxima(node, node.op.pool, sent[0])
        assert isinstance(node.op, Op)
        inputs = [
            value if isinstance(value, Sent) else self._nothing(name, sent[0])
            for value, name in zip(carried, node.inputs, strict=True)
        ]
        return wired(node.op, inputs, self.lowered.axes[node.name], node.shape)

    def _maxima(self, node: Node, pool: MaxPool, heard: Sent) -> Sent:
        name, counter, (steps, batch) = node.name, self.run.counter, heard.events.shape
        if name in counter.evaluating:
            counter.hear(name, [heard.train().unflatten(0, (steps, batch))], self.run.t + 1)
        levels, spikes, state = maxima(pool, heard.levels, self.states.get(name), node.shape[1:])
        if not self.ends:
            self.states[name] = state
        across = spikes.sum(0, dtype=torch.int64).double().flatten(0, -3)  # (positions, time, features)
        totals = torch.zeros((4, steps), dtype=torch.float64)
        totals[0] = across.sum((0, 2))
        for row, fans in ((1, counter.fans), (3, counter.state_fans)):
            if name in fans:
                totals[row] = (across * fans[name].reshape(-1, 1, node.shape[0])).sum((0, 2))
        events = spikes.flatten(1, -3).sum((1, 3), dtype=torch.int64).t().contiguous()
        self.silent.discard(name)
        if not bool(events[-1].any()):
            self.silent.add(name)
        return Sent(levels, 1, totals, events)

    def _nothing(self, name: str, like: Sent) -> Sent:
        """The levels of a wire on which nothing is sent, in as many steps as ``like``."""
        shape, axis, (steps, batch) = self.run.program.table[name].shape, self.lowered.axes[name], like.events.shape
        space = (*shape[: axis - 1], *shape[axis:])
        levels = torch.zeros((), dtype=torch.int16).expand(batch, *space, steps, shape[axis - 1])
        return Sent(levels, axis, torch.zeros_like(like.totals), torch.zeros_like(like.events))

    def _layer(self, placed: Placed, values: dict[str, Carried], steps: int) -> dict[str, Carried]:
        """A layer of the library: its output wires."""
        layer, name, t = placed.layer, placed.neuron, self.run.t
        value, other = values[placed.reads], values[placed.adds] if placed.adds else None
        made: dict[str, Carried] = {}
        if value is None and other is None and (not name or (t and name in self.silent)):
            return {one: None for one in (placed.currents, name) if one}
        reals = value if layer.weights is None else other if layer.factors is None else None
        now = reals.value if isinstance(reals, Once) else _train(reals)
        added = None if now is None else last(now, placed.axis)
        levels, heard = (None, None) if layer.weights is None else _levels(value, steps, placed.axis)
        if levels is not None and layer.weights is not None and layer.weights.limit is not None:
            levels, added = self._within(replace(layer, neurons=None, currents=True), levels, heard, added, steps)
        passed = None if layer.factors is None else _levels(other, steps, placed.axis)[0]
        state = self.states.get(name)
        if state is not None:
            copied = reals is not None  # what it hears may be too large, and the state is then needed once more
            state = tuple(last(part.clone() if copied else part, layer.axis) for part in state)
        first, batch = None if t else placed.first, len(self.run.x)
        fan = self._fan(placed) if name in self.counted else None
        reads = self._fan(placed, "reads") if name in self.counted and name in self.run.counter.state_fans else None
        found = layer.run(steps, batch, levels, heard, added, first, state, fan, passed, not self.ends, reads)
        if found is None:
            node = self.run.program.table[name]
            assert isinstance(node.op, Cell)
            without = replace(layer, neurons=None, currents=True)
            sums = without.run(steps, batch, levels, heard, added, None, None, None, passed)
            assert sums is not None and sums[1] is not None
            wire = sums[1].movedim(-1, layer.axis)
            made = {name: self._cell(node, node.op, [wire], steps)}
            return made | {placed.currents: wire} if placed.currents else made
        sent, currents, after = found
        if placed.currents and currents is not None:
            made[placed.currents] = currents.movedim(-1, layer.axis)
        if sent is not None:
            if name in self.run.counter.active and layer.axis != self.lowered.axes[name]:
                sent.totals[2] = sent.active(self.lowered.axes[name])
            if after is not None:
                self.states[name] = tuple(part.movedim(-1, layer.axis) for part in after)
            self.silent.discard(name)
            if not bool(sent.events[-1].any()):
                self.silent.add(name)
            made[name] = sent if bool(sent.events.any()) else None
        return made

    def _within(
        self, weights: DeltaLayer, levels: Tensor, heard: Tensor | None, added: Tensor | None, steps: int
    ) -> tuple[Tensor, Tensor | None]:
        """(levels whose sums fit, the currents of the rest with ``added``): weights are linear, and sums are exact."""
        assert weights.weights is not None and weights.weights.limit is not None
        limit = weights.weights.limit
        while max(abs(int(end)) for end in levels.aminmax()) > limit:
            part = levels.clamp(-limit, limit)
            found = weights.run(steps, len(self.run.x), part, heard, None, None, None, None)
            assert found is not None and found[1] is not None
            sums = found[1]
            if added is not None:
                sums[: len(added)] += added
            levels, added = levels - part, sums
        return levels, added

    def _fan(self, placed: Placed, kind: str = "fan") -> Tensor:
        """The operations of a spike of each neuron, or the states that it "reads", (positions or 1, features)."""
        key, prepared = (kind, placed.neuron), self.run.program.prepared
        if key not in prepared:
            counter, shape = self.run.counter, self.run.program.table[placed.neuron].shape
            found = (counter.state_fans if kind == "reads" else counter.fans)[placed.neuron]
            fan = found.reshape(*shape[1:], shape[0]).movedim(-1, 0)
            prepared[key] = rows(fan, shape, placed.layer.axis).to(torch.int32)
        return prepared[key]

    def _input(self, node: Node, steps: int) -> Carried:
        program, x, t = self.run.program, self.run.x, self.run.t
        assert isinstance(node.op, Input)
        if program.encoder.is_constant or isinstance(node.op, LookUp):
            new = self.run.arriving(node)
            return None if new is None else Once(new.double(), steps)
        return torch.cat([program.sent(node, x, self.run.sample_ids, t + k + 1).double() for k in range(steps)])

    def _zeros(self, name: str, steps: int) -> Tensor:
        x, shape = self.run.x, self.run.program.table[name].shape
        return torch.zeros((), dtype=torch.float64, device=x.device).expand(steps * len(x), *shape)

    def _cell(self, node: Node, cell: Cell, inputs: list[Wire], steps: int) -> Wire:
        t, name, presence = self.run.t, node.name, self.run.presence
        grows = presence is not None and presence.grows
        if t and not grows and name in self.silent and all(value is None for value in inputs):
            self.run.counter.hear(name, [self._train(wire, None, steps) for wire in node.inputs], t + 1)
            return None
        trains = [self._train(wire, value, steps) for wire, value in zip(node.inputs, inputs, strict=True)]
        state = self.states[name] if name in self.states else cell.init(*(train[0].double() for train in trains))
        biases = self.lowered.biases[name]
        if t == 0 and any(map(_some, biases)):  # they arrive in the first step
            if is_plain(cell, SigmaDelta):  # its state begins with the estimate
                state = (state[0] + biases[0], state[1])
            else:
                trains = [train.to(torch.float64, copy=True) for train in trains]
                for train, bias in zip(trains, biases, strict=True):
                    train[0] += bias
        self.run.counter.hear(name, trains, t + 1)
        state, owed = (state, None) if presence is None else presence.begin(name, cell, state)
        self.states[name], output, undecided = self._scan(name, cell, state, trains)
        if presence is not None:
            output = presence.sent(name, output, None)
            if owed is not None:
                output = torch.cat([presence.sent(name, output[:1], owed), output[1:]])
        if undecided and presence is not None:
            undecided = self._undecided(cell, state, trains, presence.present(name))
        self.run.note_undecided(name, undecided)
        self.run.early += cell.early(output)
        self.silent.discard(name)
        if cell.settles and not _some(output[-1]):
            self.silent.add(name)
            if not _some(output):
                return None
        return output.flatten(0, 1)

    def _train(self, wire: str, value: Wire, steps: int) -> Tensor:
        """The messages of a wire, (time, batch, *shape)."""
        return (self._zeros(wire, steps) if value is None else value).unflatten(0, (steps, len(self.run.x)))

    def _scan(self, name: str, cell: Cell, state: Any, trains: list[Tensor]) -> tuple[Any, Tensor, int]:
        """``Cell.scan``; where a function has no value, step by step, so that the error names the step."""
        t, presence = self.run.t + 1, self.run.presence
        first = t == 1 or (presence is not None and presence.grows)  # elements that begin send what they hold
        try:
            found = self.native(name, cell, state, trains, first)
            return cell.scan(state, *trains, t=1 if first else t) if found is None else found
        except NotFinite:
            for k, now in enumerate(zip(*trains, strict=True)):
                with at(name, t + k):
                    state = cell.step(state, *(value.double() for value in now), t=t + k)[0]
            raise

    def _undecided(self, cell: Cell, state: Any, trains: list[Tensor], present: Tensor) -> int:
        """The sum of ``Cell.undecided`` over these steps, of outputs that are ``present`` only."""
        total, t = 0, self.run.t + 1
        for k, now in enumerate(zip(*trains, strict=True)):
            state = cell.step(state, *(value.double() for value in now), t=t + k)[0]
            total += cell.undecided(state, present)
        return total

    def _count(self, node: Node, value: Carried, steps: int) -> None:
        counter = self.run.counter
        if node.name not in counter.wanted:
            return
        if value is None and node.name not in counter.record:
            counter.add_totals(node.name, torch.zeros((2, steps), dtype=torch.float64, device=self.run.x.device))
            return
        if isinstance(value, Sent) and node.name in self.counted:
            reads = value.totals[3] if node.name in counter.state_fans else None
            counter.add_totals(node.name, value.totals[:2], active=value.totals[2], reads=reads)
            return
        value = _train(value)
        value = self._zeros(node.name, steps) if value is None else value
        counter.add(node.name, value.unflatten(0, (steps, len(self.run.x))))

    def _read(self, value: Wire, steps: int) -> None:
        """Read the answer of each step as the output of a rate code: t times its change, and what came before."""
        name, run = self.lowered.output.name, self.run
        charges = (self._zeros(name, steps) if value is None else value.double()).unflatten(0, (steps, len(run.x)))
        for charge in charges:
            run.t += 1
            if run.t == 1:
                charge = charge + self.lowered.biases[name][0]
            before = torch.zeros_like(charge) if self.answer is None else self.answer
            self.answer = before + charge
            run.read(run.t * charge + before, run.t)

    def keep(self, order: Tensor) -> None:
        """Continue with the samples ``order``."""
        self.states = {name: map_state(state, lambda v: v[order]) for name, state in self.states.items()}
        self.answer = None if self.answer is None else self.answer[order]


def _some(value: Tensor) -> bool:
    """Whether any of these numbers is not 0, several times as fast as ``Tensor.any``; a NaN is not 0."""
    return bool(value.numel()) and any(map(bool, value.aminmax()))


def _levels(value: Carried, steps: int, axis: int) -> tuple[Tensor | None, Tensor | None]:
    """(levels as in ``Sent``, where they are heard), or (None, None)."""
    if isinstance(value, Sent) and value.axis == axis:
        return value.levels, value.events
    train = _train(value)
    return (None if train is None else Sent.of(train, steps, axis)), None


def _train(value: Carried) -> Wire:
    """Messages for layers that the library does not run."""
    return value.train() if isinstance(value, Sent | Once) else value
