"""A comparison as a terminal table and as a picture."""

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transpike.core.task import ACCURACY
from transpike.report._comparison_tables import ann_text
from transpike.report._console import escaping
from transpike.report._contents import tables
from transpike.report._lines import draw as draw_table
from transpike.report._numbers import digits, short
from transpike.report._style import PAPER, Palette, figure, library, log_ticks, theme, write_picture
from transpike.results.statistics import percent
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.compare.rows import Cost, Row, Scored

COSTS: dict[Cost, str] = {"total_steps": "steps", "synaptic_operations": "ops"}
TITLES: dict[Cost, str] = {
    "total_steps": "total time steps",
    "synaptic_operations": "million synaptic operations per sample",
}
NEAR = 0.01
WIDTH = 120
LABEL = 60
TICKS = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.85,
    0.9,
    0.93,
    0.95,
    0.97,
    0.98,
    0.99,
    0.995,
    0.999,
)
MARKERS = "osD^vP*Xp<>hd8"


def show(comparison: Comparison, console: Console, width: int | None = None) -> None:
    """Print a line for each row under its recipe, rows of a Pareto front in bold, and then sentences."""
    console.print(title(comparison), highlight=False, markup=False, soft_wrap=True)
    for table in tables(comparison):
        draw_table(table, console, width)
    console.print(text(comparison), soft_wrap=True, highlight=False, markup=False)


def steps(row: Scored) -> str:
    """Total steps, or their mean for an early exit."""
    return f"{row.total_steps:g}" if row.exit is None else f"{row.total_steps:.1f}"


def text(comparison: Comparison) -> str:
    """Cheapest rows close to the ANN, silent, refused and inexact rows, and remarks, in sentences."""
    lines = []
    metric, room = comparison.metric, _room(comparison)
    of = "" if metric == ACCURACY else f" in {metric.name}"
    near = [row for row in comparison.measured if row.fires and _is_near(row, room)]
    within = _room_text(comparison, room)
    if near:
        soon = min(near, key=lambda row: row.total_steps)
        operations = min(near, key=lambda row: row.synaptic_operations)
        lines.append(
            f"Within {within} of the ANN{of}: fewest total steps {soon.recipe} at T={soon.timesteps} "
            f"({steps(soon)} steps); fewest synaptic operations {operations.recipe} at T={operations.timesteps} "
            f"({short(operations.synaptic_operations / 1e6)} M per sample)."
        )
    elif comparison.measured:
        lines.append(f"No recipe is within {within} of the ANN{of}.")
    silent = (row for row in comparison.measured if not row.fires)
    lines += _grouped((row.recipe, "sends no spikes, and is never picked", row.timesteps) for row in silent)
    lines += _grouped((row.recipe, f"has no result: {row.reason}", row.timesteps) for row in comparison.refused)
    inexact = (row for row in comparison.measured if not row.exact)
    lines += _grouped((row.recipe, f"is not exact: {row.exact_why}", row.timesteps) for row in inexact)
    return "\n".join(lines + [f"Note: {remark}." for remark in comparison.remarks])


def _room(comparison: Comparison) -> float:
    """How much worse than the ANN a row is still close to it: a point of a share, or twice the task's room."""
    ann = comparison.measured[0].ann_value if comparison.measured else None
    return NEAR if comparison.metric.share else 2 * comparison.task.room(ann or 0.0)


def _is_near(row: Scored, room: float) -> bool:
    worse = row.loss[0]
    return worse is not None and percent(worse) <= percent(room)


def _room_text(comparison: Comparison, room: float) -> str:
    metric = comparison.metric
    return f"{100 * room:g} point" if metric.share else f"{digits(room)} {metric.unit}".rstrip()


