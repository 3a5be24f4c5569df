"""Step-by-step run in which layers start one after another: windows with wait steps, time slots, phase cycles."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.finite import at
from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.core.schedule import arrivals, depths
from transpike.engines.pieces import linear, pieces, put, taken
from transpike.engines.run import Run, map_state
from transpike.lowering.entrances import LookUp
from transpike.lowering.lowered import Lowered

Observe = Callable[[Node, Tensor], None]
Linear = Callable[[str, Op, list[Tensor]], Tensor]
"""How a layer of this name, without its bias, is computed."""


def aligned(lowered: Lowered) -> bool:
    """True if all wires that enter a node have passed the same number of neurons, and so arrive in the same cycle."""
    after = arrivals(lowered.nodes)
    return all(len({after[name] for name in node.inputs}) <= 1 for node in lowered.nodes)


def has_cycles(op: object) -> bool:
    """False for a cell whose phase cycle is defined by its steps only."""
    if not isinstance(op, Cell):
        return True
    return type(op).cycle is not Cell.cycle or type(op).counts is not Cell.counts


def clocked(
    run: Run, lowered: Lowered, x: Tensor, timesteps: int, observe: Observe | None = None,
    linear_of: Linear | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Simulate all steps of a run of T ``timesteps`` and read its answer; in phase cycles, one answer per round.

    ``lowered`` has the dtype and device of ``x``; ``observe`` gets the potentials after every step. ``linear_of``
    computes layers of weights in another way with the same result. Phase-weighted levels are counted and recorded as
    sums over each round, others step by step. Returns the last state of each cell.
    """
    clock = Clock(run, lowered, x, timesteps, observe, linear_of)
    for t in range(1, clock.total + 1):
        clock.tick(t)
    clock.finish()
    return clock.states


