"""Energy of a spiking network relative to the quantised ANN that it replaces, by every energy model."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.core.op import Synapse
from transpike.core.task import ACCURACY, Metric, Task
from transpike.data.batches import with_targets
from transpike.energy import AnnActivity, EnergyModel, checked, members
from transpike.errors import DataError, SettingError
from transpike.lowering.activity import evaluations
from transpike.snn import SNN, takes_snn
from transpike.workflow.cost.operations import ann_operations, burst_twin, spiking_operations
from transpike.workflow.cost.pricing import left_out, priced
from transpike.workflow.cost.quantised_baseline import Counted, quantised, with_weight_bits
from transpike.workflow.cost.result import Cost, Point
from transpike.workflow.cost.tallies import Looked, Ran
from transpike.workflow.distributed import check_alike, processes
from transpike.workflow.evaluate.hybrid import Hybrid
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate
from transpike.workflow.judged import Judged, Tasks
from transpike.workflow.judged import asked as judgement
from transpike.workflow.resumable.run import Tally, added
from transpike.workflow.shared_batches import Batch
from transpike.workflow.simulate import engine_named

WEIGHT_BITS = 8


@takes_snn
def cost(
    snn: SNN,
    data: Any,
    *,
    models: EnergyModel | Iterable[EnergyModel] | None = None,
    timesteps: int | None = None,
    activation_bits: Iterable[int] = (),
    weight_bits: Iterable[int] = (),
    limit: int | None = None,
    engine: str = "auto",
    memory: int | None = None,
    output: str | int | None = None,
    task: Tasks | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Cost:
    """Joules of ``snn`` at every answer, its accuracy or other metric, and both of it as a quantised ANN.

    The quantised baseline has activations of ``⌈log2(levels)⌉`` bits, where levels is the number of values that the
    sum of a wire can take over the T that the report recommends; more bits, up to the levels of the whole run, if it
    needs them to be as accurate (see ``Cost``); and the weight bits of the recipe. It runs on the same inputs, and
    products with zeros are counted. ``activation_bits`` and ``weight_bits`` add baselines, and spiking networks with
    uniform weights of that width, as points. ``models``: of ``transpike.energy``, default all. Real weights are
    counted as 8 bits wide. ``data``, ``timesteps``, ``limit``, ``engine``, ``memory``, ``output``, ``task`` are as for
    ``evaluate``. Without targets, or for outputs that are not logits of classes, energy is measured at the last step,
    and no accuracy, unless ``task`` gives the metric. Operations of a ``sigma-delta`` network are listed next to those
    of its burst twin. ``progress(done, total)`` counts the networks. Raises as ``evaluate`` does, and SettingError for
    invalid bits and for a network without weights.
    """
    chosen = tuple(kind() for kind in members) if models is None else checked(models)
    if not chosen:
        raise SettingError("there is no energy model: pass at least one")
    activations, weights = tuple(activation_bits), tuple(weight_bits)
    if isinstance(data, Iterator):  # an iterator would be exhausted by the first network
        data = list(data)
    if not any(isinstance(node.op, Synapse) or snn.source.macs(node) for node in snn.source):
        raise SettingError("the network has no layer with weights: there are no operations to compare")
    steps = snn.schedule.check(snn.timesteps if timesteps is None else timesteps)
    burst = burst_twin(snn)
    networks = 3 + (burst is not None) + 2 * len(weights) + len(activations) * max(1, len(weights))
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, networks)

    asked, judged = judgement(snn.outputs, task, output)
    why = _without_accuracy(snn, judged, data) if task is None else ""
    run = _Runs(snn, data, steps, limit, engine, memory, None if why else asked, judged, chosen)
    check_alike(
        processes(), snn, timesteps=steps, limit=limit, engine=engine, models=chosen, bits=(activations, weights)
    )
    warnings = run.warnings() if why else ()
    report, last = run.spiking(snn, timesteps)
    advance()
    early = steps if report is None else report.recommended.timesteps
    wanted = _wanted(run.task, report)
    own = [run.baseline(early, None, None)]
    advance()
    if quantised(snn, steps).bits != own[0].bits:
        last_one = run.baseline(steps, None, None)
        for width in range(own[0].width + 1, last_one.width):  # the fewest bits that suffice
            if own[-1].reaches(wanted):
                break
            own.append(run.baseline(steps, width, None))
        own.append(last_one)
    advance()
    weight_bits_ = own[0].weight_bits
    baselines, points = list[_Baseline](), run.points(report, last, weight_bits_)
    pair = _chosen(own, wanted)
    for bits in weights:
        points += run.points(*run.spiking(with_weight_bits(snn, bits), timesteps), bits)
        advance()
        baselines.append(run.baseline(early if pair is own[0] else steps, pair.asked, bits))
        advance()
    for wide in activations:
        for few in weights or (None,):
            if few is not None:
                baselines.append(run.baseline(steps, wide, few))
            elif not any(set(one.bits.values()) == {wide} for one in own):
                own.append(run.baseline(steps, wide, None))
            advance()
    points += [one.point(chosen) for one in (*own, *baselines)]
    pair = _chosen(own, wanted)  # also among the widths that were asked for
    activity = last if report is None else report.activities[early]
    activity = dataclasses.replace(activity, weight_bits=weight_bits_ or WEIGHT_BITS)
    rate = _rate(activity)
    counted = [spiking_operations(f"SNN at T={early}", activity, _value(report, early))]
    if burst is not None:
        found, once = run.spiking(burst, 1)
        counted.append(spiking_operations(f"burst twin at T=1 ({burst.recipe.name})", once, _value(found, 1)))
        advance()
    counted.append(ann_operations(snn, pair.ann, evaluations(snn.source), pair.value))
    excluded = left_out(snn, activity, pair.ann)
    if snn.is_hybrid:
        excluded = (*excluded, "transport between the spiking and the analogue part")
    notes = [f"accuracy was not measured, because {why}"] if why else []
    prices = tuple(priced(model, activity, pair.ann, rate, excluded) for model in chosen)
    if weight_bits_ is None:
        notes.append(f"both networks have real weights, which are counted as {WEIGHT_BITS} bits wide")
    if not pair.bits:
        notes.append("the activations of the quantised baseline could not be quantised: it equals the source network")
    if not pair.reaches(wanted):
        reached = run.metric.text(run.metric.unranked(wanted))
        best = "most accurate" if run.metric == ACCURACY else "best"
        notes.append(
            f"no quantised ANN that was measured reaches {reached}; the verdict is about the {best} one: "
            "pass more activation_bits"
        )
    if free := [one.model for one in prices if one.ann_joule == 0 and one.snn_joule is not None]:
        notes.append(f"without a ratio, because the ANN, which skips zeros, costs nothing: {', '.join(free)}")
    return Cost(
        report=report,
        samples=activity.samples,
        timesteps=early,
        quantised_baseline_value=pair.value,
        quantised_baseline_low=pair.interval[0],
        quantised_baseline_high=pair.interval[1],
        activation_bits=pair.bits,
        weight_bits=weight_bits_,
        density=pair.ann.density,
        spike_rate=rate,
        spikes_per_synapse=activity.spikes_per_synapse,
        models=prices,
        points=tuple(points),
        notes=tuple(notes),
        warnings=warnings if report is None else report.warnings,
        operations=tuple(counted),
        metric=run.metric,
        hybrid=Hybrid.of(snn, activity, chosen),
        room=0.0 if report is None or run.task is None else run.task.room(report.final.score[0] or 0.0),
    )


def _without_accuracy(snn: SNN, judged: Judged, data: Any) -> str:
    """Why no accuracy can be measured without a task; "" where it can."""
    shape = judged.shape(snn.source.output.shape)
    if snn.outputs is not None and judged.name is None:
        return "the network has several outputs"
    if len(shape) != 1 or shape[0] < 2:
        return f"the network returns (batch, {', '.join(map(str, shape))}), which are not logits of several classes"
    unlabelled = any(judged.target(y) is None for _, y in itertools.islice(with_targets(data, snn.sample_shape), 1))
    return "the data has no targets" if unlabelled else ""


@dataclass(frozen=True, eq=False)
class _Baseline:
    """A quantised ANN and its counts; ``bits`` by activation, ``judged`` None where no metric was measured."""

    bits: dict[str, int]
    weight_bits: int | None
    asked: int | None
    ann: AnnActivity
    task: Task | None
    judged: Tensor | None

    @cached_property
    def value(self) -> float | None:
        return None if self.judged is None or self.task is None else self.task.value(self.judged)

    @cached_property
    def interval(self) -> tuple[float | None, float | None]:
        return (None, None) if self.judged is None or self.task is None else self.task.interval(self.judged)

    @property
    def rank(self) -> float:
        return 0.0 if self.task is None else self.task.first.rank(self.value)

    def reaches(self, wanted: float) -> bool:
        return self.judged is None or self.rank >= wanted - 1e-12

    @property
    def width(self) -> int:
        """The largest number of bits of an activation."""
        if self.asked is not None:
            return self.asked
        return max((layer.input_bits for layer in self.ann.layers[1:]), default=self.ann.layers[0].input_bits)

    def point(self, models: tuple[EnergyModel, ...]) -> Point:
        joules = {str(model): model.ann_joule(self.ann, True) for model in models}
        return Point("ANN", None, self.width, self.weight_bits, self.value, *self.interval, joules)


def _wanted(task: Task | None, report: Report | Measurement | None) -> float:
    """The rank of the first metric that a quantised ANN must reach: nearly that of the SNN's last answer."""
    if task is None or report is None:
        return 0.0
    value = report.final.score[0]
    return task.first.rank(value) - task.room(value or 0.0)


