"""From a program on the exact grid to its integer form, and from inputs to the integers that enter it.

Refuses by name what has no such form, and says what to change.
"""

from dataclasses import replace
from math import ceil, floor, log2

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.errors import DataError, UnsupportedModel
from transpike.lowering.bounds import spans
from transpike.lowering.lowered import Exactness
from transpike.lowering.program import Program
from transpike.lowering.rounding_points import OnGrid
from transpike.lowering.whole import Entrance, Integers, Layer, Samples, Slots, Term, Whole, Window, sends
from transpike.lowering.whole_paths import onward, paths, sends_levels
from transpike.lowering.whole_rules import after_firing, check_cell, narrowed, unit_of
from transpike.lowering.whole_slots import Slotting, check_slots
from transpike.lowering.whole_terms import compact, extremes, front_of, integers, terms_of
from transpike.lowering.whole_timing import Times, check_schedule, check_steps
from transpike.neurons.max_pooling import LateralInhibition, MaximumOfEstimates
from transpike.ops.maxpool import MaxPool
from transpike.readouts.accumulated_membrane import AccumulatedMembrane
from transpike.readouts.delayed_window import DelayedWindow
from transpike.readouts.earliest_spike import EarliestSpike
from transpike.readouts.spike_count import SpikeCount


def whole_form(program: Program, timesteps: int, ends: tuple[int, int] | None = None) -> Whole:
    """The integer form of a program for runs of up to ``timesteps`` steps.

    ``ends``: the smallest and the largest input of a network that takes integers (``Preprocessing.whole``).
    Raises UnsupportedModel, naming layer, reason and remedy, for what has none: see docs/export.md.
    """
    exactness = _checked(program, timesteps)
    return _Former(program, exactness, timesteps, ends).form()


def _checked(program: Program, timesteps: int) -> Exactness:
    exactness = program.lowered.exactness
    if exactness is None:
        raise UnsupportedModel("the network has no exact grid, so no integers; convert with exact_grid=True")
    check_schedule(program)
    if program.schedule.mode == "slots":
        check_slots(program, timesteps)
    for node in program.lowered.nodes:  # a leak keeps potentials off every grid
        if isinstance(node.op, Cell) and node.op.unit is not None and node.op.unit.leak != 1:
            check_cell(node.op, node.name)
    if exactness.timesteps < timesteps:
        raise UnsupportedModel(
            f"the network is not on a grid for {timesteps} steps: {exactness.reason}; "
            + ("export fewer steps" if exactness.timesteps else "use a smaller T or other thresholds")
        )
    if not is_plain(program.readout, (AccumulatedMembrane, SpikeCount, DelayedWindow, EarliestSpike)):
        raise UnsupportedModel(
            f"the readout {type(program.readout).__name__} has no integer form, only totals over steps have: "
            "convert with readout=AccumulatedMembrane()"
        )
    if _delay(program) >= timesteps:
        raise UnsupportedModel(
            f"the readout excludes the first {_delay(program)} steps, but only {timesteps} are exported: export more "
            "steps"
        )
    if program.encoder.spike_scale is None and not program.encoder.is_constant:
        raise UnsupportedModel(
            f"the encoder {type(program.encoder).__name__} sends other currents in each step; use an encoder of spikes "
            "or ConstantCurrent()"
        )
    return exactness


def _delay(program: Program) -> int:
    """The number of first steps that the readout does not read."""
    return (program.readout.delay or 0) if isinstance(program.readout, DelayedWindow) else 0


