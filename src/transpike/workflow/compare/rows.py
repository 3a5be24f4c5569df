"""Rows of a comparison: one for each recipe and number of time steps, measured or refused."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from transpike.core.annotated import fits, wrong_fields
from transpike.core.codec import decode, encode
from transpike.core.exit import ExitPolicy
from transpike.core.recipe import Recipe
from transpike.errors import FileError, SettingError
from transpike.results.statistics import changes

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
        hidden = ("made_by", "series", "outcomes", "policy")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in hidden}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return changes(values) | {"settings": self.settings, "training_free": self.training_free}


@dataclass(frozen=True, eq=False)
class Row(Entry):
    """Measurements of a recipe after ``timesteps`` steps; fractions in [0, 1], counts per sample.

    ``total_steps`` is the step at which the answer is ready. ``low`` and ``high`` are Wilson's 95 % bounds of
    ``accuracy``; ``drop`` is ANN minus SNN on the same samples with its paired 95 % interval ``drop_low``,
    ``drop_high`` (transpike.evaluate.paired_difference). ``macs`` are the remaining MACs; ``alphabets`` the spike
    alphabets of the neurons, ``signed`` whether any neuron sends negative spikes.
    ``exit`` describes an early exit: ``total_steps`` is then a mean, ``policy`` the fitted exit.
    ``energy_joule``: joules by name of the model, None where it does not apply. ``seconds``: time of conversion and
    evaluation together, of all rows from one run. ``outcomes`` (samples,) bool: correct or not.
    """

    total_steps: float
    accuracy: float
    low: float
    high: float
    ann_accuracy: float
    ann_macs: int
    drop: float
    drop_low: float
    drop_high: float
    agreement: float
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
    outcomes: Tensor = field(repr=False)
    exit: str | None = None
    policy: Any = field(default=None, repr=False)

    @property
    def fires(self) -> bool:
        """Whether any neuron fired: a network without spikes is never picked and on no Pareto front."""
        return self.spike_rate > 0


@dataclass(frozen=True, eq=False)
class Refusal(Entry):
    """A recipe without an answer for this number of steps, and the reason. ``failed``: an error that may not recur."""

    reason: str
    failed: bool = False


def check_rows(rows: Iterable[Row | Refusal], answers: tuple[int, ...]) -> None:
    """Raises FileError for rows from a store that no comparison has written: other types, shares beyond 0 to 1."""
    for row in rows:
        values = vars(row)
        wrong = wrong_fields(type(row), values)
        if not wrong and isinstance(row, Row):
            numbers = [*values.items(), *row.energy_joule.items()]
            wrong = [f"{name} is {one}" for name, one in numbers if fits(one, float) and not math.isfinite(one)]
            wrong += [f"{name} is {values[name]}" for name in SHARES if not 0 <= values[name] <= 1]
            if row.policy is not None and not isinstance(decode(row.policy, {}), ExitPolicy):
                wrong.append("policy is no exit policy")
        if row.timesteps not in answers:
            wrong.append(f"timesteps is {row.timesteps!r}")
        if wrong:
            raise FileError("; ".join(wrong))


@dataclass(frozen=True)
class Difference:
    """Accuracy of one row minus another's on the same samples, in percentage points, with a paired 95 % interval."""

    points: float
    low: float
    high: float
    samples: int


def front(rows: Iterable[Row], cost: Cost = "total_steps") -> tuple[Row, ...]:
    """The Pareto front: rows with spikes that no other row dominates in accuracy and ``cost``, cheapest first.

    Raises SettingError for another ``cost`` than "total_steps" and "synaptic_operations".
    """
    if cost not in get_args(Cost):
        raise SettingError(f"a front is drawn against {' or '.join(get_args(Cost))}, not {cost!r}")
    best: list[Row] = []
    for row in sorted((row for row in rows if row.fires), key=lambda row: (getattr(row, cost), -row.accuracy)):
        if not best or row.accuracy > best[-1].accuracy or _same(row, best[-1], cost):
            best.append(row)
    return tuple(best)


def _same(a: Row, b: Row, cost: Cost) -> bool:
    return a.accuracy == b.accuracy and getattr(a, cost) == getattr(b, cost)
