"""What a spiking network costs against the quantised ANN that it replaces, under every model, and where it pays."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.core.op import Synapse
from transpike.core.task import Task
from transpike.data.batches import pairs
from transpike.energy import AnnActivity, EnergyModel, checked, members
from transpike.errors import DataError, SettingError
from transpike.files import write_atomically
from transpike.results.notebook import Shown
from transpike.results.quantity import Quantity
from transpike.results.statistics import wilson
from transpike.snn import SNN
from transpike.tasks import task_given
from transpike.workflow.cost.quantised_baseline import Counted, quantised, with_weight_bits
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate
from transpike.workflow.simulate import simulate

SCHEMA = 1
WEIGHT_BITS = 8
SENSITIVITY = 2.0
"""A constant is halved and doubled for the sensitivity of a verdict."""
THRESHOLDS = (
    ("1.72", "Davidson and Furber 2021"),
    ("0.15 to 1.38", "Dampfhoffer et al. 2022, by how the ANN is built"),
    ("0.29 to 0.45", "Yan et al. 2024 and later, T = 5 and 6"),
)
"""Published spikes per synapse and inference below which a spiking network is cheaper."""


@dataclass(frozen=True)
class Point:
    """One network: ``kind`` "SNN" after ``timesteps``, or "ANN" with ``activation_bits``; joules by model, per sample.

    ``weight_bits`` None: real weights, charged as 8 bits wide. The ANN's joules are of one that skips zeros.
    """

    kind: str
    timesteps: int | None
    activation_bits: int | None
    weight_bits: int | None
    accuracy: float
    low: float
    high: float
    energy_joule: dict[str, float | None]

    def __str__(self) -> str:
        weights = "" if self.weight_bits is None else f", {self.weight_bits}-bit weights"
        if self.kind == "SNN":
            return f"SNN at T={self.timesteps}{weights}"
        return f"ANN of {self.activation_bits}-bit activations{weights}"


@dataclass(frozen=True)
class ModelCost:
    """One model's answer, joules per sample; None where the model is of spikes only, or does not fit.

    ``ratio`` is SNN / ANN, the ANN that skips zeros; ``dense_ratio`` that of one that does not. ``break_even_rate`` is
    the spike rate (per neuron and step, all layers scaled alike) at which the ratio is 1; None where there is none, as
    where the SNN without any spike costs more, and ``break_even_missing`` says why. ``excluded`` is what the model
    leaves out, with the layers of these networks that it cannot price. ``sensitivity`` is each constant's ratio when
    it is halved and doubled.
    """

    model: str
    snn_joule: float | None
    ann_joule: float | None
    dense_joule: float | None
    ratio: float | None
    dense_ratio: float | None
    break_even_rate: float | None
    break_even_spikes_per_synapse: float | None
    break_even_missing: str
    sensitivity: dict[str, tuple[float, float]]
    judges: bool
    excluded: tuple[str, ...]
    constants: dict[str, str]


@dataclass(frozen=True, eq=False)
class Cost(Shown):
    """The twin, every model's answer, and the curve: SNN over T, ANN over bits, with what is best for each model."""

    report: Report
    quantised_baseline_accuracy: float
    quantised_baseline_low: float
    quantised_baseline_high: float
    activation_bits: dict[str, int]
    weight_bits: int | None
    density: float
    spike_rate: float
    spikes_per_synapse: float
    models: tuple[ModelCost, ...]
    points: tuple[Point, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """Under how many models the spiking network is cheaper; those with ``judges`` False stay out."""
        judged = [one for one in self.models if one.ratio is not None and one.judges]
        if not judged:
            return "no model gives both networks a number"
        skipping = sum(one.ratio < 1 for one in judged if one.ratio is not None)
        dense = sum(one.dense_ratio < 1 for one in judged if one.dense_ratio is not None)
        return (
            f"cheaper under {skipping} of {len(judged)} models than the quantised ANN that skips zeros, under {dense} "
            "than one that does not"
        )

    def front(self, model: str) -> tuple[Point, ...]:
        """The points that no other one beats in both accuracy and this model's joules, the cheapest first."""
        priced = sorted(
            (p for p in self.points if p.energy_joule.get(model) is not None),
            key=lambda p: (p.energy_joule[model], -p.accuracy),
        )
        found: list[Point] = []
        for point in priced:
            if not found or point.accuracy > found[-1].accuracy:
                found.append(point)
        return tuple(found)

    def advice(self, model: str) -> str:
        """One sentence: what is cheapest at the accuracy that the spiking network ends at, by this model."""
        final = self.report.final.accuracy
        wanted = min(final, self.quantised_baseline_accuracy) - 0.005
        best: dict[str, Point] = {}
        for point in self.points:
            joule = point.energy_joule.get(model)
            if joule is not None and point.accuracy >= wanted:
                old = best.get(point.kind)
                if old is None or joule < (old.energy_joule[model] or 0.0):
                    best[point.kind] = point
        if len(best) < 2:
            return f"{model}: it has no number for {'the ANN' if 'SNN' in best else 'this spiking network'}"
        snn, ann = best["SNN"], best["ANN"]
        cheap, dear = (snn, ann) if snn.energy_joule[model] <= ann.energy_joule[model] else (ann, snn)  # type: ignore[operator]
        low, high = cheap.energy_joule[model], dear.energy_joule[model]
        assert low is not None and high is not None
        more = f"costs {high / low:.2g} times that" if high > 1.05 * low else "costs as much within 5 %"
        return f"{model}: at {wanted:.1%} or better take the {cheap} ({1e6 * low:.3g} µJ); the {dear} {more}"

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        names = [one.model for one in self.models]
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "twin": {
                "accuracy": self.quantised_baseline_accuracy, "low": self.quantised_baseline_low, "high": self.quantised_baseline_high, "density": self.density,
                "activation_bits": self.activation_bits, "weight_bits": self.weight_bits,
            },
            "spike_rate": self.spike_rate,
            "spikes_per_synapse": self.spikes_per_synapse,
            "published_break_even": [{"spikes_per_synapse": text, "source": source} for text, source in THRESHOLDS],
            "models": [dataclasses.asdict(one) for one in self.models],
            "points": [dataclasses.asdict(point) for point in self.points],
            "front": {name: [str(point) for point in self.front(name)] for name in names},
            "advice": [self.advice(name) for name in names],
            "notes": list(self.notes),
            "snn": self.report.to_json(),
        }  # fmt: skip

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())


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
    task: Task | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Cost:
    """Accuracy and joules of ``snn`` at every answer, and of the same network as a quantised ANN.

    The twin has ``⌈log2(levels)⌉`` bits an activation, levels being the values that a wire's sum over T can take, and
    the weights of the recipe; it is run on the same inputs, its products with a zero are counted. ``activation_bits``
    and ``weight_bits`` add twins, and spiking networks with uniform weights of so many bits, to the curve. ``models``:
    of ``transpike.energy``, default all. Real weights are charged as 8 bits wide. ``data``, ``timesteps``, ``limit``,
    ``engine``, ``memory``, ``task`` are those of ``evaluate``; ``progress(done, total)`` counts the networks.
    Raises as ``evaluate`` does, and SettingError for bits that cannot be.
    """
    chosen = tuple(kind() for kind in members) if models is None else checked(models)
    if not chosen:
        raise SettingError("there is no energy model to count with")
    activations, weights = tuple(activation_bits), tuple(weight_bits)
    if iter(data) is data:  # it would be used up by the first network
        data = list(data)
    steps = snn.timesteps if timesteps is None else timesteps
    tasks = 2 + len(weights) + len(activations) * max(1, len(weights)) + len(weights)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, tasks)

    asked = task_given(task)
    settings: dict[str, Any] = {"engine": engine, "memory": memory, "limit": limit, "task": asked}
    settings["timesteps"] = timesteps
    report = evaluate(snn, data, **settings)
    advance()
    accuracy, quantised_baseline, own = _quantised_baseline(snn, data, steps, None, None, limit, asked)
    advance()
    points = [*_answers(report, own, chosen), _ann_point(accuracy, quantised_baseline, None, own, chosen)]
    for bits in weights:
        points += _answers(evaluate(with_weight_bits(snn, bits), data, **settings), bits, chosen)
        advance()
        points.append(
            _ann_point(*_quantised_baseline(snn, data, steps, None, bits, limit, asked)[:2], None, bits, chosen)
        )
        advance()
    for wide in activations:
        for few in weights or (None,):
            found = _quantised_baseline(snn, data, steps, wide, few, limit, asked)
            points.append(_ann_point(found[0], found[1], wide, few if weights else own, chosen))
            advance()
    final = dataclasses.replace(report.activities[report.final.timesteps], weight_bits=own or WEIGHT_BITS)
    quantised_quantised_baseline = quantised(snn, steps)
    notes = []
    if own is None:
        notes.append(f"weights are real numbers on both sides, and charged as {WEIGHT_BITS} bits wide")
    if not quantised_quantised_baseline.bits:
        notes.append("the twin's activations could not be quantised: it runs as the source network")
    rate = report.final.spike_rate
    return Cost(
        report=report,
        quantised_baseline_accuracy=accuracy[0] / accuracy[1],
        quantised_baseline_low=wilson(*accuracy)[0],
        quantised_baseline_high=wilson(*accuracy)[1],
        activation_bits=quantised_quantised_baseline.bits,
        weight_bits=own,
        density=quantised_baseline.density,
        spike_rate=rate,
        spikes_per_synapse=final.spikes_per_synapse,
        models=tuple(_priced(model, final, quantised_baseline, rate) for model in chosen),
        points=tuple(points),
        notes=tuple(notes),
    )


