"""The tables of a comparison."""

from collections.abc import Callable, Iterable
from typing import Any

from transpike.core.task import ACCURACY
from transpike.report._columns import (
    INTERVAL,
    in_microjoule,
    in_percent,
    in_points,
    microjoule,
    notes_of,
    of_metric,
)
from transpike.report._numbers import change, short, signed
from transpike.report._table import Column, Table, rows
from transpike.tasks import metrics_of
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.compare.rows import MeasuredRow, Refusal, Row, Scored


def comparison(result: Comparison, refused: bool = True) -> Table:
    """One row per recipe and number of time steps, also of those without a result."""
    scores, score = _accuracies() if result.metric == ACCURACY else _metrics(result)
    fronts = {"steps": result.front("total_steps"), "ops": result.front("synaptic_operations")}
    columns = (
        Column("recipe", name=True), Column("T"), Column("total steps", show=lambda v: f"{v:g}"), *scores,
        Column("SynOps", "million", short),
        Column("spikes", "thousand", short), Column("MACs remaining", "million", short), in_percent("spike rate", 1),
        Column("spike levels", name=True), Column("signed", show=_yes), Column("training-free", show=_yes),
        Column("Pareto front", name=True),
    )  # fmt: skip
    found, best = [], set()
    for number, row in enumerate(result.rows if refused else result.measured):
        if isinstance(row, Refusal):
            word = "failed" if row.failed else "refused"
            found.append((row.recipe, row.timesteps, None, word, *[None] * (len(scores) + 5), row.training_free, None))
            continue
        on = [name for name, members in fronts.items() if row in members]
        best |= {number} if on else set()
        found.append(_row(row, score(row), "both" if len(on) == len(fronts) else "".join(on)))
    ann = result.ann
    known = "" if ann is None else ann_text(result)
    notes = notes_of(result.samples, result.provenance, *([known] if known else []), f"{INTERVAL}, of changes paired")
    return Table(
        "comparison", "Comparison of recipes", columns, rows(found), notes, keys=2, grouped=True, strong=frozenset(best)
    )


def _accuracies() -> tuple[list[Column], Callable[[Any], tuple[Any, ...]]]:
    """Columns of a task that counts correct answers, and their values of a row."""
    columns = [
        in_percent("accuracy"), in_percent("from", brief=False), in_percent("to", brief=False), in_points("change"),
        in_points("lowest", 1), in_points("highest", 1), in_percent("agreement", 1),
    ]  # fmt: skip

    def values(row: Row) -> tuple[Any, ...]:
        return (
            100 * row.accuracy, 100 * row.low, 100 * row.high, change(row.drop), change(row.drop_high),
            change(row.drop_low), 100 * row.agreement,
        )  # fmt: skip

    return columns, values


def _metrics(result: Comparison) -> tuple[list[Column], Callable[[Any], tuple[Any, ...]]]:
    """Columns of the metrics of a task, and their values of a row."""
    columns = []
    for metric in metrics_of(result.task):
        columns += of_metric(metric, ("{} from", "{} to"), brief=False)
        columns.append(Column(f"change of {metric.name}", metric.change_unit, signed))

    def values(row: MeasuredRow) -> tuple[Any, ...]:
        found: list[float | None] = []
        for metric in row.measured:
            one, changed = row.metrics[metric.name], row.changes.get(metric.name)
            numbers = (one.value, one.low, one.high, None if changed is None else changed.value)
            found += map(metric.shown_or_none, numbers)
        return tuple(found)

    return columns, values


def ann_text(result: Comparison) -> str:
    """The source network in the first metric, with its interval where there is one."""
    first = result.measured[0]
    if isinstance(first, Row):
        return f"ANN {first.ann_accuracy:.2%}"
    return "" if first.ann_value is None else f"ANN {first.metric.name} {first.metric.text(first.ann_value)}"


def steps(row: Scored) -> float:
    """Total steps, rounded where they are a mean."""
    return row.total_steps if row.exit is None else round(row.total_steps, 1)


def _row(row: Scored, score: tuple[Any, ...], front: str) -> tuple[Any, ...]:
    return (
        row.recipe, row.timesteps, steps(row), *score, row.synaptic_operations / 1e6,
        row.spikes / 1e3, row.macs / 1e6, 100 * row.spike_rate, ", ".join(row.alphabets).replace("-weighted", ""),
        row.signed, row.training_free, front,
    )  # fmt: skip


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def joules(result: Comparison) -> Table | None:
    """Energy of every measured row by every model; None without models."""
    names = list(dict.fromkeys(name for row in result.measured for name in row.energy_joule))
    if not names:
        return None
    columns = (
        Column("recipe", name=True), Column("T"), Column("total steps", show=lambda v: f"{v:g}"),
        *of_metric(result.metric), *(in_microjoule(name) for name in names),
    )  # fmt: skip
    found = [
        (
            row.recipe, row.timesteps, steps(row), result.metric.shown_or_none(row.value),
            *(microjoule(row.energy_joule.get(name)) for name in names),
        )
        for row in result.measured
    ]  # fmt: skip
    notes = notes_of(result.samples, result.provenance, "empty where a model does not apply")
    return Table("energy", "Energy of the recipes", columns, rows(found), notes, keys=2, grouped=True)


def of_comparison(result: Comparison) -> Iterable[Table]:
    """All tables of a comparison."""
    yield comparison(result)
    priced = joules(result)
    if priced is not None:
        yield priced
