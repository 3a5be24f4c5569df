"""Rows of a comparison: one for each recipe and number of time steps, measured or refused."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from transpike.core.annotated import fits, wrong_fields
from transpike.core.codec import decode, encode
from transpike.core.exit import ExitPolicy
from transpike.core.recipe import Recipe
from transpike.core.task import ACCURACY, Metric
from transpike.errors import FileError, SettingError
from transpike.results.statistics import changes
from transpike.workflow.evaluate.measurement import Estimate

Cost = Literal["total_steps", "synaptic_operations"]
SHARES = ("accuracy", "low", "high", "ann_accuracy", "agreement")


@dataclass(frozen=True, eq=False)
class Entry:
    """``recipe``: its text without the number of steps; ``made_by``: the settings of the conversion.

    ``series``: the recipe as requested; rows with an early exit name the exit in ``recipe`` only.
    ``made_by.timesteps`` may be larger than ``timesteps``, where one run gives the answers at all of them.
    """

    recipe: str
    timesteps: int
    made_by: Recipe = field(repr=False)
    series: str = field(default="", repr=False, kw_only=True)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of ``made_by``, as plain data."""
        return encode(self.made_by, {}, "recipe")

    @property
    def training_free(self) -> bool:
        return self.made_by.training_free

    def to_json(self) -> dict[str, Any]:
        """Every field as plain data, except the outcomes of single samples; changes of accuracy are SNN minus ANN."""
        hidden = ("made_by", "series", "outcomes", "policy", "statistics")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in hidden}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return changes(values) | {"settings": self.settings, "training_free": self.training_free}


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored(Entry):
    """Measurements of a recipe after ``timesteps`` steps, by any task; counts per sample.

    ``total_steps`` is the step at which the answer is ready. ``macs`` are the remaining MACs; ``alphabets`` the spike
    alphabets of the neurons, ``signed`` whether any neuron sends negative spikes.
    ``energy_joule``: joules by name of the model, None where it does not apply. ``seconds``: time of conversion and
    evaluation together, of all rows from one run. ``exit`` describes an early exit.
    """

    total_steps: float
    ann_macs: int
    synaptic_operations: float
    spikes: float
    spike_rate: float
    macs: int
    alphabets: tuple[str, ...]
    signed: bool
    schedule: str
    exact: bool
    exact_why: str
    remarks: tuple[str, ...]
    energy_joule: dict[str, float | None]
    seconds: float
    exit: str | None = None

    @property
    def fires(self) -> bool:
        """Whether any neuron fired: a network without spikes is never picked and on no Pareto front."""
        return self.spike_rate > 0

    @property
    def rank(self) -> float:
        """The first metric as a number that is larger for a better row."""
        return self.metric.rank(self.value)

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The first metric of the task, for verdicts."""

    @property
    @abstractmethod
    def value(self) -> float | None:
        """The value of ``metric``."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | None, float | None]:
        """The 95 % interval of ``value``."""

    @property
    @abstractmethod
    def ann_value(self) -> float | None:
        """``metric`` of the source network; None where it is the reference."""

    @property
    @abstractmethod
    def loss(self) -> tuple[float | None, float | None, float | None]:
        """How much worse than the source network the row is in ``metric``, with its paired 95 % interval."""

    @property
    @abstractmethod
    def judged(self) -> Tensor:
        """(samples, …): what the task needs of each sample, for paired comparisons."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Row(Scored):
    """A row of a task whose answers are correct or wrong; fractions in [0, 1].

    ``low`` and ``high`` are Wilson's 95 % bounds of ``accuracy``; ``drop`` is ANN minus SNN on the same samples with
    its paired 95 % interval ``drop_low``, ``drop_high`` (results.statistics.paired_difference). With an ``exit``,
    ``total_steps`` is a mean and ``policy`` the fitted exit. ``outcomes`` (samples,) bool: correct or not.
    """

    accuracy: float
    low: float
    high: float
    ann_accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    agreement: float
    outcomes: Tensor = field(repr=False)
    policy: Any = field(default=None, repr=False)

    @property
    def metric(self) -> Metric:
        return ACCURACY

    @property
    def value(self) -> float:
        return self.accuracy

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def ann_value(self) -> float:
        return self.ann_accuracy

    @property
    def loss(self) -> tuple[float, float, float]:
        return self.drop, self.drop_low, self.drop_high

    @property
    def judged(self) -> Tensor:
        return self.outcomes


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredRow(Scored):
    """A row of a task with metrics: ``metrics``, ``ann`` and ``changes`` (SNN minus ANN) by their names.

    ``measured`` are the metrics, the first one for verdicts; ``ann`` and ``changes`` are empty where the source network
    is the reference. ``worse``: how much worse than the source network the first metric is, with its paired interval.
    ``statistics`` (samples, k): what the task sums over samples.
    """

    measured: tuple[Metric, ...]
    metrics: dict[str, Estimate]
    ann: dict[str, Estimate]
    changes: dict[str, Estimate]
    worse: Estimate
    statistics: Tensor = field(repr=False)

    @property
    def metric(self) -> Metric:
        return self.measured[0]

    @property
    def value(self) -> float | None:
        return self.metrics[self.metric.name].value

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        one = self.metrics[self.metric.name]
        return one.low, one.high

    @property
    def ann_value(self) -> float | None:
        return self.ann[self.metric.name].value if self.ann else None

    @property
    def loss(self) -> tuple[float | None, float | None, float | None]:
        return self.worse.value, self.worse.low, self.worse.high

    @property
    def judged(self) -> Tensor:
        return self.statistics

    def to_json(self) -> dict[str, Any]:
        """As every row; estimates as value, low and high."""
        return {name: _plain(value) for name, value in super().to_json().items() if name != "measured"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return dataclasses.asdict(value) if isinstance(value, Estimate) else value


@dataclass(frozen=True, eq=False)
class Refusal(Entry):
    """A recipe without an answer for this number of steps, and the reason. ``failed``: an error that may not recur."""

    reason: str
    failed: bool = False


def check_rows(rows: Iterable[Scored | Refusal], answers: tuple[int, ...]) -> None:
    """Raises FileError for rows from a store that no comparison has written: other types, shares beyond 0 to 1."""
    for row in rows:
        values = vars(row)
        wrong = wrong_fields(type(row), values)
        if not wrong and isinstance(row, Scored):
            numbers = [*values.items(), *row.energy_joule.items()]
            if isinstance(row, MeasuredRow):
                numbers += [pair for one in _estimates(row) for pair in vars(one).items()]
            wrong = [f"{name} is {one}" for name, one in numbers if fits(one, float) and not math.isfinite(one)]
        if not wrong and isinstance(row, Row):
            wrong += [f"{name} is {values[name]}" for name in SHARES if not 0 <= values[name] <= 1]
            if row.policy is not None and not isinstance(decode(row.policy, {}), ExitPolicy):
                wrong.append("policy is not an exit policy")
        if row.timesteps not in answers:
            wrong.append(f"timesteps is {row.timesteps!r}")
        if wrong:
            raise FileError("; ".join(wrong))


def _estimates(row: MeasuredRow) -> list[Estimate]:
    """Raises FileError where a metric is missing."""
    names = {metric.name for metric in row.measured}
    if any(names - found.keys() for found in (row.metrics, row.ann or row.metrics, row.changes or row.metrics)):
        raise FileError(f"its rows lack some of {', '.join(sorted(names))}")
    return [*row.metrics.values(), *row.ann.values(), *row.changes.values(), row.worse]


@dataclass(frozen=True)
class Difference:
    """How much better one row is than another on the same samples, in the first metric, with a paired 95 % interval.

    Of an accuracy or another share in percentage points, else in the unit of the metric; positive is better. None
    where it is not defined.
    """

    points: float | None
    low: float | None
    high: float | None
    samples: int


def front(rows: Iterable[Scored], cost: Cost = "total_steps") -> tuple[Scored, ...]:
    """The Pareto front: rows with spikes that no other row dominates in the first metric and ``cost``, cheapest first.

    Raises SettingError for another ``cost`` than "total_steps" and "synaptic_operations".
    """
    if cost not in get_args(Cost):
        raise SettingError(f"a front is drawn against {' or '.join(get_args(Cost))}, not {cost!r}")
    best: list[Scored] = []
    for row in sorted((row for row in rows if row.fires), key=lambda row: (getattr(row, cost), -row.rank)):
        if not best or row.rank > best[-1].rank or _same(row, best[-1], cost):
            best.append(row)
    return tuple(best)


def _same(a: Scored, b: Scored, cost: Cost) -> bool:
    return a.rank == b.rank and getattr(a, cost) == getattr(b, cost)
