"""Layers of weights that read levels, and the sigma-delta neurons after them, in the native library."""

import ctypes
import functools
from dataclasses import dataclass, field
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.engines.native import library as _native
from transpike.neurons import SigmaDelta
from transpike.neurons.sigma_delta import FINE, OFF_GRID
from transpike.ops import Conv

SAME, CLIP = 0, 1  # native/transpike.h
SMALL = 2**14  # neurons below which one thread is used
LARGEST_LEVEL, LARGEST_WEIGHT, LARGEST_SUM = 2**15 - 1, 2**15 - 1, 2**31 - 1
SPARE = 64  # numbers after the weights, up to which vectors reach
MOST_TAPS = 100  # of a convolution with one group for each channel


def last(value: Tensor, axis: int) -> Tensor:
    """(n, *shape) with its features on ``axis`` → (n, …, features) without gaps; a copy only where it is needed."""
    return value.movedim(axis, -1).contiguous()


@dataclass(frozen=True, eq=False)
class Weights:
    """A convolution of levels in 16-bit integers, packed as native/transpike.h says; a linear layer is one of 1 × 1.

    ``units`` is the value of a weight of 1, for each output channel. ``before``: zeros before rows and columns.
    ``limit``: the largest |level| up to which sums are 32-bit integers, or None if larger ones do not come.
    ``adds_up``: the sums of all steps of one call add up to 32-bit integers.
    """

    packed: Tensor
    units: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]
    dilation: tuple[int, int]
    depthwise: bool
    limit: int | None
    adds_up: bool

    @classmethod
    def of(cls, op: Synapse, units: Tensor, largest: float, before: tuple[int, int]) -> "Weights | None":
        """None for weights that do not fit. ``units``: powers of two, of which all weights of a channel are multiples;
        ``largest``: of |levels|.
        """
        weight = op.weight if op.weight.ndim > 2 else op.weight[..., None]
        whole = (weight / units.reshape(-1, *(1,) * (weight.ndim - 1))).double()
        most = float(whole.abs().flatten(1).sum(1).max())
        if largest > LARGEST_LEVEL or float(whole.abs().max()) > LARGEST_WEIGHT or most > LARGEST_SUM:
            return None
        conv = op if is_plain(op, Conv) else None
        depthwise = isinstance(conv, Conv) and conv.groups > 1
        outputs = len(whole)
        taps = whole.reshape(outputs, whole.shape[1], -1)  # (out, in, taps)
        if (depthwise and taps.shape[2] > MOST_TAPS) or (not depthwise and taps.shape[1] % 2):
            return None
        inner = taps[:, 0] if depthwise else taps.movedim(1, 2).flatten(1)  # pairs of these numbers are neighbours
        inner = F.pad(inner, (0, inner.shape[1] % 2, 0, -outputs % _native.UNIT))
        blocks = inner.split(_native.DELTA_BLOCK)
        packed = [block.reshape(len(block), -1, 2).movedim(0, 1).reshape(-1) for block in blocks]
        values = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        if isinstance(conv, Conv):
            for name, missing in (("stride", 1), ("padding", 0), ("dilation", 1)):
                values[name] = _pair(getattr(conv, name), missing)
        padding = values["padding"][0] + before[0], values["padding"][1] + before[1]
        return cls(
            F.pad(torch.cat(packed), (0, SPARE)).to(torch.int16),
            F.pad(units.double(), (0, -outputs % _native.UNIT)).contiguous(),
            _pair(weight.shape[2:], 1), values["stride"], padding, values["dilation"], depthwise,
            None if most * largest <= LARGEST_SUM else int(LARGEST_SUM // most),
            most * largest * _native.DELTA_STEPS <= LARGEST_SUM,
        )  # fmt: skip

    @property
    def is_spot(self) -> bool:
        """True if each output reads the input at its own position only."""
        return self.kernel == self.stride == (1, 1) and self.before == (0, 0)


def _pair(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    """(rows, columns); a single dimension is that of columns."""
    return (missing, *values)[-2:]  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Neurons:
    """Thresholds and initial potentials of sigma-delta neurons, and what the library derives from them in float32:
    (positions or 1, features).
    """

    cell: SigmaDelta
    threshold: Tensor
    initial: Tensor
    inverse: Tensor
    shift: Tensor

    @classmethod
    def of(cls, cell: SigmaDelta, shape: tuple[int, ...], axis: int) -> "Neurons":
        threshold, initial = (rows(value, shape, axis) for value in (cell.threshold, cell.initial))
        if len(threshold) != len(initial):
            positions = max(len(threshold), len(initial))
            threshold, initial = (one.expand(positions, -1).contiguous() for one in (threshold, initial))
        shift = initial / threshold + OFF_GRID / FINE
        return cls(cell, threshold, initial, (1 / threshold).float(), shift.float())

    @property
    def source(self) -> tuple[int, float]:
        """The function as the library names it, and its ceiling."""
        source = self.cell.source
        if is_plain(source, Unchanged):
            return SAME, torch.inf
        assert isinstance(source, (ReLU, Clip))
        return CLIP, torch.inf if source.ceiling is None else float(source.ceiling)


def rows(value: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """What broadcasts to (1, *shape), as float64 (positions, features); one row if all positions are equal."""
    full = value.double().reshape(value.shape[max(0, value.ndim - len(shape)) :]).expand(shape)
    full = full.movedim(axis - 1, -1)
    if all(full.stride(i) == 0 or full.shape[i] == 1 for i in range(full.ndim - 1)):
        return full.reshape(-1, full.shape[-1])[:1].contiguous()
    full = full.reshape(-1, full.shape[-1])
    return full[:1].contiguous() if bool((full == full[:1]).all()) else full.contiguous()


@dataclass(frozen=True, eq=False)
class Sent:
    """What a layer sent in some steps: ``levels`` int16 (batch, …, time, features), the features being on ``axis`` of
    the wire. ``totals`` (4, time): spikes, operations, positions that sent and states that were read, summed over the
    batch; ``events`` (time, batch): the spikes of each sample.
    """

    levels: Tensor
    axis: int
    totals: Tensor
    events: Tensor

    @classmethod
    def of(cls, train: Tensor, steps: int, axis: int) -> Tensor:
        """The ``levels`` of a train, (time · batch, *shape)."""
        found = train.unflatten(0, (steps, -1)).movedim(axis + 1, -1).movedim(0, -2)
        return torch.empty(found.shape, dtype=torch.int16).copy_(found)

    def active(self, axis: int) -> Tensor:
        """(time,): the positions that sent, if the features were on ``axis``, before the one on which they are."""
        found = functools.reduce(torch.bitwise_or, self.levels.unbind(axis)) != 0
        return found.movedim(-2, 0).flatten(1).sum(1)

    def train(self) -> Tensor:
        """(time · batch, *shape) in float32."""
        found = self.levels.movedim(-2, 0)
        return torch.empty(found.shape).copy_(found).flatten(0, 1).movedim(-1, self.axis)


@dataclass(frozen=True, eq=False)
class DeltaLayer:
    """Weights, neurons, or neurons after weights. Currents are (time · batch, …, features), levels as in ``Sent``.

    ``shape``: spatial sizes and features of the output, these being on ``axis``. ``currents``: others read the sums
    too. ``factors`` float64 (features): levels of the same shape are added times these numbers.
    """

    weights: Weights | None
    neurons: Neurons | None
    shape: tuple[int, ...]
    axis: int
    currents: bool
    factors: Tensor | None = None
    calls: dict[tuple[int, ...] | None, bytes] = field(default_factory=dict, init=False, repr=False)

    def run(
        self,
        steps: int,
        batch: int,
        levels: Tensor | None,
        heard: Tensor | None,
        added: Tensor | None,
        first: Tensor | None,
        state: tuple[Tensor, Tensor] | None,
        fan: Tensor | None,
        passed: Tensor | None = None,
        keeps: bool = True,
        reads: Tensor | None = None,
    ) -> tuple[Sent | None, Tensor | None, tuple[Tensor, Tensor] | None] | None:
        """(what is sent, currents, state), or None where a value is not finite.

        ``levels`` int16 are read by the weights (None: there are none), ``heard`` (time, batch) is 0 where all of them
        are 0. ``added``: other currents, of all steps or of the first ones; ``passed``: levels for ``factors``.
        ``first`` (positions or 1, features) is added in the first step, to the neurons only. ``state``
        (batch, …, features) in float64 is changed; None: that of a new run, which makes one if it ``keeps`` it. ``fan``
        and ``reads`` (positions or 1, features) int32: operations of a spike, and states that it reads.
        """
        library = _native.load()[0]
        assert library is not None
        size, features = prod(self.shape), self.shape[-1]
        out = torch.empty((batch, *self.shape[:-1], steps, features), dtype=torch.int16) if self.neurons else None
        fresh = state is None
        keeps = keeps or steps > _native.DELTA_STEPS
        if self.neurons and state is None and keeps:
            empty = torch.empty((batch, *self.shape), dtype=torch.float64)
            state = (empty, torch.empty_like(empty))
        currents = torch.empty((steps * batch, *self.shape), dtype=torch.float64) if self.currents else None
        totals = torch.zeros((steps, _native.DELTA_TOTALS), dtype=torch.int64)
        events = torch.zeros((steps, batch), dtype=torch.int64)
        zeros = torch.zeros((1, features), dtype=torch.int32)
        fan = zeros if fan is None else fan
        call = self._call(levels)
        call.batch, call.all_steps = batch, steps
        call.threads = 1 if batch * size < SMALL else torch.get_num_threads()
        call.fan, call.fan_position = fan.data_ptr(), _stride(fan)
        if reads is not None:
            call.reads, call.reads_position = reads.data_ptr(), _stride(reads)
        if self.neurons and state is not None:
            call.estimate, call.sent = state[0].data_ptr(), state[1].data_ptr()
        scratch = torch.empty(0, dtype=torch.uint8)
        for start in range(0, steps, _native.DELTA_STEPS):
            part = slice(start * batch, min(start + _native.DELTA_STEPS, steps) * batch)
            call.steps = min(_native.DELTA_STEPS, steps - start)
            call.levels = None if levels is None else levels[..., start:, :].data_ptr()
            call.heard = None if heard is None else heard[start:].data_ptr()
            call.passed = None if passed is None else passed[..., start:, :].data_ptr()
            call.out = None if out is None else out[..., start:, :].data_ptr()
            call.currents = None if currents is None else currents[part].data_ptr()
            call.added_steps = 0 if added is None else len(added[part]) // batch
            place = added[part].data_ptr() if added is not None and call.added_steps else None
            call.wide, call.narrow = (
                (place, None) if added is not None and added.dtype == torch.float64 else (None, place)
            )
            call.fresh = fresh and start == 0
            call.first = None if first is None or start else first.data_ptr()
            call.first_position = 0 if first is None else _stride(first)
            call.totals, call.events = totals[start:].data_ptr(), events[start:].data_ptr()
            needed = library.tp_delta_scratch(ctypes.byref(call))
            scratch = scratch if len(scratch) >= needed else torch.empty(needed, dtype=torch.uint8)
            if library.tp_run_delta(ctypes.byref(call), scratch.data_ptr()):
                raise RuntimeError("the native library cannot run a layer that was planned for it")
            if call.broken:
                return None
        sent = None if out is None else Sent(out, self.axis, totals.t().double(), events)
        return sent, currents, state

    def _call(self, levels: Tensor | None) -> _native.Delta:
        """What does not change from run to run, for levels of these sizes: made once, for short calls."""
        read = None if levels is None else (*levels.shape[1:-2], levels.shape[-1])
        if read not in self.calls:
            self.calls[read] = bytes(self._made(read))
        return _native.Delta.from_buffer_copy(self.calls[read])

    def _made(self, read: tuple[int, ...] | None) -> _native.Delta:
        *space, features = self.shape
        height, width = (1, prod(space)) if len(space) != 2 else space
        call = _native.Delta(
            channels=features, kernel_y=1, kernel_x=1, stride_y=1, stride_x=1, dilation_y=1, dilation_x=1,
            fine=FINE, off_grid=OFF_GRID,
        )  # fmt: skip
        if self.neurons is not None:
            cell = self.neurons.cell
            call.threshold, call.initial = self.neurons.threshold.data_ptr(), self.neurons.initial.data_ptr()
            call.inverse, call.shift = self.neurons.inverse.data_ptr(), self.neurons.shift.data_ptr()
            call.neuron_position = _stride(self.neurons.threshold)
            call.source, call.ceiling = self.neurons.source
            call.all_digits, call.top = cell.rule == "all", 2.0 ** (cell.threshold_count - 1)
        call.factors = None if self.factors is None else self.factors.data_ptr()
        weights = self.weights
        if weights is not None:
            call.units, call.whole = weights.units.data_ptr(), weights.adds_up
        if weights is not None and read is not None:
            *inside, features_in = read
            rows_in, columns_in = (1, prod(inside)) if len(inside) != 2 else inside
            if weights.is_spot:
                height, width, rows_in, columns_in = 1, height * width, 1, rows_in * columns_in
            call.height_in, call.width_in, call.channels_in = rows_in, columns_in, features_in
            call.weights, call.depthwise = weights.packed.data_ptr(), weights.depthwise
            settings = {"kernel": weights.kernel, "stride": weights.stride, "padding": weights.before}
            for name, values in (settings | {"dilation": weights.dilation}).items():
                for axis, value in zip("yx", values, strict=True):
                    setattr(call, f"{name}_{axis}", value)
        else:
            height, width = 1, height * width
        call.height, call.width = height, width
        return call


def _stride(value: Tensor) -> int:
    """Numbers between two positions; 0 where one row represents all."""
    return value.shape[1] if len(value) > 1 else 0
