"""Select a row by conditions and one objective, like ``drop<=1 steps<=32 min=synops``."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from transpike.core.task import ACCURACY, Metric
from transpike.errors import GateFailed, SettingError
from transpike.results.statistics import percent
from transpike.workflow.compare.rows import MeasuredRow, Scored

COUNTS: dict[str, Callable[[Scored], float]] = {
    "macs": lambda row: row.macs,
    "rate": lambda row: row.spike_rate,
    "spikes": lambda row: row.spikes,
    "steps": lambda row: row.total_steps,
    "synops": lambda row: row.synaptic_operations,
}
"""As in Scored."""
WORDS: dict[str, tuple[tuple[str, ...], Callable[[Scored], set[str]]]] = {
    "alphabet": (
        ("binary", "graded", "levels", "phase", "ternary"),
        lambda row: {_kind(text) for text in row.alphabets},
    ),
    "signed": (("no", "yes"), lambda row: {"yes" if row.signed else "no"}),
    "training-free": (("no", "yes"), lambda row: {"yes" if row.training_free else "no"}),
}
NEAREST = 3
EXAMPLE = "drop<=1 steps<=32 min=synops"


def numbers(metrics: Sequence[Metric] = (ACCURACY,)) -> dict[str, Callable[[Scored], float]]:
    """Numbers of a row by their names: counts, ``drop``, and each metric by its word; shares in percent.

    ``drop``: how much worse than the source network the first metric is. What is not defined is worse than any bound.
    """
    found: dict[str, Callable[[Scored], float]] = {metric.word: _reader(metric) for metric in metrics}
    return found | {"drop": lambda row: _shown(row.metric, row.loss[0], math.inf)} | COUNTS


def _reader(metric: Metric) -> Callable[[Scored], float]:
    def read(row: Scored) -> float:
        value = row.metrics[metric.name].value if isinstance(row, MeasuredRow) else row.value
        return _shown(metric, value, -math.inf if metric.higher_is_better else math.inf)

    return read


def _shown(metric: Metric, value: float | None, undefined: float) -> float:
    if value is None:
        return undefined
    return percent(value) if metric.share else value


def objectives(metrics: Sequence[Metric] = (ACCURACY,)) -> dict[str, tuple[str, ...]]:
    """The numbers that ``min=`` and ``max=`` take."""
    higher = tuple(metric.word for metric in metrics if metric.higher_is_better)
    lower = (metric.word for metric in metrics if not metric.higher_is_better)
    return {"min": tuple(sorted([*lower, "drop", *COUNTS])), "max": higher}


def known(metrics: Sequence[Metric]) -> str:
    """The words of a selection, for errors."""
    return ", ".join(
        [
            *(f"{name}<=… or >=…" for name in sorted(numbers(metrics))),
            *(f"{name}={'|'.join(values)}" for name, (values, _) in WORDS.items()),
            *(f"{word}={'|'.join(names)}" for word, names in objectives(metrics).items() if names),
        ]
    )


@dataclass(frozen=True)
class Condition:
    """``name`` of ``numbers`` with "<=" or ">=" and a number, or of WORDS with "=" and one of its values."""

    name: str
    sign: str
    value: str

    def miss(self, row: Scored, read: Callable[[Scored], float] | None) -> float:
        """0 where the row satisfies the condition, else its distance relative to the bound; 1 for words."""
        if self.sign == "=":
            return float(WORDS[self.name][1](row) != {self.value})
        assert read is not None
        bound, found = float(self.value), read(row)
        off = found - bound if self.sign == "<=" else bound - found
        return off / (abs(bound) or 1.0) if off > 0 else 0.0

    def found(self, row: Scored, read: Callable[[Scored], float] | None) -> str:
        """The row's value and the condition, as text."""
        if self.sign == "=":
            return f"{self.name} {'+'.join(sorted(WORDS[self.name][1](row))) or 'none'}, not {self.value}"
        assert read is not None
        return f"{self.name} {read(row):.4g}, not {self.sign} {self.value}"


