"""Event-by-event simulation in the order of spike times: first-crossing neurons and exact spike times."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Input, Node
from transpike.core.plain import is_plain
from transpike.engines.run import Run
from transpike.errors import SettingError
from transpike.lowering.lowered import Lowered
from transpike.lowering.program import Program
from transpike.neurons import ExactReLU, FirstCrossing
from transpike.neurons.maximum_in_time import MaximumInTime

BASIS = 2**25  # elements of unit inputs that pass through the layers together


@dataclass(frozen=True)
class Sorted:
    """Sorts every neuron's inputs by time and updates its potential from spike to spike: exact in time, and slow.

    For networks of first-crossing neurons (S4NN) and of exact spike times: ``Trace.early`` counts the neurons that
    reached their threshold before the window in which they should fire. The weights of a layer are stored as rows, one
    per neuron. Raises SettingError for other neurons, for schedules without slots, and for inputs
    that are not on the CPU.
    """

    def start(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str] = (), count: bool = True
    ) -> Run:
        """``x`` is (batch, *shape) after preprocessing; ``record`` names layers whose levels are recorded."""
        for node in program.lowered.nodes:
            if isinstance(node.op, Neuron) and not (is_plain(node.op, (ExactReLU, FirstCrossing)) or node.op.is_delay):
                raise SettingError(
                    f"{node.name} ({node.op.describe()}) cannot be simulated event by event; use engine='auto', or "
                    "'reference' for step by step"
                )
        if program.schedule.mode != "slots":
            raise SettingError(f"events are sorted within a window of slots, which {program.schedule} does not have")
        if x.device.type != "cpu":
            raise SettingError(f"events are sorted on the CPU, but the input is on {x.device}; use engine='dense'")
        if "sorted" not in program.prepared:
            double = replace(program, lowered=program.lowered.to(dtype=torch.float64), prepared={})
            program.prepared["sorted"] = double, {}
        double, rows = program.prepared["sorted"]
        return _SortedRun(double, rows, x.double(), sample_ids, record, count)

    def batch_limit(self, program: Program) -> int:
        return 64


@dataclass(frozen=True, eq=False)
class _Rows:
    """For each neuron the inputs with a weight: positions in the joined sources, weights, padded with zeros."""

    sources: tuple[str, ...]
    places: Tensor
    weights: Tensor


class _SortedRun(Run):
    """Wires carry times: the slot or instant of the spike, infinite for none, relative to each layer's window."""

    def __init__(
        self,
        program: Program,
        rows: dict[str, _Rows],
        x: Tensor,
        sample_ids: Tensor,
        record: Iterable[str],
        count: bool,
    ) -> None:
        super().__init__(program, x, sample_ids, record, count)
        self.rows = rows

    def _slots(self, timesteps: int) -> None:
        lowered, encoder = self.program.lowered, self.program.encoder
        constant = {node.name for node in lowered.nodes if encoder.is_constant and node.name in lowered.time_invariant}
        levels: dict[str, Tensor] = {}
        times: dict[str, Tensor] = {}  # spike times of first-crossing wires
        for node in lowered.nodes:
            if isinstance(node.op, Input):
                if node.name in constant:
                    levels[node.name] = node.op.part(self.x)
                else:
                    levels[node.name] = self.program.counts(node, self.x, self.sample_ids, timesteps)
                    times[node.name] = _slots_of(self.program, node, self.x, self.sample_ids, timesteps)
            elif is_plain(node.op, FirstCrossing):
                levels[node.name], times[node.name] = self._crossings(node, node.op, levels, times, timesteps)
            elif is_plain(node.op, ExactReLU):
                levels[node.name] = self._exact(node, node.op, levels)
            elif is_plain(node.op, MaximumInTime):
                pool = node.op.pool
                if node.inputs[0] not in times and not _real(lowered, node.inputs[0]):
                    raise SettingError(
                        f"{node.name} pools sums of spikes or currents, which have no spike time: use engine='auto', "
                        "or 'reference' for step by step"
                    )
                levels[node.name] = pool.run(levels[node.inputs[0]])
                if node.inputs[0] in times:
                    times[node.name] = -pool.run(-times[node.inputs[0]])  # the earliest
            elif isinstance(node.op, Cell):
                bias = lowered.biases[node.name][0]
                levels[node.name] = node.op.counts(levels[node.inputs[0]] + bias, timesteps=timesteps)
            else:
                levels[node.name] = node.op.linear(*(levels[name] for name in node.inputs))
                if lowered.spike_scales[node.name] is not None and all(name in times for name in node.inputs):
                    # wiring that only moves levels also moves 1/(1 + t), and zero padding stays silent
                    moved = node.op.linear(*(1 / (1 + times[name]) for name in node.inputs))
                    times[node.name] = torch.round(1 / moved - 1)
            self.counter.add(node.name, levels[node.name][None])
        output, self.t = lowered.output.name, timesteps
        self.read((levels[output] + lowered.biases[output][0]) * timesteps, timesteps)

    def _gathered(self, node: Node) -> _Rows:
        if node.name not in self.rows:
            self.rows[node.name] = _rows(self.program.lowered, node)
        return self.rows[node.name]

    def _start(self, node: Node, levels: dict[str, Tensor], rows: _Rows) -> Tensor:
        """The charge of bias and analogue input, (batch, neurons)."""
        lowered, name = self.program.lowered, node.inputs[0]
        silent = {source: torch.zeros_like(levels[source]) for source in rows.sources}
        return (_recomputed(lowered, name, levels, silent, biased=True) + lowered.biases[node.name][0]).flatten(1)

    def _crossings(
        self, node: Node, cell: FirstCrossing, levels: dict[str, Tensor], times: dict[str, Tensor], timesteps: int
    ) -> tuple[Tensor, Tensor]:
        """Instantaneous weights: the potential after all spikes of each instant."""
        rows = self._gathered(node)
        theta = cell.threshold.expand(1, *node.shape).flatten(1)
        first = cell.initial.expand(1, *node.shape).flatten(1) + self._start(node, levels, rows)
        found = []
        for sample in range(len(self.x)):
            joined = torch.cat([times[name][sample].flatten() for name in rows.sources]) if rows.sources else None
            now = torch.where(first[sample] > theta[0], 0.0, math.inf) if cell.strict else (
                torch.where(first[sample] >= theta[0], 0.0, math.inf)
            )  # fmt: skip
            if joined is not None:
                arrive, order = torch.sort(joined[rows.places], dim=1, stable=True)
                here = torch.isfinite(arrive)
                steps = torch.where(here, rows.weights.gather(1, order), 0.0)
                potential = first[sample][:, None] + steps.cumsum(1)
                last = torch.ones_like(here)
                last[:, :-1] = arrive[:, 1:] != arrive[:, :-1]  # all spikes of an instant are added together
                threshold = theta[0][:, None]
                over = here & last & (potential > threshold if cell.strict else potential >= threshold)
                moment = torch.where(over, arrive, math.inf).amin(1)
                early = now == 0  # in slot 0 the bias and the spikes of that slot are added together
                both = (arrive == 0) & last
                if bool(both.any()):
                    early &= ~both.any(1)
                now = torch.where(early, now, moment)
            found.append(now)
        time = torch.stack(found).reshape(len(self.x), *node.shape)
        fired = torch.isfinite(time) & (time < timesteps)
        level = torch.where(fired, float(cell.timed) - time, 0.0) if cell.timed else fired.double()
        return level, torch.where(fired, time, math.inf)

    def _exact(self, node: Node, cell: ExactReLU, levels: dict[str, Tensor]) -> Tensor:
        """Ramps: the potential of every neuron at every input spike, and the time at which the last ramp reaches ϑ.

        Inputs without a spike count from the end of their window on, as in the paper: a neuron's slope is then the sum
        of all its weights, which a timer can set without a spike.
        """
        rows = self._gathered(node)
        theta = cell.threshold.expand(1, *node.shape).flatten()
        total = cell.total.expand(node.shape).flatten()
        span, slope = float(cell.span), 1 / (1 - total)  # α is 1, and α + Σ J
        bias = self._start(node, levels, rows) / theta
        table = {n.name: n.op for n in self.program.lowered.nodes}
        before = max([_window(table, name, self.program.lowered) for name in rows.sources], default=0.0)
        # t counts from the end of the window before; inputs arrive at −level
        threshold = before + span + slope * (span * total - bias)
        found = []
        for sample in range(len(self.x)):
            if not rows.sources:
                cross = (threshold[sample] - before) / slope
            else:
                level = torch.cat([levels[name][sample].flatten() for name in rows.sources])[rows.places]
                arrive, order = (-level).sort(1)
                weight = rows.weights.gather(1, order) / theta[:, None] * slope[:, None]
                moved, ramp = (weight * arrive).cumsum(1), weight.cumsum(1)
                zero = torch.zeros_like(moved[:, :1])
                moved, ramp = torch.cat([zero, moved], 1), torch.cat([zero, ramp], 1)
                low = torch.cat([zero - before, arrive], 1)
                high = torch.cat([arrive, zero + math.inf], 1)
                rise = 1 + ramp
                when = (threshold[sample][:, None] - before + moved) / rise
                valid = (rise > 0) & (when >= low - 1e-12) & (when <= high)
                cross = torch.where(valid, when, math.inf).amin(1)
            self.early += int((cross < -1e-9).sum())
            found.append(torch.where(cross < span, span - cross, 0.0))
        return torch.stack(found).reshape(len(self.x), *node.shape)


