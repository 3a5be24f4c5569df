"""A comparison on a page: both Pareto plots and the table."""

from typing import Any

from transpike.report import comparison
from transpike.report._numbers import change, short
from transpike.report._section import Cell, Section, Table, drawing, rows
from transpike.report._style import PAGE
from transpike.workflow.compare.run import Comparison, Row


def summary(result: Comparison) -> str:
    return f"{comparison.title(result)}. {comparison.text(result).splitlines()[0] if result.measured else ''}".strip()


def section(result: Comparison) -> Section:
    recipes = len(dict.fromkeys(row.recipe for row in result.measured))
    figures = []
    for cost, heading in comparison.TITLES.items() if result.measured else ():

        def paint(axes: Any, cost: Any = cost) -> dict[str, str]:
            tips = comparison.panel(axes, result, cost, PAGE)
            axes.set_ylabel("accuracy in %")
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18), fontsize=7.5)
            return tips

        caption = f"Accuracy against {heading}. Rings and dotted line: Pareto front. Whiskers: 95 % intervals."
        figures.append(drawing(f"pareto-{cost.replace('_', '-')}", caption, paint, 4.8, 3.4 + 0.17 * (recipes + 2)))
    fronts = {cost: result.front(cost) for cost in comparison.COSTS}
    found = [
        _cells(row, [comparison.COSTS[c] for c, members in fronts.items() if row in members]) for row in result.measured
    ]
    measured = result.measured
    best = [any(row in members for members in fronts.values()) for row in measured]
    names = list(dict.fromkeys(name for row in measured for name in row.energy_joule))
    headings = (
        "recipe", "T", "total steps", "accuracy", "accuracy\nchange", "95 %, paired", "agreement", "M SynOps",
        "k spikes", "M remaining\nMACs", "spike rate", "spike levels", "Pareto front",
        *(f"µJ, {name}" for name in names),
    )  # fmt: skip
    tables = [Table(headings, rows(found, lambda n: best[n]), "All rows", left=(0, 11, 12), sortable=True, closed=True)]
    refused = [(row.recipe, row.timesteps, row.reason) for row in result.refused]
    if refused:
        tables.append(Table(("recipe", "T", "reason"), rows(refused), "Refused", wrap=(2,), closed=True))
    lead = tuple(comparison.text(result).splitlines()[:1]) if measured else ()
    return Section("compare", "Comparison with other recipes", lead, figures=tuple(figures), tables=tuple(tables))


def _cells(row: Row, fronts: list[str]) -> list[Cell]:
    return [
        Cell(row.recipe), Cell(str(row.timesteps)), Cell(comparison.steps(row), row.total_steps),
        Cell(f"{row.accuracy:.2%}"),
        Cell(f"{change(row.drop):+.2f}", -row.drop),
        Cell(f"{change(row.drop_high):+.1f} … {change(row.drop_low):+.1f}"),
        Cell(f"{row.agreement:.1%}"), Cell(short(row.synaptic_operations / 1e6), row.synaptic_operations),
        Cell(short(row.spikes / 1e3), row.spikes), Cell(short(row.macs / 1e6), row.macs), Cell(f"{row.spike_rate:.1%}"),
        Cell(", ".join(row.alphabets)), Cell(", ".join(fronts)),
        *(Cell("-" if joule is None else short(1e6 * joule), joule) for joule in row.energy_joule.values()),
    ]  # fmt: skip
