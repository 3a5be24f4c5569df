"""The exact grid: weights, biases, thresholds and potentials on powers of two, so that float32 sums are exact.

A sum of multiples of s is exact in float32 if every partial sum stays below 2²⁴·s, in any order of the additions. Then
the spikes do not depend on the engine, the batch size, the chunks or the memory layout.
"""

import dataclasses
from collections.abc import Mapping
from math import log2

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.channels import extreme, resolved, rows, shaped
from transpike.core.graph import Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.lowering.bounds import Span, growth, offset, spans
from transpike.lowering.entrances import bound_of
from transpike.lowering.lowered import Exactness, Lowered
from transpike.lowering.rounding_points import OnGrid, with_rounding_points
from transpike.lowering.ties import step_of_floor
from transpike.ops.pack import Pack
from transpike.ops.scale import Scale

MANTISSA = 2.0**24
WIDE_MANTISSA = 2.0**50  # for runs in float64; the remaining bits are for the weights of phases
INNER_BITS = (10, 8, 7)  # tried for weights followed by another weight before a neuron: both share 24 bits
INPUT_BITS = 16  # of the analogue input, and
TIME_INVARIANT_BITS = 24  # of the weights that multiply it: they run in float64
ESTIMATE_BITS = 18  # of its current before weights, in runs whose estimates are sums in float64
WEIGHT_PEAK = 2.0**13 - 1  # grid steps of an output's largest weight; no finer, for engines with 16-bit weights
MARGIN = 1.001  # for the change of the weights by rounding
SAFETY = 2.0  # potentials may grow faster than on calibration data by this factor
RANGE_CHECK_EVERY = 8  # number of steps between two range checks of the potentials
COARSEST = 2.0**-7  # a grid that changes weights by more than this share of the largest costs accuracy


def put_on_grid(
    lowered: Lowered, timesteps: int, input_bound: float, ranges: Mapping[str, Tensor], mantissa: float = MANTISSA
) -> Lowered:
    """The lowered form on the finest grid that covers ``timesteps`` steps, or unchanged if there is none.

    ``input_bound`` is the largest absolute input of one step; ``ranges`` the largest mean current of each neuron layer
    on calibration data, broadcastable, in the lowered form's units: potentials are assumed to grow at most that fast
    per step (times ``SAFETY``), which every run checks. The sums of one step are bounded for any input by interval
    arithmetic. ``mantissa`` is the largest number of grid steps that the run's arithmetic adds exactly.
    The time-invariant nodes (analogue input) run in float64 and are rounded once, where they enter neurons.
    """
    prepared = with_rounding_points(lowered)
    found = spans(prepared, input_bound)
    leaky = next((node for node in prepared.nodes if _leaks(node)), None)
    endless = next((name for name, span in found.items() if not bool(torch.isfinite(span.radius).all())), None)
    uneven = next((node for node in prepared.nodes if isinstance(node.op, Op) and not node.op.is_whole), None)
    if endless is not None:
        reason = f"{endless} is analogue inside the network, so its values are not on a grid"
    elif uneven is not None:
        reason = f"{uneven.name} ({uneven.op.describe()}) weights its inputs by fractions"
    else:
        wanted = _wanted_steps(prepared, found, timesteps, ranges, mantissa)
        inner = any(
            isinstance(n.op, Synapse) and wanted[n.name] is None
            for n in prepared.nodes
            if n.name not in prepared.time_invariant
        )
        tries = [
            _Rounding(prepared, wanted, input_bound, bits, mantissa, found, timesteps)
            for bits in INNER_BITS[: None if inner else 1]
        ]
        rounded, rounding = min(((one.apply(), one) for one in tries), key=lambda pair: pair[1].change)
        exactness = rounding.exactness(rounded, ranges)
        if leaky is not None:  # weights are on the grid all the same, so that sums are the same everywhere
            reason = f"the potentials of {leaky.name} leak, so they are not on a grid"
            return dataclasses.replace(
                rounded, exactness=dataclasses.replace(exactness, timesteps=0, window=0, reason=reason)
            )
        if rounding.change > COARSEST:
            reason = (
                f"float32 is too narrow for {timesteps} steps: the grid would change weights by {rounding.change:.1%}"
            )
        elif exactness.timesteps < timesteps:
            reason = f"float32 is too narrow for {timesteps} steps: {exactness.reason}"
        else:
            return dataclasses.replace(rounded, exactness=exactness)
    return dataclasses.replace(lowered, exactness=Exactness(0, 0.0, input_bound, reason))