def _real(lowered: Lowered, name: str) -> bool:
    """True for wires of neurons with exact times."""
    table = {node.name: node for node in lowered.nodes}
    node = table[name]
    while not is_plain(node.op, (ExactReLU, FirstCrossing)) and node.inputs:
        node = table[node.inputs[0]]
    return is_plain(node.op, ExactReLU)


def _slots_of(program: Program, node: Node, x: Tensor, ids: Tensor, timesteps: int) -> Tensor:
    time = torch.full((len(x), *node.shape), math.inf, dtype=x.dtype, device=x.device)
    for t in range(timesteps, 0, -1):
        time = torch.where(program.sent(node, x, ids, t) > 0, float(t - 1), time)
    return time


def _window(table: Mapping[str, object], name: str, lowered: Lowered) -> float:
    """The length of the window in which the spikes of a wire come: that of its neuron."""
    op = table[name]
    if is_plain(op, ExactReLU):
        return float(op.span)
    node = next(n for n in lowered.nodes if n.name == name)
    return max((_window(table, i, lowered) for i in node.inputs), default=0.0)


def _sources(lowered: Lowered, name: str) -> tuple[str, ...]:
    """The wires that carry spikes into a node, through layers without memory."""
    node = next(n for n in lowered.nodes if n.name == name)
    is_delay = isinstance(node.op, Cell) and node.op.is_delay  # it may pass on several spikes
    if lowered.spike_scales[name] is not None and isinstance(node.op, (Cell, Input)) and not is_delay:
        return (name,)
    if isinstance(node.op, (Cell, Input)) and not is_delay:
        return ()
    return tuple(dict.fromkeys(source for i in node.inputs for source in _sources(lowered, i)))


