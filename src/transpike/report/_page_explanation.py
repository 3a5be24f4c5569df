"""An explanation on a page: recovered accuracy, tried changes, and the error of every layer."""

from typing import Any

from transpike.core.task import Metric
from transpike.report import explanation
from transpike.report._numbers import gain
from transpike.report._section import Cell, Section, Table, drawing, rows
from transpike.report._style import PAGE, legend_below
from transpike.workflow.explain.run import Explanation


def lead(result: Explanation, alone: bool) -> list[str]:
    """The sentences without remarks. Next to an evaluation, whose accuracies are of all samples, only the number of
    samples of the analysis is given, and not their accuracies.
    """
    lines = [line for line in explanation.text(result).splitlines() if not line.startswith("Note")]
    return lines if alone else lines[1:]


def section(result: Explanation, alone: bool = True) -> Section:
    height = 0.2 * len(result.layers) + 1.3
    figures = []
    if result.layers:
        caption = "Error of each layer relative to the ANN, in parts (means of absolute values)."
        figures.append(drawing("parts", caption, lambda axes: explanation.parts(axes, result, PAGE), 4.8, height))
    if any(one.regained is not None or one.renewed is not None for one in result.layers):
        caption = (
            f"{result.metric.title} recovered when a single layer is replaced by its original (the cost of spiking) or "
            "reconverted (an error of the conversion); lines: 95 % intervals."
        )
        figures.append(drawing("points", caption, lambda axes: explanation.points(axes, result, PAGE), 4.8, height))
    small = []
    for number, name in enumerate(explanation.scattered(result)):

        def paint(axes: Any, name: str = name) -> None:
            explanation.scatter(axes, result, name, PAGE)

        small.append(drawing(f"scatter{number}", f"{name}: rate against activation.", paint, 2.9, 2.6))
    for number, name in enumerate(explanation.curved(result)):

        def curve(axes: Any, name: str = name) -> None:
            explanation.fits(axes, result, name, PAGE)
            legend_below(axes)

        small.append(
            drawing(f"fit{number}", f"{name}: error of rates after t steps, estimate by RNL.", curve, 2.9, 2.6)
        )
    metric = result.metric
    changes = [
        (one.what, Cell(gain(one.gain, metric), one.gain), f"{gain(one.low, metric)} … {gain(one.high, metric)}")
        for one in result.changes
    ]
    tried = Table(
        ("change", f"gain{_in(metric)}", "95 % interval, paired"),
        rows(changes, lambda n: (result.changes[n].low or 0) > 0),
        "Changes that were tried",
        closed=True,
        note="Chosen and measured on the same samples, which overestimates small gains.",
    )  # fmt: skip
    found = lead(result, alone)
    if not alone:
        found.insert(0, f"{_gains(metric)} in this section are measured on the first {result.samples} samples.")
    wanted = 3 if result.changes else len(found)
    return Section(
        "explain", f"Causes of the {metric.name} change", tuple(found[:wanted]), figures=tuple(figures),
        small=tuple(small),
        tables=((tried,) if changes else ()) + (_layers(result),), notes=tuple(f"Note: {r}." for r in result.remarks),
    )  # fmt: skip


def _in(metric: Metric) -> str:
    return f" in\n{metric.change_unit}" if metric.change_unit else ""


def _gains(metric: Metric) -> str:
    return f"Points of {metric.name}" if metric.share else f"Gains of {metric.name}"


def _layers(result: Explanation) -> Table:
    unit = f",\n{result.metric.change_unit}" if result.metric.change_unit else ""
    columns = (
        ("regained", f"original{unit}"), ("renewed", f"reconverted{unit}"), ("carried_size", "carried"),
        ("clipping_size", "clipping"), ("flooring_size", "flooring"), ("unevenness_size", "unevenness"),
        ("correlation", "correlation"), ("cosine", "cosine"), ("dead", "dead"), ("saturated", "saturated"),
        ("inactivated", "spikes where\nthe ANN is 0"), ("residual", "final\npotential, θ"),
    )  # fmt: skip
    shares = {"carried_size", "clipping_size", "flooring_size", "unevenness_size", "dead", "saturated", "inactivated"}
    found = []
    for one in result.first_to_change:
        cells = [Cell(one.name)]
        for name, _ in columns:
            value = getattr(one, name)
            shown = "-" if value is None else f"{value:.1%}" if name in shares else gain(value, result.metric)
            cells.append(Cell(f"{value:.3f}" if name in ("correlation", "cosine", "residual") else shown, value))
        found.append(cells)
    faults = len(result.faults)
    return Table(
        ("layer", *(heading for _, heading in columns)), rows(found, lambda n: n < faults), "All layers",
        closed=True, sortable=True,
    )  # fmt: skip