class Clock:
    """The state of a step-by-step run."""

    def __init__(
        self, run: Run, lowered: Lowered, x: Tensor, timesteps: int, observe: Observe | None,
        linear_of: Linear | None = None,
    ) -> None:  # fmt: skip
        self.run: Run = weakref.proxy(run)  # a run may keep its clock: a cycle would keep its memory for a while
        self.lowered, self.x, self.timesteps, self.observe = lowered, x, timesteps, observe
        self.linear: Linear = linear_of or (lambda _, op, inputs: linear(op, inputs))
        self.schedule, self.period = run.program.schedule, run.program.schedule.period
        lag, before = self.schedule.lag(timesteps), depths(lowered.nodes)
        self.starts = {name: depth * lag for name, depth in before.items()}
        self.ends = not self.period and self.schedule.mode != "differences"  # each layer has one window
        self.rounds = timesteps // self.period if self.period else 1
        self.total = self.starts[lowered.output.name] + self.schedule.duration(lowered.output, timesteps)
        self.last = lowered.last_reader
        self.states: dict[str, Any] = {}
        self.sent: dict[str, list[Tensor]] = {}
        self.answer: Tensor | None = None

    def tick(self, t: int) -> None:
        """One step of the whole network; layers at rest are skipped."""
        values: dict[str, Tensor] = {}
        resting: set[str] = set()
        for node in self.lowered.nodes:
            own, quiet = t - self.starts[node.name], set(node.inputs) <= resting
            if isinstance(node.op, Input):
                values[node.name] = self._input(node, own)
                if own > self.timesteps and self.ends:
                    resting.add(node.name)
            elif quiet and self._rests(node, own):
                values[node.name] = torch.zeros((len(self.x), *node.shape), dtype=self.x.dtype, device=self.x.device)
                resting.add(node.name)
            elif isinstance(node.op, Cell):
                values[node.name] = self._cell(node, node.op, values, own)
            else:
                values[node.name] = self.linear(node.name, node.op, [values[name] for name in node.inputs])
            self._count(node, values[node.name], own, node.name in resting)
            for name in node.inputs:
                if self.last[name] == node.name:
                    values.pop(name, None)
        self._read(values[self.lowered.output.name], t - self.starts[self.lowered.output.name])
        self.run.arrived()

    def _rests(self, node: Node, own: int) -> bool:
        """True if a node without input has no output: before its window, and after its last spike."""
        if not isinstance(node.op, Cell):
            return True
        over = own > self.schedule.lag(self.timesteps) + self.timesteps
        return self.ends and isinstance(node.op, Neuron) and (own < 1 or over)

    def _input(self, node: Node, own: int) -> Tensor:
        """The input of this step; zero outside its window and in cycles without input."""
        program, x = self.run.program, self.x
        assert isinstance(node.op, Input)
        if program.encoder.is_constant or isinstance(node.op, LookUp):
            if self.run.replaced is not None or self.run.presence is not None:
                new = self.run.arriving(node)
                return x.new_zeros((len(x), *node.shape)) if new is None else new.to(x.dtype)
            return node.op.part(x) * self.schedule.share(own, self.timesteps)
        if self.period:
            cycle, phase = divmod(own - 1, self.period)
            own = cycle // 2 * self.period + phase + 1 if cycle % 2 == 0 else self.timesteps + 1
        encoded = program.sent(node, x, self.run.sample_ids, min(own, self.timesteps))
        return encoded if own <= self.timesteps else torch.zeros_like(encoded)

    def _cell(self, node: Node, cell: Cell, values: dict[str, Tensor], own: int) -> Tensor:
        share, name, samples = self.schedule.share(own, self.timesteps), node.name, len(self.x)
        biases, differences = self.lowered.biases[name], self.schedule.mode == "differences"
        before, presence = self.states.get(name), self.run.presence
        state, output = before, None
        # all at once where the counter needs everything that the cell hears
        size = 0 if differences else self.x.element_size() * max(values[i][0].numel() for i in node.inputs)
        for part in pieces(samples, size):
            inputs = [values[i][part] + share * bias for i, bias in zip(node.inputs, biases, strict=True)]
            if differences:
                self.run.counter.hear(name, [x[None] for x in inputs], own)
            here = cell.init(*inputs) if before is None else taken(before, part)
            here, owed = (here, None) if presence is None else presence.begin(name, cell, here)
            after, sent = self._step(node, cell, here, inputs, own)
            sent = sent if presence is None else presence.sent(name, sent, owed)
            state, output = put(state, part, after, samples), put(output, part, sent, samples)
        assert output is not None
        self.states[name] = state
        if not isinstance(cell, Neuron) or self._fires(own):
            self.run.early += cell.early(output) if isinstance(cell, Neuron) else 0
            there = None if presence is None else presence.present(name)
            self.run.note_undecided(name, cell.undecided(state, there))
        if self.observe is not None and cell.unit is not None:
            self.observe(node, cell.potential(state))
        return output

    def _fires(self, own: int) -> bool:
        return own >= 1 and self.schedule.fires(own, self.timesteps)

    def _step(self, node: Node, cell: Cell, state: Any, inputs: list[Tensor], own: int) -> tuple[Any, Tensor]:
        """The new state and the output of some samples."""
        if not isinstance(cell, Neuron) or self._fires(own):
            t = self.schedule.slot(own, self.timesteps) if isinstance(cell, Neuron) else max(own, 1)
            with at(node.name, own):
                return cell.step(state, *inputs, t=t)
        if not self.period and (own >= 1 or not cell.is_delay):
            state = cell.integrate(state, *inputs)
        return state, self.x.new_zeros((len(inputs[0]), *node.shape))

    def _count(self, node: Node, levels: Tensor, own: int, resting: bool) -> None:
        counter = self.run.counter
        if node.name not in counter.wanted:
            return
        if resting and node.name not in counter.record:
            counter.add_totals(node.name, torch.zeros((2, 1), dtype=torch.float64, device=levels.device))
            return
        if not self.period:
            self.run.counter.add(node.name, levels[None])
            return
        parts = self.sent.setdefault(node.name, [torch.zeros_like(levels) for _ in range(self.rounds)])
        slot = (own - 1) // (2 * self.period)
        if 0 <= slot < self.rounds:
            parts[slot] += levels

    def _read(self, charge: Tensor, own: int) -> None:
        charge = charge + self.schedule.share(own, self.timesteps) * self.lowered.biases[self.lowered.output.name][0]
        if self.schedule.mode == "differences":
            steps = own if self.schedule.gain == "reciprocal" else 1  # of which a message is a difference
            rate = charge * (own / steps)  # the equivalent output of a rate code
            rate = rate if self.answer is None else rate + self.answer
            self.answer = charge / steps if self.answer is None else self.answer + charge / steps
            self.run.t = own
            self.run.read(rate, own)
            return
        if self.period and (own < 1 or (own - 1) // self.period % 2):
            return  # a cycle in which the output layer does not integrate
        self.answer = charge if self.answer is None else self.answer + charge
        if self.period and own % self.period == 0:
            self.run.t += self.period
            self.run.read(self.answer * self.period, self.run.t)
            self.answer = None

    def keep(self, order: Tensor) -> None:
        """Continue with the samples ``order``."""
        self.x = self.x[order]
        self.states = {name: map_state(state, lambda v: v[order]) for name, state in self.states.items()}
        self.answer = None if self.answer is None else self.answer[order]

    def finish(self) -> None:
        if self.answer is not None:
            self.run.t = self.timesteps
            once = self.timesteps if self.schedule.mode == "slots" else 1  # a window of slots is one answer, not a mean
            self.run.read(self.answer * once, self.timesteps)
        for name, parts in self.sent.items():
            self.run.counter.add(name, torch.stack(parts))
