"""Columns and notes that several tables have."""

from collections.abc import Callable
from typing import Any

from transpike.core.task import Metric
from transpike.report._numbers import digits, short, signed
from transpike.report._table import Column

INTERVAL = "95 % intervals"


def fixed(digits: int, sign: bool = False) -> Callable[[Any], str]:
    return lambda value: f"{value:{'+' if sign else ''}.{digits}f}"


def count(value: Any) -> str:
    return f"{value:,.0f}"


def in_percent(heading: str, digits: int = 2, **more: Any) -> Column:
    return Column(heading, "%", fixed(digits), **more)


def in_points(heading: str, digits: int = 2, **more: Any) -> Column:
    return Column(heading, "points", fixed(digits, sign=True), **more)


def in_microjoule(heading: str, **more: Any) -> Column:
    return Column(heading, "µJ per sample", short, **more)


def microjoule(joule: float | None) -> float | None:
    return None if joule is None else 1e6 * joule


def notes_of(samples: int, provenance: dict[str, Any], *more: str) -> tuple[str, ...]:
    """The notes that every table has: number of samples, seed."""
    seed = () if provenance.get("seed") is None else (f"seed {provenance['seed']}",)
    return (f"n = {samples:,} samples", *seed, *more)


def hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def of_metric(metric: Metric, ends: tuple[str, ...] = (), brief: bool = True) -> list[Column]:
    """A column of values, and others of their intervals with these ``ends`` of the heading."""
    unit, show = ("%", fixed(2)) if metric.share else (metric.unit, digits)
    found = [Column(metric.name, unit, show)]
    return found + [Column(end.format(metric.name), unit, show, brief=brief) for end in ends]


def in_gain(heading: str, metric: Metric) -> Column:
    """A column of differences of a metric: of a share in percentage points."""
    return in_points(heading, 1) if metric.share else Column(heading, metric.unit, signed)