def sums_mantissa(timesteps: int) -> float:
    """The grid steps of one step's charge, so that float64 adds ``timesteps`` estimates of as many charges exactly."""
    return 2.0 ** (52 - 2 * timesteps.bit_length())


def _drift(lowered: Lowered, node: Node, found: Mapping[str, Span], ranges: Mapping[str, Tensor]) -> Tensor:
    """The change of a cell's charge per step in the long run: measured if ``ranges`` has it, else the worst case."""
    if node.name not in ranges:
        return growth(lowered, node, found)
    drift = SAFETY * ranges[node.name].expand(1, *node.shape)
    return torch.maximum(drift, offset(node) / 16)  # a channel without spikes on calibration data may still fire


def _power(value: Tensor) -> Tensor:
    """The smallest power of two that is at least ``value``."""
    return torch.exp2(torch.ceil(torch.log2(value.clamp(min=1e-30))))


def _wanted_steps(
    lowered: Lowered, found: Mapping[str, Span], timesteps: int, ranges: Mapping[str, Tensor], mantissa: float
) -> dict[str, Tensor | None]:
    """Name → the finest grid step (1, *shape) that keeps the neurons after a wire in range for ``timesteps`` steps.

    None if there are weights between the wire and the neurons.
    """
    wanted: dict[str, Tensor | None] = {}

    def want(name: str, step: Tensor | None) -> None:
        old = wanted.get(name, step)
        wanted[name] = None if old is None or step is None else torch.maximum(old, step)

    for node in reversed(lowered.nodes):
        if node.name == lowered.output.name:
            largest = found[node.name].with_bias(lowered.biases[node.name][0])
            want(node.name, _per_channel(_power(MARGIN * largest / mantissa), lowered.axes[node.name]))
        if _is_product(node):
            for name in node.inputs:
                want(name, None)
        elif isinstance(node.op, Cell) and node.op.gain == "unit":  # estimates of its wires are kept apart
            for name, bias in zip(node.inputs, lowered.biases[node.name], strict=True):
                charge = found[name].with_bias(bias)
                want(name, _per_channel(_power(MARGIN * charge / mantissa), lowered.axes[name]))
        elif isinstance(node.op, Cell):
            charge = growth(lowered, node, found)  # cells without a threshold keep their sums in float64
            if node.op.unit is not None:
                charge = timesteps * _drift(lowered, node, found, ranges) + _slack(lowered, node, found)
            fine: Tensor | None = _per_channel(_power(MARGIN * charge / mantissa), lowered.axes[node.inputs[0]])
            if node.op.unit is None and not lowered.alphabets[node.name].is_spiking and charge.shape[1:] == node.shape:
                fine = wanted[node.name]  # its output is a current
            for name in node.inputs:
                want(name, fine)
        elif isinstance(node.op, Synapse):
            for name in node.inputs:
                want(name, None)
        elif not isinstance(node.op, Input):
            step = wanted[node.name]
            if isinstance(node.op, Pack) and step is not None:  # each output has a separate grid
                for name, part in zip(node.inputs, node.op.structure.split(step), strict=True):
                    want(name, _per_channel(part.contiguous(), lowered.axes[name]))
                continue
            for name in node.inputs:
                axes = lowered.axes[node.name], lowered.axes[name]
                want(name, None if step is None else _input_step(step, *axes, found[name].radius.shape))
    return wanted


