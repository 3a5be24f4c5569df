"""Counts of spikes and synaptic operations during a run."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity, Evaluations, LayerActivity
from transpike.core.alphabet import Alphabet
from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Input
from transpike.engines.pieces import pieces
from transpike.engines.presence import Presence
from transpike.engines.rows import Rows
from transpike.errors import SettingError
from transpike.lowering.activity import sample_masks, state_fans
from transpike.lowering.program import Program


class Counter:
    """Sums spikes and synaptic operations of each layer and step over the batch."""

    def __init__(self, program: Program, x: Tensor, record: Iterable[str], count: bool) -> None:
        device = x.device
        self.program, self.lowered, self.samples = program, program.lowered, len(x)
        self.fans = {name: fan.to(device) for name, fan in program.fans.items()} if count else {}
        self.state_fans = {name: fan.to(device) for name, fan in program.state_fans.items()} if count else {}
        self.record = frozenset(record)
        names = {node.name for node in self.lowered.nodes if isinstance(node.op, (Cell, Input))}
        if unknown := self.record - names:
            raise SettingError(
                f"there is no spiking layer named {', '.join(sorted(unknown))}; choose from {', '.join(sorted(names))}"
            )
        self.later: dict[tuple[str, ...], Rows] = {}
        self.sent = {name: Rows() for name in self.fans}
        self.operations = {name: Rows() for name in self.fans}
        self.reads = {name: Rows() for name in self.state_fans}
        self.boundary = {name: fan.to(device) for name, fan in program.boundary_fans.items()} if count else {}
        self.crossed = {name: Rows() for name in self.boundary}
        self.watched = {name: columns.to(device) for name, columns in program.watched.items()} if count else {}
        self.seen = {name: Rows() for name in self.watched}
        self.trains: dict[str, list[Tensor]] = {name: [] for name in self.record}
        found = program.evaluations if count else ()
        self.evaluating = {one.name: one for one in found if not one.once}
        self.evaluated_once = [dataclasses.replace(one, needed=one.needed * len(x)) for one in found if one.once]
        self.needed: dict[str, list[float]] = {name: [] for name in self.evaluating}
        settling = [n for n in self.lowered.nodes if isinstance(n.op, Neuron) and len(n.shape) > 1]
        settling = settling if program.schedule.mode == "differences" else []
        self.active = {node.name: Rows() for node in settling if node.name in self.fans}
        self.wanted = self.record | self.fans.keys()
        self.steps = 0
        self.presence: Presence | None = None
        self.updated: dict[str, int] = {}  # membrane updates of one sample, where elements begin later
        self.old_fans: dict[str, Tensor] = {}  # fan-outs of the elements that had begun before the last ones
        self.repeated = {name: Rows() for name in self.fans}  # their operations
        self.masks: dict[str, Tensor] = {}  # by source: what it hides in each sample
        self.hidden: dict[str, Tensor] = {}  # by cell: True where a mask of the sample hides
        self.sample_fans: dict[str, Tensor] = {}  # (batch, neurons), where products depend on such masks
        if count and any(isinstance(node.op, Cell) and node.op.hides_by_sample for node in self.lowered.nodes):
            self.masks, cells = sample_masks(self.lowered, x)
            self.hidden = {name: mask != 0 for name, mask in cells.items()}
            self.sample_fans = self._fans_of_samples(None)

    def _fans_of_samples(self, present: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        found = state_fans(self.lowered, self.masks, present) if self.state_fans else {}
        flat = {name: fan.movedim(1, -1).flatten(1) for name, fan in found.items()}
        return {name: flat[name].to(fan.device) for name, fan in self.state_fans.items()}

    def keep(self, order: Tensor) -> None:
        """Continue with the samples ``order``."""
        self.masks = {name: mask[order] for name, mask in self.masks.items()}
        self.hidden = {name: mask[order] for name, mask in self.hidden.items()}
        self.sample_fans = {name: fan[order] for name, fan in self.sample_fans.items()}

    def grow(self, presence: Presence) -> None:
        """From now on only some elements exist, and only their states can be read."""
        self.presence = presence
        if not self.fans:
            return
        if self.state_fans:
            present = {name: presence.present(name).cpu() for name in presence.waits}
            found = self.program.state_fans_of(present)
            self.state_fans = {name: found[name].to(fan.device) for name, fan in self.state_fans.items()}
            self.sample_fans = self._fans_of_samples(present) if self.masks else {}
        for name, fan in self.fans.items():
            old = (presence.waits[name] < presence.before).movedim(1, -1).flatten()
            self.old_fans[name] = old * (fan + self.state_fans[name] if name in self.state_fans else fan)

    def repetitions(self) -> Tensor:
        """Per step: the synaptic operations of elements that had begun before the last ones, summed over samples."""
        return torch.stack([rows.since().cpu() for rows in self.repeated.values()]).sum(0)

    def add_steps(self, steps: int) -> None:
        """That many steps have been simulated."""
        self.steps += steps
        if self.presence is not None:
            for name in self.fans:
                before = self.updated.get(name, 0)
                self.updated[name] = before + self.presence.count(name) * self._updates(name, steps)

    def add(self, name: str, levels: Tensor, spikes: Tensor | None = None) -> None:
        """``levels``: (time, batch, *shape). ``spikes``: (batch, *shape) if signs cancel in the levels of a window."""
        if name in self.record:
            self.trains[name].append(levels.clone())
        if name in self.fans:
            # in pieces, because finding the spikes of levels takes several tensors of their size
            size = levels[:, 0].nbytes if levels.shape[1] else 0
            per_neuron = torch.zeros((), dtype=torch.float64, device=levels.device)
            masked = torch.zeros((), dtype=torch.float64, device=levels.device)
            fans = self.sample_fans.get(name)
            for part in pieces(levels.shape[1], size):
                here = None if spikes is None else spikes[part]
                sent = _of_neurons(levels[:, part], here, self.lowered.alphabets[name])
                # counts of one neuron over a batch stay far below 2^24, so float32 is exact here
                per_neuron = per_neuron + sent.sum(1).double()
                masked = masked if fans is None else masked + (sent.double() * fans[part]).sum((1, 2))
            self.sent[name].add(per_neuron.sum(1))
            operations = per_neuron @ self.fans[name]
            if name in self.state_fans:
                reads = per_neuron @ self.state_fans[name] if fans is None else masked
                self.reads[name].add(reads)
                operations = operations + reads
            self.operations[name].add(operations)
            if self.presence is not None:
                self.repeated[name].add(per_neuron @ self.old_fans[name])
            if name in self.active:
                self.active[name].add((levels != 0).any(1 + self.lowered.axes[name]).flatten(1).sum(1).double())
            if name in self.boundary:
                self.crossed[name].add(per_neuron @ self.boundary[name])
            if name in self.watched:
                self.seen[name].add(per_neuron @ self.watched[name])

    def hear(self, name: str, trains: Sequence[Tensor], t: int) -> None:
        """What a cell receives from step t on, (time, batch, *shape) each, under a schedule of differences."""
        if name not in self.evaluating:
            return
        cell = self.program.table[name].op
        assert isinstance(cell, Cell)
        hidden = self.hidden.get(name)
        for k, now in enumerate(zip(*trains, strict=True)):
            if self.presence is not None:
                changed = self.presence.changed(self.program.table[name].inputs, now, first=k == 0)
            else:
                changed = [x != 0 if t + k > 1 else torch.ones_like(x, dtype=torch.bool) for x in now]  # at first all
            changed = changed if hidden is None else [*changed[:-1], hidden]
            self.needed[name].append(float(cell.parts(*changed).sum()))

    @property
    def simple(self) -> frozenset[str]:
        """The cells of which ``add_totals`` is enough: their spikes are neither recorded nor weighed otherwise."""
        return self.summed - self.state_fans.keys()

    @property
    def summed(self) -> frozenset[str]:
        """``simple`` cells, and those whose spikes read states, which ``add_totals`` then gets too."""
        others = (self.record, self.boundary, self.watched, self.sample_fans)
        return frozenset(self.fans) - frozenset(name for group in others for name in group)

    def add_totals(
        self, name: str, totals: Tensor, crossed: Tensor | None = None, active: Tensor | None = None,
        reads: Tensor | None = None,
    ) -> None:  # fmt: skip
        """``totals`` (2, time): spikes per step, summed over the batch, and their operations, all at weights.

        ``crossed`` (time,): those that leave the spiking part; ``active`` (time,): the positions that sent; ``reads``
        (time,): the states that were read, which are operations too. They are not needed where there are no spikes.
        """
        self.sent[name].add(totals[0])
        self.operations[name].add(totals[1] if reads is None else totals[1] + reads)
        if name in self.reads:
            self.reads[name].add(torch.zeros_like(totals[1]) if reads is None else reads)
        if self.presence is not None:
            self.repeated[name].add(torch.zeros_like(totals[1]))
        if name in self.active:
            self.active[name].add(torch.zeros_like(totals[1]) if active is None else active)
        if name in self.crossed:
            self.crossed[name].add(torch.zeros_like(totals[1]) if crossed is None else crossed)
        if name in self.seen:
            self.seen[name].add(totals.new_zeros((totals.shape[1], self.watched[name].shape[1])))

    def add_later(self, names: tuple[str, ...], totals: Tensor) -> None:
        """``add_totals`` of several layers, (names, 3, time): spikes, operations, crossings; see ``settle``."""
        self.later.setdefault(names, Rows()).add(totals.movedim(2, 0))

    def settle(self) -> None:
        """Sort what came by ``add_later`` into the layers: once, because steps of a stream are short."""
        for names, rows in self.later.items():
            found = rows.since().double()
            for k, name in enumerate(names):
                self.add_totals(name, found[:, k, :2].t(), found[:, k, 2])
        self.later = {}

    def activity(self) -> Activity:
        self.settle()
        schedule, steps = self.program.schedule, self.steps
        cycles = steps // (schedule.period or 1)
        bias_times = {"steps": steps, "differences": 1, "windows": steps, "slots": 1, "cycles": cycles}[schedule.mode]
        times = {"steps": steps, "differences": steps, "windows": 1, "slots": 1, "cycles": cycles}[schedule.mode]
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=self.sent[layer.name].since().cpu(),
                synaptic_operations=self.operations[layer.name].since().cpu(),
                product_operations=self._reads(layer.name),
                updates=self._updated(layer, steps) * self.samples,
                biases=layer.biases * bias_times,
                **self._active(layer.name),
            )
            for layer in self.program.layers
            if layer.name in self.fans
        )
        macs = self.program.macs(times)
        joined = tuple(
            dataclasses.replace(c, times=macs[c.name] // c.macs) if c.analogue and c.macs else c
            for c in self.program.connections
        )
        crossings = tuple(
            dataclasses.replace(one, events=self.crossed[one.name].since().cpu()) if one.name in self.crossed else one
            for one in self.program.crossings
        )
        once = schedule.mode == "differences"
        left_out = self.program.unpriced
        evaluations = tuple(
            dataclasses.replace(one, times=times, needed=self._needed(one, times)) for one in self.evaluating.values()
        )
        joined = joined if self.fans else ()
        return Activity(
            layers, self.samples, macs, joined, steps, once=once, unpriced=left_out,
            evaluations=(*evaluations, *self.evaluated_once), crossings=crossings,
            computed_once=frozenset(self.program.macs_once),
        )  # fmt: skip

    def _needed(self, one: Evaluations, times: int) -> Tensor:
        """Per step: the parts of a cell that had to be computed; all of them where time brings no differences."""
        if self.program.schedule.mode == "differences":
            return torch.tensor(self.needed[one.name], dtype=torch.float64)
        return torch.full((times,), float(one.parts * self.samples), dtype=torch.float64)

    def _reads(self, name: str) -> Tensor:
        """Synaptic operations that read states, per step."""
        if name not in self.reads:
            return torch.zeros(len(self.operations[name]), dtype=torch.float64)
        return self.reads[name].since().cpu()

    def _active(self, name: str) -> dict[str, Any]:
        """How many positions of a layer that settles sent spikes."""
        if name not in self.active:
            return {}
        shape, axis = self.program.table[name].shape, self.lowered.axes[name]
        return {"positions": math.prod(shape) // shape[axis - 1], "active": self.active[name].since().cpu()}

    def _updated(self, layer: LayerActivity, steps: int) -> int:
        """The membrane updates of a layer in one sample."""
        if self.presence is not None:
            return self.updated.get(layer.name, 0)
        return layer.neurons * self._updates(layer.name, steps)

    def _updates(self, name: str, steps: int) -> int:
        op = self.program.table[name].op
        return op.updates(steps) if isinstance(op, Cell) else 0


MANTISSA_BITS = 2**23 - 1  # of a float32: 0 for powers of two, and for 0


def _of_neurons(levels: Tensor, spikes: Tensor | None, alphabet: Alphabet) -> Tensor:
    """(time, batch, neurons): the spikes of these samples; arguments as of ``Counter.add``."""
    spikes = (levels.abs() if alphabet.signed else levels) if spikes is None else spikes[None]
    if alphabet.kind == "bits" and alphabet.signed:  # of digits with signs; a phase code has one sign in all
        spikes = _digits(spikes)
    elif alphabet.kind in ("phase", "bits"):
        spikes = _ones(spikes)
    spikes = 2 * (spikes > 0).to(spikes.dtype) if alphabet.kind == "switch" else spikes
    if alphabet.kind == "time":  # integer levels from 1 on, or real numbers at exact times
        spikes = spikes.clamp(max=1) if alphabet.levels else (spikes > 0).to(spikes.dtype)
    return spikes.movedim(2, -1).flatten(2)


def _digits(levels: Tensor) -> Tensor:
    """The smallest number of signed powers of two with this sum, for each level from 0 on: 7 = 8 − 1 has two.

    The digits of the non-adjacent form of n are the binary digits in which n and 3 n differ.
    """
    if levels.dtype == torch.float32 and not bool((levels.view(torch.int32) & MANTISSA_BITS).any()):
        return (levels > 0).float()  # every level is a power of two, as of neurons that send one spike a step
    whole = torch.arange(int(levels.max()) + 1, device=levels.device) if levels.numel() else levels.long()
    table = _ones((whole ^ (3 * whole)).to(levels.dtype))
    return table[levels.int()]


def _ones(levels: Tensor) -> Tensor:
    """The number of ones in the binary form of each level: one phase-weighted spike each."""
    total, left = torch.zeros_like(levels), levels
    while bool((left > 0).any()):
        half = torch.floor(left / 2)
        total, left = total + (left - 2 * half), half
    return total