def _grouped(found: Iterable[tuple[str, str, int]]) -> list[str]:
    """(recipe, statement, T) as lines, with all T of the same statement in one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for recipe, what, timesteps in found:
        groups.setdefault((recipe, what), []).append(str(timesteps))
    return [f"{recipe} at T={', '.join(ts)} {what}" for (recipe, what), ts in groups.items()]


def plain(comparison: Comparison) -> str:
    """Table and sentences without colours, 120 columns wide."""
    console = Console(file=io.StringIO(), color_system=None)
    with escaping(console):
        show(comparison, console, WIDTH)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def draw(comparison: Comparison, path: str | Path) -> Path:
    """The first metric against total steps and against synaptic operations, as PNG, SVG or PDF by the file extension.

    Rings and the dotted line mark each panel's Pareto front; whiskers and the ANN's band are 95 % intervals. The
    axis of an accuracy is logistic, ``log(p / (1 − p))``, which spreads values close to the ANN.
    """
    labels = [textwrap.fill(recipe, LABEL) for recipe in dict.fromkeys(row.recipe for row in comparison.measured)]
    lines = math.ceil((sum(label.count("\n") + 1 for label in labels) + 2) / 2)  # two columns of legend
    with theme(PAPER):
        drawn = figure(11, 4.6 + 0.21 * lines)
        panels = drawn.subplots(1, 2, sharey=True)
        for axes, cost in zip(panels, COSTS, strict=True):
            panel(axes, comparison, cost, PAPER)
        panels[0].set_ylabel(comparison.metric.axis_label)
        if labels:
            drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)
        drawn.suptitle(f"{comparison.samples} samples, 95 % intervals", fontsize=10, x=0.01, ha="left")
        write_picture(drawn, path)
    return Path(path)


def panel(axes: Any, comparison: Comparison, cost: Cost, palette: Palette) -> dict[str, str]:
    """Draw the first metric against one cost; returns tooltips by the gid of their marker."""
    tips = {}
    found = [row for row in comparison.measured if row.value is not None]
    recipes = list(dict.fromkeys(row.recipe for row in found))
    for number, recipe in enumerate(recipes):
        rows = sorted((r for r in found if r.recipe == recipe), key=lambda r: getattr(r, cost))
        width = 1 - number / len(recipes)  # later ones are thinner, so that equal curves are visible
        style: dict[str, Any] = {"color": _hue(number, palette), "marker": MARKERS[number % len(MARKERS)]}
        style |= {"linewidth": 1 + 1.5 * width, "markersize": 4 + 3.5 * width}
        style |= {"label": textwrap.fill(recipe, LABEL), "linestyle": "-" if number < len(palette.series) else "--"}
        _series(axes, rows, cost, style)
        for place, row in enumerate(rows if palette is not PAPER else ()):
            gid = f"tip{number}-{place}"
            axes.plot([getattr(row, cost)], [_height(row)], "o", alpha=0, markersize=9, gid=gid)
            tips[gid] = (
                f"{recipe}, T={row.timesteps}: {_score(row)}, {steps(row)} steps, "
                f"{short(row.synaptic_operations / 1e6)} M synaptic operations"
            )
    _front(axes, [row for row in comparison.front(cost) if row.value is not None], cost, palette)
    _ann(axes, comparison, palette)
    if comparison.metric == ACCURACY:
        _logistic(axes, comparison)
    axes.set_xscale("log", base=2 if cost == "total_steps" else 10)
    if cost == "total_steps":
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        log_ticks(axes)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
    axes.set_xlabel(TITLES[cost])
    axes.grid(alpha=0.5)
    return tips


def _height(row: Scored, value: float | None = None) -> float:
    """The place of a row, or of another value of its metric, on the axis; accuracies are drawn as shares."""
    found = row.value if value is None else value
    assert found is not None  # rows without a value are not drawn
    return found if row.metric == ACCURACY else row.metric.shown(found)


def _score(row: Scored) -> str:
    return row.metric.text(row.value) if row.metric == ACCURACY else f"{row.metric.name} {row.metric.text(row.value)}"


def _hue(number: int, palette: Palette) -> Any:
    """In files the ten dark colours of tab20, then the ten light ones; on a page the same ten again, dashed."""
    if palette is not PAPER:
        return palette.series[number % len(palette.series)]
    return library().colormaps["tab20"](2 * (number % 10) + (number // 10) % 2)


def _series(axes: Any, rows: Sequence[Scored], cost: Cost, style: dict[str, Any]) -> None:
    x, y = [getattr(row, cost) for row in rows], [_height(row) for row in rows]
    ends = [tuple(_height(row, bound) for bound in row.bounds) for row in rows]  # the value itself without an interval
    low, high = (
        [a - low for a, (low, _) in zip(y, ends, strict=True)],
        [h - a for a, (_, h) in zip(y, ends, strict=True)],
    )
    axes.errorbar(x, y, (low, high), fmt="none", ecolor=style["color"], elinewidth=1, alpha=0.4)
    axes.plot(x, y, **style)


def _front(axes: Any, rows: Sequence[Scored], cost: Cost, palette: Palette) -> None:
    """A staircase: the best value at each cost."""
    x, y = [getattr(row, cost) for row in rows], [_height(row) for row in rows]
    axes.step(x, y, where="post", color=palette.ink, linewidth=1.2, linestyle=":", zorder=1)
    ring = {"markerfacecolor": "none", "markeredgecolor": palette.ink, "linestyle": "none"}
    axes.plot(x, y, "o", markersize=11, label="Pareto front", zorder=3, **ring)


def _ann(axes: Any, comparison: Comparison, palette: Palette) -> None:
    ann, metric = comparison.ann, comparison.metric
    found = None if ann is None else ann if "accuracy" in ann else ann["metrics"].get(metric.name)
    value = None if found is None else found.get("accuracy", found.get("value"))
    if found is None or value is None:
        return
    scale = 1 if metric == ACCURACY or not metric.share else 100
    text = f"ANN {value:.1%}" if metric == ACCURACY else f"ANN {metric.text(value)}"
    if found["low"] is not None:
        axes.axhspan(scale * found["low"], scale * found["high"], color=palette.faint, alpha=0.3, linewidth=0)
    axes.axhline(scale * value, color=palette.ink, linestyle="--", linewidth=1, label=text)


def _logistic(axes: Any, comparison: Comparison) -> None:
    """Ticks in the range of accuracies, no closer to 0 and 1 than half a sample."""
    edge = 0.5 / comparison.samples
    rows = [row for row in comparison.measured if isinstance(row, Row)]
    bounds = [bound for row in rows for bound in (row.low, row.high, row.ann_accuracy)] or [0.1, 0.9]
    low, high = max(min(bounds), edge), min(max(bounds), 1 - edge)
    axes.set_yscale("logit", nonpositive="clip")
    axes.set_ylim(low / 1.2, 1 - (1 - high) / 1.3)
    axes.set_yticks([tick for tick in TICKS if low / 1.2 <= tick <= high])
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    axes.minorticks_off()


def title(comparison: Comparison) -> str:
    """Samples and ANN, in one line."""
    ann = comparison.ann
    if ann is None:
        return f"Nothing was measured on {comparison.samples} samples"
    if "accuracy" not in ann:
        known = ann_text(comparison) or f"{comparison.task} next to the ANN"
        return f"{comparison.samples} samples; {known}, {short(ann['macs'] / 1e6)} M MACs"
    return (
        f"{comparison.samples} samples; ANN {100 * ann['accuracy']:.2f} % ({100 * ann['low']:.2f} to "
        f"{100 * ann['high']:.2f}), {short(ann['macs'] / 1e6)} M MACs"
    )