def _input_step(step: Tensor, axis: int, axis_before: int, shape: torch.Size) -> Tensor:
    """The grid step of an input wire of wiring, given the ``step`` of its output; ``shape`` is that of the input."""
    if axis == axis_before and step.shape == shape:
        return step
    coarsest = rows(step, axis).amax(1)
    if axis != axis_before and len(coarsest) == shape[axis_before]:  # the same channels on another axis
        return shaped(coarsest, axis_before, len(shape) - 1).expand(shape).contiguous()
    return torch.full(shape, float(step.max()), dtype=torch.float64)


def _per_channel(step: Tensor, axis: int) -> Tensor:
    """The coarsest step of each channel, at all of its positions: positions share the weights."""
    return step if step.ndim < 3 else extreme(step, axis, largest=True).expand_as(step).contiguous()


def _channels(step: Tensor, axis: int) -> Tensor:
    """(1, *shape) → the finest step of each channel along ``axis``."""
    return rows(step, axis).amin(1)


def _fit(step: Tensor, value: Tensor) -> Tensor:
    """``step`` (1, *shape) reduced to a shape that broadcasts to ``value``, by the finest step."""
    for axis in range(step.ndim):
        size = value.shape[axis - step.ndim] if step.ndim - axis <= value.ndim else 1
        if size == 1 and step.shape[axis] > 1:
            step = step.amin(axis, keepdim=True)
    return step.reshape(step.shape[step.ndim - value.ndim :]) if step.ndim > value.ndim else step


def _round_to(value: Tensor, step: Tensor) -> Tensor:
    grid = _fit(step, value)
    return torch.round(value / grid) * grid


def _leaks(node: Node) -> bool:
    unit = node.op.unit if isinstance(node.op, Cell) else None
    return unit is not None and unit.leak != 1


def _is_product(node: Node) -> bool:
    """True for a product of levels, which are integers on any grid."""
    return isinstance(node.op, Cell) and node.op.multiplies and node.op.takes_levels


def _slack(lowered: Lowered, node: Node, found: Mapping[str, Span]) -> Tensor:
    """The reserve for the steps between two range checks: some steps of the largest current, θ and v(0)."""
    if isinstance(node.op, Cell) and node.op.unit is not None and node.op.unit.code is not None:
        return offset(node)  # it integrates one window, which never exceeds the worst case
    return RANGE_CHECK_EVERY * growth(lowered, node, found) + offset(node)


