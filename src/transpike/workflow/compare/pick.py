"""Select a row by conditions and one objective, like ``drop<=1 steps<=32 min=synops``."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from transpike.errors import GateFailed, SettingError
from transpike.results.statistics import percent
from transpike.workflow.compare.rows import Row

NUMBERS: dict[str, Callable[[Row], float]] = {
    "accuracy": lambda row: percent(row.accuracy),
    "drop": lambda row: percent(row.drop),
    "macs": lambda row: row.macs,
    "rate": lambda row: row.spike_rate,
    "spikes": lambda row: row.spikes,
    "steps": lambda row: row.total_steps,
    "synops": lambda row: row.synaptic_operations,
}
"""Accuracy in percent, drop in percentage points, the rest as in Row."""
WORDS: dict[str, tuple[tuple[str, ...], Callable[[Row], set[str]]]] = {
    "alphabet": (
        ("binary", "graded", "levels", "phase", "ternary"),
        lambda row: {_kind(text) for text in row.alphabets},
    ),
    "signed": (("no", "yes"), lambda row: {"yes" if row.signed else "no"}),
    "training-free": (("no", "yes"), lambda row: {"yes" if row.training_free else "no"}),
}
OBJECTIVES = {"min": ("drop", "macs", "rate", "spikes", "steps", "synops"), "max": ("accuracy",)}
KNOWN = ", ".join(
    [
        *(f"{name}<=… or >=…" for name in sorted(NUMBERS)),
        *(f"{name}={'|'.join(values)}" for name, (values, _) in WORDS.items()),
        *(f"{word}={'|'.join(names)}" for word, names in OBJECTIVES.items()),
    ]
)
NEAREST = 3
EXAMPLE = "drop<=1 steps<=32 min=synops"


@dataclass(frozen=True)
class Condition:
    """``name`` of NUMBERS with "<=" or ">=" and a number, or of WORDS with "=" and one of its values."""

    name: str
    sign: str
    value: str

    def miss(self, row: Row) -> float:
        """0 where the row satisfies the condition, else its distance relative to the bound; 1 for words."""
        if self.sign == "=":
            return float(WORDS[self.name][1](row) != {self.value})
        bound, found = float(self.value), NUMBERS[self.name](row)
        off = found - bound if self.sign == "<=" else bound - found
        return off / (abs(bound) or 1.0) if off > 0 else 0.0

    def found(self, row: Row) -> str:
        """The row's value and the condition, as text."""
        if self.sign == "=":
            return f"{self.name} {'+'.join(sorted(WORDS[self.name][1](row))) or 'none'}, not {self.value}"
        return f"{self.name} {NUMBERS[self.name](row):.4g}, not {self.sign} {self.value}"


def parse(text: str) -> tuple[tuple[Condition, ...], tuple[str, str]]:
    """The conditions, and the objective as ("min" or "max", name); SettingError with the known words for others."""
    conditions: list[Condition] = []
    objectives: list[tuple[str, str]] = []
    if not isinstance(text, str):
        raise SettingError(f"a selection is text like {EXAMPLE!r}, not {text!r}")
    for word in re.sub(r"\s*(<=|>=|=)\s*", r"\1", text).split():
        match = re.fullmatch(r"([a-z-]+)(<=|>=|=)(\S+)", word)
        name, sign, value = match.groups() if match else ("", "", "")
        if sign == "=" and value in OBJECTIVES.get(name, ()):
            objectives.append((name, value))
        elif (sign in ("<=", ">=") and name in NUMBERS and _is_number(value)) or (
            sign == "=" and name in WORDS and value in WORDS[name][0]
        ):
            if name == "accuracy" and 0 < float(value) <= 1:
                raise SettingError(f"{word!r}: the accuracy is in percent; write accuracy{sign}{100 * float(value):g}")
            conditions.append(Condition(name, sign, value))
        else:
            raise SettingError(f"{word!r} is not a condition or objective, as in {EXAMPLE!r}; known are {KNOWN}")
    if len(objectives) != 1:
        raise SettingError(f"{text!r} has {len(objectives)} objectives and needs one; known are {KNOWN}")
    return tuple(conditions), objectives[0]


def pick(rows: Iterable[Row], text: str) -> Row:
    """The row with spikes that satisfies every condition and is best in the objective.

    Ties are resolved by fewer total steps, fewer synaptic operations, higher accuracy, and order in the table.
    Raises SettingError for unknown words, GateFailed with the closest rows where none satisfies the conditions.
    """
    rows = tuple(rows)
    conditions, (direction, name) = parse(text)
    fit = [row for row in rows if row.fires and not any(condition.miss(row) for condition in conditions)]
    if not fit:
        raise GateFailed(_misses(rows, conditions, text))
    sign = 1 if direction == "min" else -1
    return min(
        fit,
        key=lambda row: (sign * NUMBERS[name](row), row.total_steps, row.synaptic_operations, -row.accuracy),
    )


def _misses(rows: tuple[Row, ...], conditions: tuple[Condition, ...], text: str) -> str:
    """The rows with the fewest unmet conditions, the closest first."""
    if not rows:
        return f"no row satisfies {text!r}, because nothing was measured"
    scored = [(row, [condition for condition in conditions if condition.miss(row)]) for row in rows]
    scored.sort(
        key=lambda pair: (not pair[0].fires, len(pair[1]), sum(condition.miss(pair[0]) for condition in pair[1]))
    )
    nearest = "; ".join(
        f"{row.recipe} at T={row.timesteps} "
        + (f"has {', '.join(condition.found(row) for condition in unmet)}" if row.fires else "sends no spikes")
        for row, unmet in scored[:NEAREST]
    )
    return f"no row satisfies {text!r}; nearest: {nearest}"


def _kind(alphabet: str) -> str:
    """binary, ternary, graded, phase or levels, whatever the number of levels and the sign."""
    return next((kind for kind in ("binary", "ternary", "graded", "phase") if alphabet.startswith(kind)), "levels")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]*)?(e[0-9]+)?", text) is not None