def _quantised_baseline(
    snn: SNN, data: Any, steps: int, activation_bits: int | None, weight_bits: int | None, limit: int | None, task: Task
) -> tuple[tuple[int, int], AnnActivity, int | None]:
    """((right answers, samples), what the twin did, the bits of its weights)."""
    quantised_baseline = quantised(snn, steps, activation_bits, weight_bits)
    counted, right = Counted(quantised_baseline), 0
    for x, y in pairs(data):
        if limit is not None and counted.samples >= limit:
            break
        if y is None:
            raise DataError("accuracy needs targets: give batches of (input, target)")
        x, y = (x, y) if limit is None else (x[: limit - counted.samples], y[: limit - counted.samples])
        logits = counted.add(snn.encoder.accumulate(snn.prepare(x)))
        right += int(task.outcomes(logits, task.check(tuple(logits.shape[1:]), len(x), y.to(x.device))).sum())
    return (
        (right, counted.samples),
        counted.activity(quantised_baseline.weight_bits or WEIGHT_BITS),
        quantised_baseline.weight_bits,
    )


def _answers(report: Report, weight_bits: int | None, models: tuple[EnergyModel, ...]) -> list[Point]:
    points = []
    for answer in report.curve:
        activity = dataclasses.replace(report.activities[answer.timesteps], weight_bits=weight_bits or WEIGHT_BITS)
        joules = {str(model): model.joule(activity) for model in models}
        points.append(
            Point(
                "SNN", answer.timesteps, None, weight_bits, answer.accuracy, answer.low, answer.high, joules
            )
        )  # fmt: skip
    return points