def _chosen(found: list[_Baseline], wanted: float) -> _Baseline:
    """The baseline with the fewest bits that reaches ``wanted``, else the best one."""
    order = sorted(found, key=lambda one: one.width)
    return next((one for one in order if one.reaches(wanted)), max(order, key=lambda one: one.rank))


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs the networks of a cost on the same samples; ``task`` None: without a metric."""

    snn: SNN
    data: Any
    steps: int
    limit: int | None
    engine: str
    memory: int | None
    task: Task | None
    judged: Judged
    models: tuple[EnergyModel, ...]

    @property
    def metric(self) -> Metric:
        return ACCURACY if self.task is None else self.task.first

    def add(
        self, what: str, tally: Tally, snn: SNN, run: Callable[[int, Tensor, Tensor | None], Any], **asked: object
    ) -> None:
        """Merge ``run(number of the first sample, x, y)`` of each batch into ``tally``, see ``added``."""
        wanted = self.task is not None and self.task.needs_targets

        def one(batch: Batch) -> Any:
            assert batch.content is not None
            x, given = batch.content
            y = self.judged.target(given) if wanted else None
            return run(batch.first, x, None if y is None else y[: batch.size])

        asked |= {"task": self.task, "output": self.judged.name}
        for _ in added(what, tally, snn, self.data, one, asked, self.limit):
            pass

    def warnings(self) -> tuple[str, ...]:
        """How the inputs differ from those of the calibration; for runs that ``evaluate`` does not check."""
        inputs = self.snn.input_check()
        self.add("inputs", Looked(inputs), self.snn, lambda _, x, y: inputs.observe(self.snn.prepare(x)))
        return inputs.finished()

    def spiking(self, snn: SNN, timesteps: int | None) -> tuple[Report | Measurement | None, Activity]:
        """The evaluation, if there is a task, and the activity of the whole run."""
        if self.task is not None:
            given: dict[str, Any] = {"engine": self.engine, "memory": self.memory, "limit": self.limit}
            report = evaluate(snn, self.data, timesteps=timesteps, output=self.judged.name, task=self.task, **given)
            return report, report.activities[report.final.timesteps]
        engine, counted = engine_named(self.engine, self.memory), Ran()

        def run(first: int, x: Tensor, y: Tensor | None) -> Activity:
            ids = torch.arange(first, first + len(x))
            return snn.run_prepared(snn.prepare(x), self.steps, engine, ids, (), True).activity

        self.add("activity", counted, snn, run, timesteps=self.steps, engine=self.engine)
        if counted.total is None:
            raise DataError("there are no samples to run")
        return None, counted.total

    def points(self, report: Report | Measurement | None, last: Activity, weight_bits: int | None) -> list[Point]:
        """The spiking network at every answer, or at its last step."""
        wide, found = weight_bits or WEIGHT_BITS, []
        unknown = (None, None, None)
        curve = {self.steps: unknown} if report is None else {a.timesteps: a.score for a in report.curve}
        for t, score in curve.items():
            activity = dataclasses.replace(last if report is None else report.activities[t], weight_bits=wide)
            joules = {str(model): model.joule(activity) for model in self.models}
            found.append(Point("SNN", t, None, weight_bits, *score, joules))
        return found

    def baseline(self, steps: int, activation_bits: int | None, weight_bits: int | None) -> _Baseline:
        """The quantised ANN with the levels of ``steps`` time steps, or with these bits."""
        network = quantised(self.snn, steps, activation_bits, weight_bits)
        counted = Counted(network)

        def run(_: int, x: Tensor, y: Tensor | None) -> tuple[int, dict[str, float], Tensor | None]:
            entering = self.snn.encoder.accumulate(self.snn.prepare(x))
            whole, products = counted.run(entering)
            logits, rows = self.judged.part(whole), None
            if self.task is not None and self.task.needs_targets:
                if y is None:
                    raise DataError(f"{self.metric.name} needs targets: pass batches of (input, target)")
                rows = self.task.rows(logits, self.task.check(tuple(logits.shape[1:]), len(x), y.to(x.device)))
            elif self.task is not None:
                source = self.snn.source.to(device=x.device).run(entering)
                rows = self.task.rows(logits, self.judged.part(source))
            return len(x), products, rows

        asked = {"timesteps": steps, "activation bits": activation_bits, "weight bits": weight_bits}
        self.add("quantised ANN", counted, self.snn, run, **asked)
        ann = counted.activity(network.weight_bits or WEIGHT_BITS)
        return _Baseline(
            network.bits,
            network.weight_bits,
            activation_bits,
            ann,
            self.task,
            torch.cat(counted.judged) if counted.judged else None,
        )


def _value(report: Report | Measurement | None, timesteps: int) -> float | None:
    """The value of the metric at an answer."""
    return None if report is None else next(a.score[0] for a in report.curve if a.timesteps == timesteps)


def _rate(activity: Activity) -> float:
    """Spikes per neuron and time step."""
    slots = activity.neurons * activity.samples * activity.timesteps
    fired = sum(float(layer.spikes.sum()) for layer in activity.layers if layer.role == "neuron")
    return fired / slots if slots else 0.0