class _Rounding:
    """Puts every constant on the grid of its wire (``steps``), node by node."""

    def __init__(
        self,
        lowered: Lowered,
        wanted: dict[str, Tensor | None],
        input_bound: float,
        bits: int,
        mantissa: float,
        found: Mapping[str, Span],
        timesteps: int,
    ) -> None:
        self.timesteps = timesteps
        self.lowered, self.wanted, self.input_bound, self.inner_bits = lowered, wanted, input_bound, bits
        self.mantissa, self.found = mantissa, found
        self.estimates = any(isinstance(node.op, Cell) and node.op.gain == "unit" for node in lowered.nodes)
        self.steps: dict[str, Tensor] = {}
        self.change = 0.0

    def apply(self) -> Lowered:
        nodes, biases = [], dict(self.lowered.biases)
        for node in self.lowered.nodes:
            op = node.op
            full = torch.ones((1, *node.shape), dtype=torch.float64)
            if isinstance(op, Input):
                bound = torch.as_tensor(bound_of(node, self.input_bound)).max()
                fine = float(_power(bound)) * 2.0**-INPUT_BITS
                self.steps[node.name] = full if self.lowered.spike_scales[node.name] is not None else full * fine
            elif _is_product(node):  # takes and gives levels, which have no bias
                self.steps[node.name] = full
            elif isinstance(op, Cell):
                step = self._input_grid(node)
                own = [self.steps[name] if op.gain == "unit" else step for name in node.inputs]
                pairs = zip(biases[node.name], own, strict=True)
                biases[node.name] = tuple(_round_to(bias, grid) for bias, grid in pairs)
                op = _rounded_cell(op, step)
                passed = None if self.lowered.alphabets[node.name].is_spiking else op.grid_after(step)
                self.steps[node.name] = full if passed is None else full * passed
            elif isinstance(op, OnGrid):
                step = self.wanted[node.name]  # type: ignore[assignment]
                coarse = _power(self.steps[node.inputs[0]].amax()) * 2.0**TIME_INVARIANT_BITS * 2.0**-INPUT_BITS
                if self.estimates:
                    coarse = _power(self.found[node.name].largest.amax()) * 2.0**-ESTIMATE_BITS
                self.steps[node.name] = full * coarse if step is None else step
                op = OnGrid(self.steps[node.name], step_of_floor(self.lowered, node, self.timesteps))
            elif isinstance(op, Synapse):
                op = self._rounded_synapse(node, op, full)
            else:
                op = self._rounded_wiring(node, op, full)
            nodes.append(dataclasses.replace(node, op=op))
        output = self.lowered.output.name
        biases[output] = tuple(_round_to(bias, self.steps[output]) for bias in biases[output])
        return dataclasses.replace(self.lowered, nodes=tuple(nodes), biases=biases)

    def exactness(self, rounded: Lowered, ranges: Mapping[str, Tensor]) -> Exactness:
        """The longest run and the longest window that stay below 2²⁴ grid steps, and the layer that limits them."""
        found, limit, window, where = spans(rounded, self.input_bound), 2.0**31, 2.0**31, rounded.output.name
        rooms: dict[str, Tensor] = {}
        for node in rounded.nodes:
            if node.name in rounded.time_invariant or _is_product(node):
                continue
            if isinstance(node.op, Cell) and node.op.gain == "unit":  # whose sums have room for all steps
                for name, bias in zip(node.inputs, rounded.biases[node.name], strict=True):
                    share = self.mantissa * self.steps[name] / found[name].with_bias(bias).clamp(min=1e-30)
                    window = min(window, float(share.min()))
                continue
            reach = self.mantissa * (self._input_grid(node) if isinstance(node.op, Cell) else self.steps[node.name])
            if isinstance(node.op, Cell):
                most = limit
                if node.op.unit is not None:
                    room = reach - _slack(rounded, node, found)
                    allowed = room + node.op.unit.initial.abs()  # the initial potential is added to the charge
                    rooms[node.name] = _compact(allowed, rounded.axes[node.name])
                    most = float((room / _drift(rounded, node, found, ranges).clamp(min=1e-30)).min())
                window = min(
                    window, float(((reach - offset(node)) / growth(rounded, node, found).clamp(min=1e-30)).min())
                )
            else:
                biases = rounded.biases.get(node.name)
                largest = found[node.name].largest if biases is None else found[node.name].with_bias(biases[0])
                most = limit if bool((largest < reach).all()) else 0.0  # the sums of one step
                window = min(window, float((reach / largest.clamp(min=1e-30)).min()))
            if most < limit:
                limit, where = most, node.name
        limit, window = max(limit, 0.0), max(window, 0.0)
        reason = f"{where} reaches 2^{log2(self.mantissa):.0f} grid steps " + (
            f"after {int(limit)} steps" if limit else "within one step"
        )
        wide = self.mantissa > MANTISSA
        steps = {
            n.name: _compact(self._input_grid(n), rounded.axes[n.inputs[0]])
            for n in rounded.nodes
            if isinstance(n.op, Cell) and not _is_product(n)
        }
        return Exactness(int(limit), self.change, self.input_bound, reason, int(window), wide, rooms, steps)

    def _input_grid(self, node: Node) -> Tensor:
        """The common grid of a cell's inputs."""
        steps = [self.steps[name] for name in node.inputs]
        return (
            steps[0] if len(steps) == 1 else torch.stack([step.amin() for step in steps]).amin().expand(1, *node.shape)
        )

    def _rounded_synapse(self, node: Node, op: Synapse, full: Tensor) -> Synapse:
        step_in, wanted = self.steps[node.inputs[0]], self.wanted.get(node.name)
        time_invariant = node.name in self.lowered.time_invariant
        bits = TIME_INVARIANT_BITS if time_invariant else self.inner_bits  # if no neuron follows directly
        if is_plain(op, Scale) and op.weight.ndim > 1:  # one weight per element
            step = _power(op.weight.abs()) * step_in * 2.0**-bits if wanted is None or time_invariant else wanted
            grid = (step / step_in)[0]
        else:
            inputs = _channels(step_in, op.channel_axis)
            if wanted is None or time_invariant:
                channels = _power(_row_peaks(op, full.shape[op.channel_axis])) * 2.0**-bits * inputs.min()
            else:
                channels = _channels(wanted, op.channel_axis)
                if op.weight.ndim > 1 and bool((inputs == 1).all()):  # its inputs are levels
                    channels = torch.maximum(channels, _power(_row_peaks(op, len(channels)) / WEIGHT_PEAK))
            if op.weight.ndim == 0:
                channels = torch.full_like(channels, float(channels.min()))
                grid = channels.min() / inputs.min()
            else:
                grid = op.per_output(channels) / op.per_input(inputs)
            step = full * shaped(channels, resolved(op.channel_axis, full.ndim - 1), full.ndim - 1)
        rounded = op.rounded(grid)
        change = (rounded.weight - op.weight).abs().max() / op.weight.abs().max().clamp(min=1e-30)
        self.change = max(self.change, float(change))
        self.steps[node.name] = step
        return rounded

    def _rounded_wiring(self, node: Node, op: Op, full: Tensor) -> Op:
        """Wiring adds integer multiples; an interpolation has fractional weights with a fixed number of bits each."""
        step = self._wiring_grid(node, op, full)
        new = {}
        for name, value in op.tensors().items():
            if not bool((value == value.round()).all()):
                new[name] = torch.round(value * 2.0**self.inner_bits) * 2.0**-self.inner_bits
                step = step * 2.0**-self.inner_bits
        self.steps[node.name] = step
        return op.with_tensors(**new)

    def _wiring_grid(self, node: Node, op: Op, full: Tensor) -> Tensor:
        """The grid after wiring: the finest of its inputs."""
        steps = [self.steps[name] for name in node.inputs]
        if isinstance(op, Pack):
            return op.run(*steps)
        if op.is_sum and all(step.shape == full.shape for step in steps):
            return torch.stack(steps).amin(0)
        finest = torch.stack([step.min() for step in steps]).min()
        propagated = op.propagate_levels(tuple(steps))
        if propagated is None or propagated[1] is None:
            return full * finest
        return torch.where(torch.isnan(propagated[1]), finest, propagated[1])


