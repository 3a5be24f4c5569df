"""Energy of a spiking network relative to the quantised ANN that it replaces, by every energy model."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from transpike.core.activity import Activity
from transpike.core.op import Synapse
from transpike.core.task import Task
from transpike.data.batches import pairs
from transpike.energy import AnnActivity, EnergyModel, checked, members
from transpike.errors import DataError, SettingError
from transpike.results.notebook import Shown
from transpike.results.quantity import Quantity
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically
from transpike.snn import SNN
from transpike.tasks import task_given
from transpike.workflow.cost.quantised_baseline import Counted, quantised, with_weight_bits
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate

SCHEMA = 1
WEIGHT_BITS = 8
SENSITIVITY = 2.0
"""Each constant is divided and multiplied by this factor for the sensitivity of the ratio."""
THRESHOLDS = (
    ("1.72", "Davidson and Furber 2021"),
    ("0.15 to 1.38", "Dampfhoffer et al. 2022, depending on the ANN hardware"),
    ("0.29 to 0.45", "Yan et al. 2024 and later, T = 5 and 6"),
)
"""Published spikes per synapse and inference below which a spiking network is cheaper."""


@dataclass(frozen=True)
class Point:
    """One network: ``kind`` "SNN" after ``timesteps``, or "ANN" with ``activation_bits``; joules by model, per sample.

    ``weight_bits`` None: real weights, counted as 8 bits wide. The joules of the ANN assume zero skipping.
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
        return f"ANN with {self.activation_bits}-bit activations{weights}"


@dataclass(frozen=True)
class ModelCost:
    """Joules per sample by one energy model; None where the model covers spikes only, or does not apply.

    ``ratio`` is SNN / ANN with zero skipping, ``dense_ratio`` SNN / ANN without it, both None for an ANN of 0 J.
    ``break_even_rate``: the spike rate (per neuron and time step, all layers scaled alike) at which the ratio is 1;
    None with the reason in ``break_even_missing``, for example where the SNN costs more without any spike.
    ``excluded``: costs that the model omits, and layers of these networks without a price. ``sensitivity``: constant →
    ratios with half and twice its value. ``judges``: the model counts for the verdict.
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
    """The quantised baseline, the result of every model, and points of both networks: SNN over T, ANN over bits."""

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
        """Number of models under which the spiking network is cheaper, without those with ``judges`` False."""
        judged = [one for one in self.models if one.ratio is not None and one.judges]
        if not judged and any(one.snn_joule is not None and one.ann_joule == 0 for one in self.models if one.judges):
            return "The quantised ANN costs nothing under every energy model that prices both networks"
        if not judged:
            return "No energy model prices both networks"
        skipping = sum(one.ratio < 1 for one in judged if one.ratio is not None)
        dense = sum(one.dense_ratio < 1 for one in judged if one.dense_ratio is not None)
        snn = f"SNN at T={self.report.final.timesteps}"
        if not skipping and not dense:
            return f"No energy model favours the {snn}"
        return (
            f"The {snn} is cheaper than the quantised ANN under {skipping} of {len(judged)} energy models, "
            f"and under {dense} if the ANN does not skip zeros"
        )

    def front(self, model: str) -> tuple[Point, ...]:
        """The Pareto front of accuracy and joules by this model, cheapest first."""
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
        """One sentence: the cheapest network at the accuracy of the spiking network, by this model."""
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
            return f"{model}: does not price {'the ANN' if 'SNN' in best else 'this spiking network'}"
        snn, ann = best["SNN"], best["ANN"]
        cheap, dear = (snn, ann) if snn.energy_joule[model] <= ann.energy_joule[model] else (ann, snn)  # type: ignore[operator]
        low, high = cheap.energy_joule[model], dear.energy_joule[model]
        assert low is not None and high is not None
        if low == 0:
            more = f"costs {1e6 * high:.3g} µJ"
        else:
            more = f"costs {high / low:.2g} times as much" if high > 1.05 * low else "costs the same within 5 %"
        return f"{model}: cheapest at {wanted:.1%} or more is the {cheap} ({1e6 * low:.3g} µJ); the {dear} {more}"

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        names = [one.model for one in self.models]
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "twin": {
                "accuracy": self.quantised_baseline_accuracy,
                "low": self.quantised_baseline_low, "high": self.quantised_baseline_high, "density": self.density,
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

    The quantised baseline has activations of ``⌈log2(levels)⌉`` bits, where levels is the number of values that the
    sum of a wire over T can take, and the weight bits of the recipe; it runs on the same inputs, and products with
    zeros are counted. ``activation_bits`` and ``weight_bits`` add baselines, and spiking networks with uniform weights
    of that width, as points. ``models``: of ``transpike.energy``, default all. Real weights are counted as 8 bits
    wide. ``data``, ``timesteps``, ``limit``, ``engine``, ``memory``, ``task`` are those of ``evaluate``;
    ``progress(done, total)`` counts the networks. Raises as ``evaluate`` does, and SettingError for invalid bits
    and for a network without weights.
    """
    chosen = tuple(kind() for kind in members) if models is None else checked(models)
    if not chosen:
        raise SettingError("there is no energy model: give at least one")
    activations, weights = tuple(activation_bits), tuple(weight_bits)
    if iter(data) is data:  # an iterator would be exhausted by the first network
        data = list(data)
    if not any(isinstance(node.op, Synapse) or snn.source.macs(node) for node in snn.source):
        raise SettingError("the network has no layer with weights: there are no operations to compare")
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
    rate = report.final.spike_rate
    final_baseline = quantised(snn, steps)
    priced = tuple(_priced(model, final, quantised_baseline, rate) for model in chosen)
    notes = list[str]()
    if own is None:
        notes.append(f"both networks have real weights, which are counted as {WEIGHT_BITS} bits wide")
    if not final_baseline.bits:
        notes.append("the activations of the quantised baseline could not be quantised: it equals the source network")
    if free := [one.model for one in priced if one.ann_joule == 0 and one.snn_joule is not None]:
        notes.append(f"without a ratio, because the ANN, which skips zeros, costs nothing: {', '.join(free)}")
    return Cost(
        report=report,
        quantised_baseline_accuracy=accuracy[0] / accuracy[1],
        quantised_baseline_low=wilson(*accuracy)[0],
        quantised_baseline_high=wilson(*accuracy)[1],
        activation_bits=final_baseline.bits,
        weight_bits=own,
        density=quantised_baseline.density,
        spike_rate=rate,
        spikes_per_synapse=final.spikes_per_synapse,
        models=priced,
        points=tuple(points),
        notes=tuple(notes),
    )


def _quantised_baseline(
    snn: SNN, data: Any, steps: int, activation_bits: int | None, weight_bits: int | None, limit: int | None, task: Task
) -> tuple[tuple[int, int], AnnActivity, int | None]:
    """((correct answers, samples), operations of the baseline, the bits of its weights)."""
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
    """(factor on the spikes at which the SNN costs as much as the ANN, reason where there is none)."""
    if snn is None or ann is None:
        return None, f"the model does not price the {'spiking network' if snn is None else 'ANN'}"
    if not any(bool(layer.spikes.any()) for layer in activity.layers):
        return None, "there are no spikes"
    still = model.joule(activity.busier(0.0)) or 0.0
    if still > ann:
        return None, "the spiking network costs more than the ANN even without spikes"
    if snn <= still:
        return None, "spikes cost nothing under this model"
    return (ann - still) / (snn - still), ""


def _sensitivity(model: EnergyModel, activity: Activity, ann: AnnActivity) -> dict[str, tuple[float, float]]:
    """Constant → the ratios with half and twice its value."""
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