def _recomputed(
    lowered: Lowered, name: str, levels: dict[str, Tensor], given: dict[str, Tensor], biased: bool = False
) -> Tensor:
    """Recompute a wire with other values on the wires that carry spikes; delays may have biases."""
    if name in given:
        return given[name]
    node = next(n for n in lowered.nodes if n.name == name)
    if isinstance(node.op, Cell) and node.op.is_delay:
        value = _recomputed(lowered, node.inputs[0], levels, given, biased)
        return value + lowered.biases[name][0] if biased else value
    if isinstance(node.op, (Cell, Input)):
        return levels[name]
    return node.op.linear(*(_recomputed(lowered, i, levels, given, biased) for i in node.inputs))


def _rows(lowered: Lowered, node: Node) -> _Rows:
    """The rows of a layer: unit spikes, one after another, through the layers between the neurons."""
    wire = node.inputs[0]
    sources = _sources(lowered, wire)
    shapes = {n.name: n.shape for n in lowered.nodes}
    silent = {n.name: torch.zeros((1, *n.shape), dtype=torch.float64) for n in lowered.nodes}
    targets, places, weights, offset = [], [], [], 0
    for source in sources:
        size = math.prod(shapes[source])
        chunk = max(1, BASIS // max(size, math.prod(node.shape)))
        for start in range(0, size, chunk):
            unit = torch.zeros((min(chunk, size - start), size), dtype=torch.float64)
            unit[torch.arange(len(unit)), torch.arange(start, start + len(unit))] = 1
            given = {name: silent[name].expand(len(unit), *shapes[name]) for name in sources}
            given[source] = unit.reshape(-1, *shapes[source])
            analogue = {name: value.expand(len(unit), *value.shape[1:]) for name, value in silent.items()}
            response = _recomputed(lowered, wire, analogue, given).flatten(1)
            place, target = response.nonzero(as_tuple=True)
            places.append(place + start + offset)
            targets.append(target)
            weights.append(response[place, target])
        offset += size
    if not sources:
        return _Rows((), torch.zeros((0, 0)), torch.zeros((0, 0)))
    target, place, weight = torch.cat(targets), torch.cat(places), torch.cat(weights)
    order = target.argsort(stable=True)
    target, place, weight = target[order], place[order], weight[order]
    neurons = math.prod(node.shape)
    counts = torch.bincount(target, minlength=neurons)
    column = torch.arange(len(target)) - (counts.cumsum(0) - counts)[target]
    widest = max(1, int(counts.max()))
    rows = torch.zeros((neurons, widest), dtype=torch.long), torch.zeros((neurons, widest), dtype=torch.float64)
    rows[0][target, column], rows[1][target, column] = place, weight
    return _Rows(sources, *rows)