def _rounded_cell(cell: Cell, step: Tensor) -> Cell:
    """Thresholds and initial potentials on the grid; a threshold is never rounded to zero.

    Cells of unit gain round a function of their exact estimate themselves: their tensors are on no grid.
    """
    if cell.gain == "unit":
        return cell
    new = {name: _round_to(value, step) for name, value in cell.tensors().items()}
    if "threshold" in new:
        period = 0 if cell.unit is None else cell.unit.period
        step = step * 2.0**period  # each phase halves the threshold
        new["threshold"] = _round_to(cell.tensors()["threshold"], step)
        new["threshold"] = torch.maximum(new["threshold"], _fit(step, new["threshold"]).expand_as(new["threshold"]))
    return cell.with_tensors(**new)


def _row_peaks(op: Synapse, channels: int) -> Tensor:
    """The largest absolute weight of each output channel."""
    if op.weight.ndim == 0:
        return op.weight.abs().expand(channels)
    marks = op.per_output(torch.arange(channels, dtype=torch.float64)).expand_as(op.weight).long()
    rows = torch.zeros(channels, dtype=torch.float64)
    return rows.scatter_reduce(0, marks.flatten(), op.weight.abs().flatten(), "amax")


def _compact(value: Tensor, axis: int) -> Tensor:
    """(1, channels, 1, …), the channels on ``axis``: the smallest value of each channel."""
    return extreme(value, axis, largest=False)
