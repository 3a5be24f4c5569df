"""A converted network: the spiking graph, its source and its recipe."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transpike.core.answer import AnalogueRest
from transpike.core.cell import Cell, Neuron
from transpike.core.channels import extreme, shaped
from transpike.core.encoder import Encoder
from transpike.core.exit import ExitPolicy
from transpike.core.graph import Graph, Node, PackedInput
from transpike.core.input_check import InputCheck, InputChecks
from transpike.core.input_statistics import InputStatistics
from transpike.core.inputs import InputNames, Inputs, of_call, pack, with_any_input
from transpike.core.like_module import ModuleLike
from transpike.core.precision import Arguments, Result, without_autocast
from transpike.core.preprocessing import Preprocessing, described
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import Schedule
from transpike.core.structure import Structure
from transpike.core.table import analogue_lines, lines
from transpike.engines import Engine, Program, engine_given
from transpike.engines.stream import Stream, opened
from transpike.errors import DataError, SettingError, one_line, printable
from transpike.lowering.entrance_scale import with_scaled_weights
from transpike.lowering.entrances import in_ranges
from transpike.lowering.exact_grid import MANTISSA, WIDE_MANTISSA, put_on_grid, sums_mantissa
from transpike.lowering.lowered import Exactness, Lowered, lower
from transpike.lowering.scaling import scaled, unit_scale
from transpike.lowering.trace import Trace, joined
from transpike.neurons.spike_product import STATE_STEPS
from transpike.ops.pack import structure_of

ESTIMATES = 1023
"""Steps for which the grid of difference codes with unit gain has room at least, without products of wires."""


@dataclass(frozen=True, eq=False, repr=False)
class SNN(ModuleLike):
    """A spiking network. Call it on inputs (batch, *shape) to get logits (batch, classes).

    It runs on the device of its input. It can be copied and pickled, also after it has run, and has the methods of an
    ``nn.Module`` in evaluation mode that do not change it (core.like_module).

    ``graph`` is the spiking graph, ``source`` the network before conversion, ``encoder`` the recipe's encoder with its
    calibrated range. ``ranges`` holds the largest |current| of each neuron layer on calibration data, one value per
    channel, broadcastable to the layer's shape. ``calibrated_readout`` is the recipe's readout with its calibrated
    values, or None if it has none. ``exact_grid`` puts the lowered form on a power-of-two grid (docs: exactness).
    ``rates`` are spikes per neuron and step on calibration data, ``remarks`` are notes of the conversion for the user.
    ``grid_timesteps`` is the number of steps that the grid covers, if it is not the recipe's. ``exit`` is the fitted
    early-exit policy, or None. ``preprocessing`` None: unknown, inputs are used as they are. ``inputs`` are the
    statistics of the calibration inputs after preprocessing, which every run is checked against; None: unknown, for
    networks of older files.

    For a hybrid network, ``graph`` is the part that spikes, which the patterns ``spiking`` select; ``before`` is the
    analogue part before it, computed once, whose output is its input, and ``rest`` the one after it.
    """

    graph: Graph
    source: Graph
    recipe: Recipe
    encoder: Encoder
    preprocessing: Preprocessing | None = None
    exact_grid: bool = True
    ranges: dict[str, Tensor] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    calibrated_readout: Readout | None = None
    grid_timesteps: int | None = None
    exit: ExitPolicy | None = None
    inputs: InputStatistics | None = None
    before: Graph | None = None
    spiking: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Without the forms that are made from it once: they hold what an engine has prepared, and are made again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("lowered", "program")}

    @property
    def timesteps(self) -> int:
        return self.recipe.timesteps

    @property
    def schedule(self) -> Schedule:
        return self.recipe.schedule

    @property
    def readout(self) -> Readout:
        return self.calibrated_readout or self.recipe.readout

    @property
    def rest(self) -> Graph | None:
        """The analogue part of a hybrid network after its spiking part; None if there is none."""
        return self.readout.network if isinstance(self.readout, AnalogueRest) else None

    @property
    def is_hybrid(self) -> bool:
        """True if a part of the network is computed as in the source network, once for each answer."""
        return self.before is not None or self.rest is not None

    def entering(self, prepared: Tensor) -> Tensor:
        """The input of the spiking part: prepared inputs, or the output of the analogue part before it."""
        if self.before is None:
            return prepared
        return self.before.to(device=prepared.device).run(prepared.double()).float()

    @property
    def sample_shape(self) -> tuple[int, ...] | InputNames | None:
        """The shape of one input, or the names of several; None for recordings, which have any number of frames."""
        names = InputNames.of(self.source.inputs)
        if names is not None:
            return names
        return None if self.encoder.has_frames else self.source.input.shape

    @property
    def outputs(self) -> Structure | None:
        """The structure of several outputs, which traces hold side by side; None for a network with one output."""
        return structure_of(self.source.output.op)

    @cached_property
    def lowered(self) -> Lowered:
        """The lowered form before it is put on the grid: threshold 1 where the scale of a layer is free."""
        lowered = lower(self.graph, self.encoder.spike_scale, self.encoder.alphabet, self._axes)
        if self.preprocessing is not None and self.preprocessing.whole is not None:
            lowered = with_scaled_weights(lowered)
        return scaled(lowered, unit_scale(lowered), strict=False)

    @property
    def _axes(self) -> dict[str, int]:
        """The feature axis of every wire.

        Old files have ``ranges`` with one axis only. In the version that wrote them, channels were on axis 1 of every
        layer; this is kept, so that the exact grid and the spikes of these files do not change.
        """
        before = any(self.ranges[n.name].ndim < len(n.shape) for n in self.graph.cells if n.name in self.ranges)
        return dict.fromkeys(self.graph.channel_axes, 1) if before else self.graph.channel_axes

    @cached_property
    def program(self) -> Program:
        """The program that engines run."""
        lowered = self.lowered
        if self.exact_grid:
            # inputs slightly beyond the calibrated range still count as inside
            largest = self.encoder.largest or 1.0
            ranges = self._lowered_ranges(lowered)
            steps = self.grid_timesteps or self.timesteps
            if self.schedule.gain == "unit":
                lowered = self._on_estimates_grid(lowered, steps, 1.25 * largest)
            elif self.schedule.mode == "differences":
                reason = "differences are divided by their step number, so potentials are not on a grid"
                lowered = replace(lowered, exactness=Exactness(0, 0.0, 1.25 * largest, reason))
            elif self.schedule.mode == "slots":
                lowered = self._on_slot_grid(lowered, 1.25 * largest)
            else:
                mantissa = WIDE_MANTISSA if self.schedule.mode == "cycles" else MANTISSA
                lowered = put_on_grid(lowered, steps, 1.25 * largest, ranges, mantissa)
        return Program(lowered, self.encoder, self.schedule, self.readout, before=self.before)

    def _on_estimates_grid(self, lowered: Lowered, steps: int, input_bound: float) -> Lowered:
        """Estimates are sums over all steps of a run, without range check: they fit for any input of the bound."""
        products = any(isinstance(node.op, Cell) and node.op.multiplies for node in lowered.nodes)
        longest = STATE_STEPS if products else max(steps, ESTIMATES)
        lowered = replace(lowered, nodes=tuple(self._rounded(node, lowered) for node in lowered.nodes))
        found = put_on_grid(lowered, steps, input_bound, {}, sums_mantissa(longest))
        exactness = found.exactness
        assert exactness is not None
        return replace(found, exactness=replace(exactness, timesteps=min(exactness.timesteps, longest)))

    def _rounded(self, node: Node, lowered: Lowered) -> Node:
        """A cell that sends real numbers with a grid for them, if their range was measured."""
        graded = lowered.spike_scales[node.name] is None and not lowered.alphabets[node.name].is_spiking
        if not isinstance(node.op, Cell) or not graded or node.name not in self.ranges:
            return node
        return replace(node, op=node.op.on_grid(float(self.ranges[node.name].max())))

    def _on_slot_grid(self, lowered: Lowered, input_bound: float) -> Lowered:
        """Weights and levels share the bits of one sum: float32 if its grid is fine enough, else float64.

        Neurons that can fire while they still receive input are stepped in float64.
        """
        units = [node.op.unit for node in lowered.nodes if isinstance(node.op, Neuron) and not node.op.is_delay]
        if not self.schedule.whole_windows or not all(unit is not None and unit.code for unit in units):
            return put_on_grid(lowered, self.grid_timesteps or self.timesteps, input_bound, {}, WIDE_MANTISSA)
        for mantissa in (MANTISSA, WIDE_MANTISSA):
            found = put_on_grid(lowered, 1, input_bound, {}, mantissa)
            assert found.exactness is not None
            if found.exactness.timesteps:  # a window is a single sum, for any number of slots
                slots = max(found.exactness.timesteps, self.grid_timesteps or self.timesteps)
                return replace(found, exactness=replace(found.exactness, timesteps=slots))
        return found

    def _lowered_ranges(self, lowered: Lowered) -> dict[str, Tensor]:
        """``ranges`` in units of the lowered form, whose thresholds are scaled."""
        found = {}
        for node in lowered.nodes:
            if node.name in self.ranges and isinstance(node.op, Cell) and node.op.unit is not None:
                unit = self.graph[node.name].op.unit  # type: ignore[union-attr]
                scale = (node.op.unit.threshold / unit.threshold).expand(1, *node.shape)  # type: ignore[union-attr]
                axis, rank = lowered.axes[node.name], len(node.shape)
                largest = shaped(self.ranges[node.name].double().flatten(), axis, rank)
                found[node.name] = largest * extreme(scale, axis, largest=True)[0]
        return found

    @property
    def exactness(self) -> Exactness | None:
        return self.program.lowered.exactness

    def total_steps(self, timesteps: int | None = None) -> int:
        """The step at which the answer is ready, for ``timesteps`` T (default: the recipe's)."""
        return self.schedule.total_steps(self.graph, self.timesteps if timesteps is None else timesteps)

    def prepare(self, x: Any) -> Tensor:
        """The input after preprocessing, (batch, *shape), or (batch, frames, *shape) if the encoder has frames.

        Several inputs, a tuple, a dictionary or ``Inputs``, are packed into one tensor (batch, N).
        Raises DataError for a wrong shape, an empty batch, and NaN or infinite values.
        """
        if InputNames.of(self.source.inputs) is not None:
            given = x if isinstance(x, Inputs) else Inputs.of((x,) if isinstance(x, Tensor) else x)
            prepared = pack(given, self.source.inputs)
            self.encoder.check(prepared)
            return prepared
        if isinstance(x, Inputs):
            raise DataError(f"the network has one input, but {len(x.values)} were passed")
        if not isinstance(x, Tensor) or x.is_complex():
            kind = "complex tensor" if isinstance(x, Tensor) else type(x).__name__
            line = "; write torch.from_numpy(x)" if kind == "ndarray" else ""
            raise DataError(f"inputs must be a tensor of real numbers, (batch, …), not a {kind}{line}")
        x = x if self.preprocessing is None else self.preprocessing(x)
        expected, lead = self.source.input.shape, 2 if self.encoder.has_frames else 1
        if x.ndim != len(expected) + lead or tuple(x.shape[lead:]) != expected:
            axes = ("batch", "frames")[:lead]
            single = "; for one sample write x[None]" if tuple(x.shape[lead - 1 :]) == expected else ""
            raise DataError(f"the network takes ({', '.join(map(str, axes + expected))}), not {tuple(x.shape)}{single}")
        if not len(x):
            raise DataError("the batch is empty; pass at least one sample")
        x = x.detach().float()  # runs have no gradients
        if not bool(torch.isfinite(x).all()):
            raise DataError("the input contains NaN or infinite values, or values beyond float32")
        self.encoder.check(x)
        return x

    def input_check(self) -> InputCheck | InputChecks:
        """Collects the inputs of a run, and compares them with those of the calibration."""
        if InputNames.of(self.source.inputs) is not None:
            return InputChecks(self.source.inputs, self.encoder)
        return InputCheck(self.inputs, self.preprocessing, self.encoder)

    def checked(self, prepared: Tensor) -> tuple[str, ...]:
        """Warnings for a run on this batch only; DataError where it is clearly unlike the calibration inputs."""
        return self.input_check().single(prepared)

    def accepting_any_input(self) -> "SNN":
        """A copy that runs on inputs that do not look like those of the calibration, with a warning in its results."""
        inputs = None if self.inputs is None else replace(self.inputs, any_input=True)
        return replace(self, inputs=inputs, source=with_any_input(self.source))

    def beyond(self, prepared: Tensor) -> int:
        """The number of prepared input values that are clipped, because they exceed the largest level."""
        return self.encoder.beyond(in_ranges(self.graph.inputs, self.entering(prepared)))

    def with_preprocessing(self, preprocessing: Preprocessing) -> "SNN":
        """A copy that applies ``preprocessing`` to its inputs, for networks converted on preprocessed data."""
        if InputNames.of(self.source.inputs) is not None:
            raise SettingError(
                "a network with several inputs has one preprocessing per input: pass convert a dictionary by name"
            )
        if self.preprocessing is not None and self.preprocessing.whole != preprocessing.whole:
            raise SettingError(
                "the network takes integers, which its preprocessing makes (input_bits): convert it again with "
                "another preprocessing"
            )
        if self.encoder.has_frames and not preprocessing.is_identity:
            raise SettingError("recordings cannot be preprocessed, because silent pixels must be 0")
        return replace(self, preprocessing=None if self.encoder.has_frames else preprocessing)

    def run(
        self,
        x: Any,
        timesteps: int | None = None,
        *,
        engine: Engine | str | None = None,
        sample_ids: Tensor | None = None,
        record: Iterable[str] = (),
        count: bool = True,
    ) -> Trace:
        """Simulate a batch; ``transpike.simulate`` documents the arguments. ``engine`` may also be an engine object."""
        steps = self.schedule.check(self.timesteps if timesteps is None else timesteps)
        prepared, runner = self.prepare(x), engine_given(engine)
        warnings = self.checked(prepared)
        trace = self.run_prepared(prepared, steps, runner, sample_ids, record, count)
        return replace(trace, warnings=warnings, structure=self.outputs)

    def start(self, x: Any, *, engine: Engine | str | None = None, count: bool = False) -> Stream:
        """A run whose inputs come step by step: ``run = snn.start(x); logits = run.step()``, or ``run.step(frame)``.

        ``x``: the input (batch, *shape), or several as in a call, which later frames may replace; or the number of
        samples. For recordings it is the number, and each ``step(frame)`` takes one frame (batch, *shape). Networks of
        sigma-delta neurons send what changes: a frame that repeats the last one costs nothing. ``engine``: unless
        given, "event" on CPUs for networks that fire in every step, else "dense"; ``count`` counts spikes for
        ``finish()``. Raises SettingError for networks that do not stream.
        """
        prepared = torch.zeros((x, *self.graph.input_shape)) if isinstance(x, int) else self._frame(x)
        chosen = None if engine is None else engine_given(engine)
        return opened(self.program, chosen, prepared, self._frame, isinstance(x, int), count)

    def _frame(self, frame: Any) -> Tensor:
        return self.prepare(frame[:, None])[:, 0] if self.encoder.has_frames else self.entering(self.prepare(frame))

    @without_autocast
    def run_prepared(
        self, x: Tensor, steps: int, engine: Engine, sample_ids: Tensor | None, record: Iterable[str], count: bool
    ) -> Trace:
        """Simulate a preprocessed batch (batch, *shape), split into parts that fit into the engine's memory limit."""
        self.encoder.check_steps(x, steps)
        if sample_ids is None:
            sample_ids = torch.arange(len(x))
        elif not isinstance(sample_ids, Tensor) or sample_ids.shape != (len(x),):
            raise DataError(f"sample_ids must be a tensor of {len(x)} integers, one for each sample")
        ids = sample_ids.to(x.device)
        limit, traces = engine.batch_limit(self.program), []
        with torch.no_grad():
            x = self.entering(x)
            for start in range(0, len(x), limit):
                part = slice(start, start + limit)
                run = engine.start(self.program, x[part], ids[part], record, count)
                run.advance(steps, last=True)
                traces.append(run.finish())
        return joined(traces)

    def __call__(self, *inputs: Any, timesteps: int | None = None, return_all: bool = False, **named: Any) -> Any:
        """Logits (batch, classes); with ``return_all`` the logits at every answer, (answers, batch, classes).

        Inputs are given as to the source model, by position or by name; ``timesteps`` may follow the positional ones.
        Several outputs come in the structure of the source model, its named tuples and output classes as a ``Record``.
        Warnings about the inputs are in the trace of ``run``.
        """
        names = InputNames.of(self.source.inputs)
        if len(inputs) > (1 if names is None else len(names.arguments)) and isinstance(inputs[-1], int | None):
            inputs, timesteps = inputs[:-1], inputs[-1]
        logits = self.run(of_call(inputs, named, names), timesteps, count=False).logits
        logits = logits if return_all else logits[-1]
        return logits if self.outputs is None else self.outputs.filled(logits)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rates = {name: f"{rate:.1%}" for name, rate in self.rates.items()}
        schedule = type(self.schedule).__name__
        head = f"{self.recipe}: {schedule}, T={self.timesteps}, {self.total_steps()} steps to the answer"
        parts = [(node.name, node.op) for node in self.source.inputs if isinstance(node.op, PackedInput)]
        inputs = "unknown inputs" if self.inputs is None else str(self.inputs)
        notes = [f"preprocessing: {described(self.preprocessing)}; calibrated on {inputs}"]
        notes = [f"input {name}: {_described(op)}" for name, op in parts] if parts else notes
        notes += [f"note: {one_line(remark)}" for remark in self.remarks]
        notes += [] if self.exit is None else [f"exit: {self.exit}"]
        before, rest = analogue_lines("before", self.before), analogue_lines("rest", self.rest)
        return "\n".join([printable(head), *before, *lines(self.graph, rates, "spike rate"), *rest, *notes])


def takes_snn(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator of functions whose first argument is an SNN: others are refused, and autocast is off."""
    name = next(iter(inspect.signature(function).parameters))

    @without_autocast
    @functools.wraps(function)
    def wrapped(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        given = values[0] if values else named.get(name)
        if (values or name in named) and not isinstance(given, SNN):
            is_path = isinstance(given, (str, Path))
            way = "read it with transpike.load(path)" if is_path else "transpike.convert makes one"
            raise SettingError(
                f"{function.__name__} takes a converted network, an SNN, not {type(given).__name__}: {way}"
            )
        return function(*values, **named)

    return wrapped


def _described(op: PackedInput) -> str:
    """One of several inputs as text."""
    if op.is_static:
        return "integers, looked up" if op.whole else op.describe()
    given = "none" if op.preprocessing is None else str(op.preprocessing)
    return f"preprocessing: {given}; calibrated on {op.statistics or 'unknown inputs'}"