def _ann_point(
    right: tuple[int, int], ann: AnnActivity, activation_bits: int | None, weight_bits: int | None,
    models: tuple[EnergyModel, ...],
) -> Point:  # fmt: skip
    bits = activation_bits
    if bits is None:
        bits = max((layer.input_bits for layer in ann.layers[1:]), default=ann.layers[0].input_bits)
    joules = {str(model): model.ann_joule(ann, True) for model in models}
    return Point("ANN", None, bits, weight_bits, right[0] / right[1], *wilson(*right), joules)


def _priced(model: EnergyModel, activity: Activity, ann: AnnActivity, rate: float) -> ModelCost:
    snn, skipping, dense = model.joule(activity), model.ann_joule(ann, True), model.ann_joule(ann, False)
    ratio = None if snn is None or not skipping else snn / skipping
    break_even, missing = _break_even(model, activity, snn, skipping)
    left_out = {name: f"{name}: {what}" for name, what in (ann.unpriced | activity.unpriced).items()}
    return ModelCost(
        model=str(model),
        snn_joule=snn,
        ann_joule=skipping,
        dense_joule=dense,
        ratio=ratio,
        dense_ratio=None if snn is None or not dense else snn / dense,
        break_even_rate=None if break_even is None else break_even * rate,
        break_even_spikes_per_synapse=None if break_even is None else break_even * activity.spikes_per_synapse,
        break_even_missing=missing,
        sensitivity={} if ratio is None else _sensitivity(model, activity, ann),
        judges=model.judges,
        excluded=(*model.excluded, *left_out.values()),
        constants={name: str(value) for name, value in model.constants.items()},
    )


