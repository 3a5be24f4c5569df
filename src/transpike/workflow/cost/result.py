"""The result of ``transpike.cost``: both networks under every energy model, and one verdict."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from transpike.core.task import ACCURACY, Metric
from transpike.files import write_atomically
from transpike.results.notebook import Shown
from transpike.workflow.cost.operations import NetworkOperations, recommendation
from transpike.workflow.evaluate.hybrid import Hybrid
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report

SCHEMA = 2
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
    ``value``, of the metric of the cost, and its 95 % bounds are None where they were not measured.
    """

    kind: str
    timesteps: int | None
    activation_bits: int | None
    weight_bits: int | None
    value: float | None
    low: float | None
    high: float | None
    energy_joule: dict[str, float | None]

    @property
    def accuracy(self) -> float | None:
        """``value``, by its name where the metric is the accuracy."""
        return self.value

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
    """Every model's result for one pair of networks, and points of both: SNN over T, ANN over bits.

    The pair is the SNN at ``timesteps``, the T that its report recommends, and the quantised ANN with the fewest
    measured activation bits that is at most ``room`` worse in ``metric`` than the SNN's last answer (of an accuracy
    half a percentage point), or the best one. ``report`` and values are None where nothing was measured; the pair is
    then the SNN at its last step and the ANN with the same number of levels. ``spike_rate`` and ``spikes_per_synapse``
    are those at ``timesteps``, as is ``hybrid``: both sides of a hybrid network, None if all of the network spikes.
    ``operations``: of the SNN, of its burst twin if there is one, and of the quantised ANN.
    """

    report: Report | Measurement | None
    samples: int
    timesteps: int
    quantised_baseline_value: float | None
    quantised_baseline_low: float | None
    quantised_baseline_high: float | None
    activation_bits: dict[str, int]
    weight_bits: int | None
    density: float
    spike_rate: float
    spikes_per_synapse: float
    models: tuple[ModelCost, ...]
    points: tuple[Point, ...]
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = ()
    operations: tuple[NetworkOperations, ...] = ()
    metric: Metric = ACCURACY
    room: float = 0.005
    hybrid: Hybrid | None = None

    @property
    def quantised_baseline_accuracy(self) -> float | None:
        """The accuracy of the quantised ANN; None of a task with other metrics."""
        return self.quantised_baseline_value if self.metric == ACCURACY else None

    @property
    def snn_name(self) -> str:
        """The spiking network of the pair, with its T."""
        return f"SNN at T={self.timesteps}"

    @property
    def ann_name(self) -> str:
        """The quantised ANN of the pair, with its bits."""
        bits = " and ".join(str(width) for width in sorted(set(self.activation_bits.values()))) or "unquantised"
        return f"quantised ANN with {bits}{'-bit' if self.activation_bits else ''} activations"

    @property
    def judged(self) -> tuple[ModelCost, ...]:
        """The models that count for the verdict and price both networks; none where nothing spikes."""
        found = (one for one in self.models if one.ratio is not None and one.judges)
        return tuple(found) if self.spike_rate > 0 else ()

    @property
    def burst_advice(self) -> str:
        """One sentence: the SNN or its burst twin; "" if there is no such twin."""
        return recommendation(*self.operations[:2]) if len(self.operations) == 3 else ""

    @property
    def cheaper(self) -> int:
        """Number of judging models under which the SNN costs less than the quantised ANN, which skips zeros."""
        return sum(one.ratio < 1 for one in self.judged if one.ratio is not None)

    @property
    def verdict(self) -> str:
        """Number of models under which the spiking network is cheaper, without those with ``judges`` False."""
        if not self.spike_rate > 0:
            return f"Nothing spikes at T={self.timesteps}, so there is no spiking network to compare with an ANN"
        if not self.judged:
            if any(one.snn_joule is not None and one.ann_joule == 0 for one in self.models if one.judges):
                return "The quantised ANN costs nothing under every energy model that prices both networks"
            return "No energy model prices both networks"
        dense = sum(one.dense_ratio < 1 for one in self.judged if one.dense_ratio is not None)
        if not self.cheaper:
            more = f"; {dense} of {len(self.judged)} do if the ANN does not skip zeros" if dense else ""
            return f"No energy model favours the {self.snn_name} over the {self.ann_name}{more}"
        return (
            f"The {self.snn_name} is cheaper than the {self.ann_name} under {self.cheaper} of {len(self.judged)} "
            f"energy models, and under {dense} if the ANN does not skip zeros"
        )

    def front(self, model: str) -> tuple[Point, ...]:
        """The Pareto front of the metric and joules by this model, cheapest first."""
        priced = [(p.energy_joule[model], self.metric.rank(p.value), p) for p in self.points if p.value is not None]
        found: list[Point] = []
        best = -math.inf
        for _, rank, point in sorted(
            ((joule, rank, p) for joule, rank, p in priced if joule is not None),
            key=lambda one: (one[0], -one[1]),
        ):
            if rank > best:
                found.append(point)
                best = rank
        return tuple(found)

    def advice(self, model: str) -> str:
        """One sentence: the cheapest network by this model, at most ``room`` worse than the SNN.

        Of each weight width one SNN and one ANN take part, with the fewest steps or bits that are good enough.
        """
        if self.report is None or not self.spike_rate > 0:
            return f"{model}: {'nothing spikes' if self.report else 'without accuracies nothing is recommended'}"
        last = self.metric.rank(self.report.final.score[0])
        if last == -math.inf:
            return f"{model}: the {self.metric.name} of the SNN is not defined"
        wanted = last - self.room
        best = {kind: self._cheapest(kind, model, wanted) for kind in ("SNN", "ANN")}
        snn, ann = best["SNN"], best["ANN"]
        if snn is None and ann is None:
            return f"{model}: prices neither network"
        if snn is None:
            return f"{model}: does not price this spiking network"
        if ann is None:
            priced = any(p.kind == "ANN" and p.energy_joule.get(model) is not None for p in self.points)
            return (
                f"{model}: {f'no quantised ANN reaches {self._bound(wanted)}' if priced else 'does not price the ANN'}"
            )
        (low, cheap), (high, dear) = sorted((snn, ann), key=lambda one: one[0])
        if low == 0:
            more = f"costs {1e6 * high:.3g} µJ"
        else:
            more = f"costs {high / low:.2g} times as much" if high > 1.05 * low else "costs the same within 5 %"
        more_or_less = "more" if self.metric.higher_is_better else "less"
        bound = f"{self._bound(wanted)} or {more_or_less}"
        return f"{model}: cheapest at {bound} is the {cheap} ({1e6 * low:.3g} µJ); the {dear} {more}"

    def _bound(self, rank: float) -> str:
        value = self.metric.unranked(rank)
        return f"{value:.1%}" if self.metric == ACCURACY else f"a {self.metric.name} of {self.metric.text(value)}"

    def _cheapest(self, kind: str, model: str, wanted: float) -> tuple[float, Point] | None:
        """(joules, network) of one kind; of each weight width the first point that is accurate enough takes part."""
        sizes: dict[int | None, Point] = {}
        for point in sorted(
            (p for p in self.points if p.kind == kind), key=lambda p: p.timesteps or p.activation_bits or 0
        ):
            if self.metric.rank(point.value) >= wanted - 1e-12:
                sizes.setdefault(point.weight_bits, point)
        for point in self.points:  # the SNN of the pair, which has spikes
            if kind == "SNN" and point.timesteps == self.timesteps and point.weight_bits == self.weight_bits:
                sizes[point.weight_bits] = point
        priced = [(joule, p) for p in sizes.values() if (joule := p.energy_joule.get(model)) is not None]
        return min(priced, key=lambda one: one[0]) if priced else None

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        names = [one.model for one in self.models]
        key = "accuracy" if self.metric == ACCURACY else "value"
        measured = {} if self.metric == ACCURACY else {"metric": dataclasses.asdict(self.metric), "room": self.room}
        return {
            "schema": SCHEMA,
            **measured,
            "samples": self.samples,
            "timesteps": self.timesteps,
            "verdict": self.verdict,
            "twin": {
                key: self.quantised_baseline_value,
                "low": self.quantised_baseline_low, "high": self.quantised_baseline_high, "density": self.density,
                "activation_bits": self.activation_bits, "weight_bits": self.weight_bits,
            },
            "spike_rate": self.spike_rate,
            "spikes_per_synapse": self.spikes_per_synapse,
            "published_break_even": [{"spikes_per_synapse": text, "source": source} for text, source in THRESHOLDS],
            "models": [dataclasses.asdict(one) for one in self.models],
            "points": [{key if n == "value" else n: v for n, v in vars(point).items()} for point in self.points],
            "front": {name: [str(point) for point in self.front(name)] for name in names},
            "advice": [self.advice(name) for name in names],
            "operations": [dataclasses.asdict(one) | {"total": one.total} for one in self.operations],
            "burst_advice": self.burst_advice,
            **({} if self.hybrid is None else {"hybrid": self.hybrid.to_json()}),
            "notes": list(self.notes), "warnings": list(self.warnings),
            "snn": None if self.report is None else self.report.to_json(),
        }  # fmt: skip

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())