def parse(text: str, metrics: Sequence[Metric] = (ACCURACY,)) -> tuple[tuple[Condition, ...], tuple[str, str]]:
    """The conditions, and the objective as ("min" or "max", name); SettingError with the known words for others."""
    conditions: list[Condition] = []
    wanted: list[tuple[str, str]] = []
    there, aims = numbers(metrics), objectives(metrics)
    shares = {metric.word for metric in metrics if metric.share}
    if not isinstance(text, str):
        raise SettingError(f"a selection is text like {EXAMPLE!r}, not {text!r}")
    for word in re.sub(r"\s*(<=|>=|=)\s*", r"\1", text).split():
        match = re.fullmatch(r"([a-z0-9-]+)(<=|>=|=)(\S+)", word)
        name, sign, value = match.groups() if match else ("", "", "")
        if sign == "=" and value in aims.get(name, ()):
            wanted.append((name, value))
        elif (sign in ("<=", ">=") and name in there and _is_number(value)) or (
            sign == "=" and name in WORDS and value in WORDS[name][0]
        ):
            if name in shares and 0 < float(value) <= 1:
                raise SettingError(f"{word!r}: the {name} is in percent; write {name}{sign}{100 * float(value):g}")
            conditions.append(Condition(name, sign, value))
        else:
            raise SettingError(
                f"{word!r} is not a condition or objective, as in {EXAMPLE!r}; known are {known(metrics)}"
            )
    if len(wanted) != 1:
        raise SettingError(f"{text!r} has {len(wanted)} objectives and needs one; known are {known(metrics)}")
    return tuple(conditions), wanted[0]


def pick(rows: Iterable[Scored], text: str, metrics: Sequence[Metric] = (ACCURACY,)) -> Scored:
    """The row with spikes that satisfies every condition and is best in the objective.

    Ties are resolved by fewer total steps, fewer synaptic operations, a better first metric, and order in the table.
    Raises SettingError for unknown words, GateFailed with the closest rows where none satisfies the conditions.
    """
    rows = tuple(rows)
    conditions, (direction, name) = parse(text, metrics)
    read = numbers(metrics)
    fit = [row for row in rows if row.fires and not any(one.miss(row, read.get(one.name)) for one in conditions)]
    if not fit:
        raise GateFailed(_misses(rows, conditions, text, read))
    sign = 1 if direction == "min" else -1
    return min(
        fit,
        key=lambda row: (sign * read[name](row), row.total_steps, row.synaptic_operations, -row.rank),
    )


def _misses(
    rows: tuple[Scored, ...], conditions: tuple[Condition, ...], text: str, read: dict[str, Callable[[Scored], float]]
) -> str:
    """The rows with the fewest unmet conditions, the closest first."""
    if not rows:
        return f"no row satisfies {text!r}, because nothing was measured"
    scored = [(row, [one for one in conditions if one.miss(row, read.get(one.name))]) for row in rows]
    scored.sort(
        key=lambda pair: (
            not pair[0].fires, len(pair[1]), sum(one.miss(pair[0], read.get(one.name)) for one in pair[1]),
        )
    )  # fmt: skip
    nearest = "; ".join(
        f"{row.recipe} at T={row.timesteps} "
        + (f"has {', '.join(one.found(row, read.get(one.name)) for one in unmet)}" if row.fires else "sends no spikes")
        for row, unmet in scored[:NEAREST]
    )
    return f"no row satisfies {text!r}; nearest: {nearest}"


def _kind(alphabet: str) -> str:
    """binary, ternary, graded, phase or levels, whatever the number of levels and the sign."""
    return next((kind for kind in ("binary", "ternary", "graded", "phase") if alphabet.startswith(kind)), "levels")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]*)?(e[0-9]+)?", text) is not None