def _break_even(
    model: EnergyModel, activity: Activity, snn: float | None, ann: float | None
) -> tuple[float | None, str]:
    """(how many times the spikes make the SNN cost what the ANN does, why there is no such number)."""
    if snn is None or ann is None:
        return None, f"the model gives the {'spiking network' if snn is None else 'ANN'} no number"
    if not any(bool(layer.spikes.any()) for layer in activity.layers):
        return None, "nothing spikes"
    still = model.joule(activity.busier(0.0)) or 0.0
    if still > ann:
        return None, "the spiking network costs more than the ANN without any spike"
    if snn <= still:
        return None, "spikes cost nothing under this model"
    return (ann - still) / (snn - still), ""


def _sensitivity(model: EnergyModel, activity: Activity, ann: AnnActivity) -> dict[str, tuple[float, float]]:
    """Constant → the ratio with half and with twice of it."""
    found = {}
    for name, value in model.constants.items():
        pair = []
        for factor in (1 / SENSITIVITY, SENSITIVITY):
            changed = dataclasses.replace(model, **{name: Quantity(value.value * factor, value.unit, value.source)})
            snn, other = changed.joule(activity), changed.ann_joule(ann, True)
            if snn is not None and other:
                pair.append(snn / other)
        if len(pair) == 2:
            found[name] = (pair[0], pair[1])
    return found


def neurobench_counts(snn: SNN, x: Tensor, timesteps: int | None = None, *, engine: str = "auto") -> dict[str, float]:
    """NeuroBench's SynapticOperations of ``snn`` on x (batch, *shape), per sample, as if run step by step.

    ``Effective_ACs``: synaptic operations of wires that carry −1, 0 and 1, ``Effective_MACs``: of all others, products
    without a zero, an analogue layer counted in every step, which here is worked out once; ``Dense``: all connections
    in every step, bias and padding left out. Equal to the harness on the lowered form where no average pool stands
    between neurons and weights: the harness sees pooled fractions, and calls them products. Source: NeuroBench 2.3.
    """
    steps = snn.timesteps if timesteps is None else snn.schedule.check(timesteps)
    activity = simulate(snn, x, steps, engine=engine).activity
    lowered = snn.program.lowered
    table = {node.name: node for node in lowered.nodes}
    once = {layer.name for layer in activity.layers if layer.alphabet in ("binary", "ternary")}
    values: dict[str, Tensor] = {}
    counted = {"Effective_ACs": 0.0, "Effective_MACs": 0.0, "Dense": 0.0}
    for layer in activity.layers:
        operations = float(layer.synaptic_operations.sum()) / activity.samples
        counted["Effective_ACs" if layer.name in once else "Effective_MACs"] += operations
    prepared = snn.prepare(x).double()
    for node in lowered.nodes:
        if node.name in lowered.time_invariant and snn.encoder.is_constant:
            inputs = [values[name] for name in node.inputs]
            op = node.op.to(dtype=torch.float64)
            values[node.name] = prepared if not inputs else op.linear(*inputs)  # type: ignore[union-attr]
    for c in activity.connections:
        op = table[c.name].op.to(dtype=torch.float64)
        assert isinstance(op, Synapse)
        shape = (1, *table[table[c.name].inputs[0]].shape)
        everything = dataclasses.replace(op, weight=torch.ones_like(op.weight), bias=None)
        counted["Dense"] += steps * float(everything.run(torch.ones(shape, dtype=torch.float64)).sum())
        if c.analogue:
            entering = values[table[c.name].inputs[0]]
            products = op.paths().linear((entering != 0).double())
            counted["Effective_MACs"] += steps * float(products.sum()) / len(x)
    return counted