class _Former:
    """Walks the lowered form once."""

    def __init__(self, program: Program, exactness: Exactness, timesteps: int, whole: tuple[int, int] | None) -> None:
        self.lowered, self.table, self.times = program.lowered, program.table, Times(program, timesteps)
        self.slotting = Slotting(program.encoder, self.times) if program.schedule.mode == "slots" else None
        self.exactness, self.start, self.whole = exactness, _delay(program), whole
        self.entrances: list[Entrance] = []
        self.layers: list[Layer] = []
        self.ends: dict[str, tuple[int, int]] = {}
        """Source → its smallest and its largest level of one step."""
        found = spans(self.lowered, exactness.input_bound)
        steady = self.lowered.time_invariant
        self.middle = onward(self.lowered, {name: found[name].middle for name in steady})
        self.radius = onward(self.lowered, {name: found[name].radius for name in steady}, magnitude=True)

    def form(self) -> Whole:
        output = self.lowered.output
        if output.name in self.lowered.time_invariant:
            raise UnsupportedModel("no neuron lies between input and output, so there is nothing to export")
        for node in self.lowered.nodes:
            if isinstance(node.op, Input) and sends_levels(self.lowered, node):
                self._spikes(node)
            elif isinstance(node.op, (LateralInhibition, MaximumOfEstimates)):
                self.layers.append(self._maximum(node, node.op))
            elif isinstance(node.op, Cell) and self.slotting is not None:
                make = self._delay if node.op.is_delay else self._first_spikes
                self.layers.append(make(node, node.op, self.slotting))
            elif isinstance(node.op, Cell):
                self.layers.append(self._neurons(node, node.op))
        self.layers.append(self._readout(output))
        times = self.times
        return Whole(tuple(self.entrances), tuple(self.layers), times.steps, times.divisor, times.window)

    def _spikes(self, node: Node) -> None:
        alphabet, scale = self.lowered.alphabets[node.name], self.lowered.spike_scales[node.name]
        if not alphabet.levels or alphabet.kind not in ("binary", "ternary", "levels", "time"):
            raise UnsupportedModel(f"{node.name} sends {alphabet} spikes, which have no integer form")
        assert scale is not None
        low = -alphabet.levels if alphabet.signed else 0
        self.ends[node.name] = (low, alphabet.levels)
        unit = compact(scale[0].numpy())
        slots = None if self.slotting is None else self.slotting.entering()
        self.entrances.append(Entrance(node.name, node.shape, "spikes", low, alphabet.levels, unit, slots=slots))

    def _maximum(self, node: Node, cell: LateralInhibition | MaximumOfEstimates) -> Layer:
        pool, source, where = cell.pool, self.table[node.inputs[0]], f"{node.name} ({cell.describe()})"
        plain = is_plain(cell, LateralInhibition) and not cell.period and not cell.pre_simulation_steps
        if not plain and not is_plain(cell, MaximumOfEstimates):
            raise UnsupportedModel(f"{where} restarts during a run, which the integer form does not")
        if not sends_levels(self.lowered, source):
            raise UnsupportedModel(
                f"{where} pools what {source.name} ({source.op.describe()}) makes of spikes, not the spikes of one "
                "layer: put the pooling directly after an activation"
            )
        if (
            not is_plain(pool, MaxPool)
            or any(d != 1 for d in pool.dilation)
            or _windows(pool, source) != node.shape[1:]
        ):
            raise UnsupportedModel(
                f"{where} has uneven windows, windows with gaps, or windows that reach over the edge: use plain max "
                "pooling with dilation=1 and ceil_mode=False"
            )
        self.ends[node.name] = self.ends[source.name]
        window = Window(pool.kernel, pool.stride, pool.padding)
        unit, slots = np.ones(node.shape[0]), self._slots(source.name)
        return Layer(node.name, "maximum", node.shape, 0, unit, pool=window, source=source.name, slots=slots)

    def _slots(self, name: str) -> Slots | None:
        """Those of an entrance or a layer before."""
        before: tuple[Entrance | Layer, ...] = (*self.entrances, *self.layers)
        return next((one.slots for one in before if one.name == name), None)

    def _delay(self, node: Node, cell: Cell, slotting: Slotting) -> Layer:
        layer = slotting.delay(node, cell, self.table[node.inputs[0]], self._slots(node.inputs[0]))
        self.ends[node.name] = self.ends[layer.source]
        return layer

    def _neurons(self, node: Node, cell: Cell) -> Layer:
        check_cell(cell, node.name)
        axis, unit = self._unit(node)
        found = unit_of(cell, node.name, unit, self.times.timesteps)
        layer = Layer(
            node.name, "integrate", node.shape, axis, _along(unit, axis), self._terms(node, node.inputs[0], unit),
            self._currents(node, node.inputs[0], unit), self._bias(node, unit), found.threshold, found.initial,
            "zero" if found.zero else "subtract", rule=found.rule, timing=self.times.of(node.name),
        )  # fmt: skip
        self.ends[node.name] = found.rule.ends
        return narrowed(self._bounded(layer), f"{node.name} ({cell.describe()})")

    def _first_spikes(self, node: Node, cell: Cell, slotting: Slotting) -> Layer:
        """In the coarsest unit of its weights: the grid of early firing is finer than most weights are."""
        axis, unit = self._unit(node)
        terms, currents = self._terms(node, node.inputs[0], unit), self._currents(node, node.inputs[0], unit)
        bias = self._bias(node, unit)
        common = 1 if currents else max(1, _common_power([*(term.weight for term in terms), bias]))
        terms, unit = tuple(replace(term, weight=term.weight // common) for term in terms), unit * common
        slots = slotting.first_spikes(node, cell, unit)
        layer = Layer(
            node.name, "first-spike", node.shape, axis, _along(unit, axis), terms, currents, bias // common, slots=slots
        )
        self.ends[node.name] = (0, int(slots.levels.max()))
        return self._bounded(layer)

    def _bias(self, node: Node, unit: Tensor) -> Integers:
        given = self.lowered.biases[node.name][0].expand(1, *self.table[node.inputs[0]].shape)
        return compact(integers(given.reshape(node.shape), unit, node.name))

    def _unit(self, node: Node) -> tuple[int, Tensor]:
        """The axis of the channels, and the grid step of each element, equal within a channel; (*shape)."""
        step = self.exactness.steps[node.name].double().expand(1, *self.table[node.inputs[0]].shape)
        full, axis = step.reshape(node.shape), min(self.lowered.axes[node.name], max(1, len(node.shape))) - 1
        if full.ndim:
            others = [other for other in range(full.ndim) if other != axis]
            full = full.amin(others, keepdim=True) if others else full
        return axis, full.expand(node.shape)

    def _readout(self, node: Node) -> Layer:
        """The output, with the coarsest unit that all of its weights, biases and currents share."""
        bias, shape = self.lowered.biases[node.name][0].expand(1, *node.shape)[0], node.shape
        largest = sum(float(abs(one).max()) for one in (bias, *self._steady(node.name)))
        largest += float(spans(self.lowered, self.exactness.input_bound)[node.name].largest.max())
        fine = 2.0 ** (ceil(log2(max(largest, 1e-30))) - 50)
        unit = torch.full(shape, fine, dtype=torch.float64)
        terms, bias_units = self._terms(node, node.name, unit), integers(bias, unit, node.name)
        values = [term.weight for term in terms] + [bias_units]
        grids = [one.op.grid for one in self.lowered.nodes if isinstance(one.op, OnGrid)]
        values += [integers(grid, unit.flatten()[:1], node.name) for grid in grids if self._steady(node.name)]
        common = max(1, _common_power(values))
        terms = tuple(replace(term, weight=term.weight // common) for term in terms)
        unit = unit * common
        currents = self._currents(node, node.name, unit)
        layer = Layer(
            node.name, "readout", shape, 0, np.array(fine * common), terms, currents, compact(bias_units // common),
            start=self.start, timing=self.times.of(node.name),
        )  # fmt: skip
        return self._bounded(layer)

    def _terms(self, node: Node, wire: str, unit: Tensor) -> tuple[Term, ...]:
        found = [
            term
            for path in paths(self.lowered, self.table, wire)
            for term in terms_of(self.table, path, unit, node.name)
        ]
        return tuple(term for term in found if term.weight.any())

    def _steady(self, wire: str) -> tuple[Tensor, ...]:
        """Middle and radius of the constant current on a wire; nothing if there is none."""
        return (self.middle[wire], self.radius[wire]) if wire in self.middle else ()

    def _currents(self, node: Node, wire: str, unit: Tensor) -> tuple[str, ...]:
        """Adds the entrance of the constant current of a layer, if it has one."""
        if not self._steady(wire):
            return ()
        middle, radius = (value.reshape(node.shape) for value in self._steady(wire))
        name = f"{node.name}.current"
        low = floor(float(((middle - radius) / unit).min())) - 1
        high = ceil(float(((middle + radius) / unit).max())) + 1
        front = None if self.whole is None else front_of(self.table, wire, unit, self.whole)
        self.entrances.append(Entrance(name, node.shape, "charge", low, high, compact(unit.numpy()), front))
        self.ends[name] = (low, high)
        return (name,)

    def _bounded(self, layer: Layer) -> Layer:
        """The layer with the largest |v| for any levels, by interval arithmetic step by step."""
        given = [(term.source, extremes(term, *self.ends[term.source], layer)) for term in layer.terms]
        if self.slotting is not None:  # everything enters once
            low = high = layer.bias
            for name in layer.currents:
                low, high = low + self.ends[name][0], high + self.ends[name][1]
            for _, (least, most) in given:
                low, high = low + least, high + most
            return replace(layer, bound=compact(np.maximum(abs(low), abs(high))))
        table: dict[str, Layer | Entrance] = {one.name: one for one in self.entrances}
        table |= {one.name: one for one in self.layers}
        low = high = layer.initial
        bound = abs(layer.initial)
        for t in range(self.times.steps):
            before = low, high
            if layer.active("bias", t):
                low, high = low + layer.bias, high + layer.bias
            if layer.active("currents", t):
                low = low + sum(self.ends[name][0] for name in layer.currents)
                high = high + sum(self.ends[name][1] for name in layer.currents)
            for least, most in (ends for source, ends in given if sends(table, self.times.window, source, t)):
                low, high = low + least, high + most
            bound = np.maximum(bound, np.maximum(abs(high), abs(low)))
            if layer.kind != "readout" and layer.active("fires", t):
                low, high = after_firing(layer, low, high)
            if layer.timing is None and all(map(np.array_equal, before, (low, high))):
                break
        return replace(layer, bound=compact(bound))


def _windows(pool: MaxPool, source: Node) -> tuple[int, ...]:
    """The number of whole windows on each axis."""
    sizes = zip(source.shape[1:], pool.kernel, pool.stride, pool.padding, strict=True)
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)


def _along(unit: Tensor, axis: int) -> NDArray[np.float64]:
    """One value for each channel."""
    rows = unit.reshape(1, 1) if not unit.ndim else unit.movedim(axis, 0).reshape(unit.shape[axis], -1)
    return rows[:, 0].contiguous().numpy()


def _common_power(values: list[Integers]) -> int:
    """The largest power of two that divides all values; 0 if all are 0."""
    found = 0
    for value in values:
        found |= int(np.bitwise_or.reduce(np.abs(value).ravel(), initial=0))
    return found & -found


def samples_of(program: Program, whole: Whole, x: Tensor, sample_ids: Tensor, timesteps: int) -> Samples:
    """The integers that enter for prepared inputs ``x`` (batch, *shape), as the reference engine computes them.

    ``sample_ids`` (batch,) are those of a run. Raises SettingError for more steps than the form has, for others than
    it has in a network with windows, and DataError for inputs beyond the range that the grid covers.
    """
    check_steps(program, whole.window, whole.timesteps, timesteps)
    lowered, x = program.lowered.to(dtype=torch.float64), x.double()
    currents: dict[str, Tensor] = {}
    entering: dict[str, Integers] = {}
    for node in lowered.nodes:
        if isinstance(node.op, Input) and sends_levels(lowered, node):
            sent = [program.sent(node, x, sample_ids, t) for t in range(1, (whole.window or timesteps) + 1)]
            sent += [torch.zeros_like(sent[0])] * (timesteps - len(sent))
            entering[node.name] = torch.stack(sent).numpy().astype(np.int64)
        elif node.name in lowered.time_invariant:
            given = isinstance(node.op, Input)
            inputs = [currents[name] for name in node.inputs]
            op = node.op
            assert isinstance(op, Op)
            currents[node.name] = program.sent(node, x, sample_ids, 1) if given else op.linear(*inputs)
    found = onward(lowered, currents)
    for layer in whole.layers:
        for name in layer.currents:
            node = program.table[layer.name]
            wire = node.name if layer.kind == "readout" else node.inputs[0]
            entrance = whole.table[name]
            assert isinstance(entrance, Entrance)
            charge = found[wire].reshape(len(x), *layer.shape)
            entering[name] = integers(charge, torch.from_numpy(entrance.unit), name)
    raw = {one.front.name: currents[one.front.name].numpy().astype(np.int64) for one in whole.entrances if one.front}
    for one in whole.entrances:
        least, most = int(entering[one.name].min()), int(entering[one.name].max())
        if least < one.low or most > one.high:
            raise DataError(
                f"{one.name} gets {least} to {most}, but the grid covers {one.low} to {one.high}: the inputs are far "
                "beyond those of the calibration"
            )
    return Samples(entering, timesteps, raw)
