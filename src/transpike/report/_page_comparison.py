"""A comparison on a page: both Pareto plots and the table."""

from typing import Any

from transpike.report import comparison
from transpike.report._comparison_tables import comparison as comparison_table
from transpike.report._comparison_tables import joules
from transpike.report._section import Section, Table, drawing, of, rows
from transpike.report._style import PAGE, legend_below
from transpike.workflow.compare.comparison import Comparison


def summary(result: Comparison) -> str:
    return f"{comparison.title(result)}. {comparison.text(result).splitlines()[0] if result.measured else ''}".strip()


def section(result: Comparison) -> Section:
    recipes = len(dict.fromkeys(row.recipe for row in result.measured))
    figures = []
    for cost, heading in comparison.TITLES.items() if result.measured else ():

        def paint(axes: Any, cost: Any = cost) -> dict[str, str]:
            tips = comparison.panel(axes, result, cost, PAGE)
            axes.set_ylabel(result.metric.axis_label)
            legend_below(axes, 8)
            return tips

        marks = "Rings and dotted line: Pareto front. Whiskers: 95 % intervals."
        caption = f"{result.metric.title} against {heading}. {marks}"
        figures.append(drawing(f"pareto-{cost.replace('_', '-')}", caption, paint, 4.8, 3.4 + 0.17 * (recipes + 2)))
    tables = [of(comparison_table(result, refused=False), "All rows", sortable=True, closed=True)]
    priced = joules(result)
    if priced is not None:
        tables.append(of(priced, priced.title, sortable=True, closed=True))
    refused = [(row.recipe, row.timesteps, row.reason) for row in result.refused]
    if refused:
        tables.append(Table(("recipe", "T", "reason"), rows(refused), "Refused", wrap=(2,), closed=True))
    lead = (f"{comparison.title(result)}.", *(comparison.text(result).splitlines()[:1] if result.measured else ()))
    return Section("compare", "Comparison with other recipes", lead, figures=tuple(figures), tables=tuple(tables))
