"""A comparison as a terminal table and as a picture."""

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transpike.report._console import escaping
from transpike.report._contents import tables
from transpike.report._lines import draw as draw_table
from transpike.report._numbers import short
from transpike.report._style import PAPER, Palette, figure, library, log_ticks, theme, write_picture
from transpike.results.statistics import percent
from transpike.workflow.compare.run import Comparison, Cost, Row

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


def steps(row: Row) -> str:
    """Total steps, or their mean for an early exit."""
    return f"{row.total_steps:g}" if row.exit is None else f"{row.total_steps:.1f}"


def text(comparison: Comparison) -> str:
    """Cheapest rows close to the ANN, silent, refused and inexact rows, and remarks, in sentences."""
    lines = []
    near = [row for row in comparison.measured if row.fires and percent(row.drop) <= percent(NEAR)]
    if near:
        soon = min(near, key=lambda row: row.total_steps)
        operations = min(near, key=lambda row: row.synaptic_operations)
        lines.append(
            f"Within {100 * NEAR:g} point of the ANN: fewest total steps {soon.recipe} at T={soon.timesteps} "
            f"({steps(soon)} steps); fewest synaptic operations {operations.recipe} at T={operations.timesteps} "
            f"({short(operations.synaptic_operations / 1e6)} M per sample)."
        )
    elif comparison.measured:
        lines.append(f"No recipe is within {100 * NEAR:g} point of the ANN.")
    silent = (row for row in comparison.measured if not row.fires)
    lines += _grouped((row.recipe, "sends no spikes, and is never picked", row.timesteps) for row in silent)
    lines += _grouped((row.recipe, f"has no result: {row.reason}", row.timesteps) for row in comparison.refused)
    inexact = (row for row in comparison.measured if not row.exact)
    lines += _grouped((row.recipe, f"is not exact: {row.exact_why}", row.timesteps) for row in inexact)
    return "\n".join(lines + [f"Note: {remark}." for remark in comparison.remarks])


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
    """Accuracy against total steps and against synaptic operations, as PNG, SVG or PDF by the file extension.

    Rings and the dotted line mark each panel's Pareto front; whiskers and the ANN's band are 95 % intervals. The
    accuracy axis is logistic, ``log(p / (1 − p))``, which spreads values close to the ANN.
    """
    labels = [textwrap.fill(recipe, LABEL) for recipe in dict.fromkeys(row.recipe for row in comparison.measured)]
    lines = math.ceil((sum(label.count("\n") + 1 for label in labels) + 2) / 2)  # two columns of legend
    with theme(PAPER):
        drawn = figure(11, 4.6 + 0.21 * lines)
        panels = drawn.subplots(1, 2, sharey=True)
        for axes, cost in zip(panels, COSTS, strict=True):
            panel(axes, comparison, cost, PAPER)
        panels[0].set_ylabel("accuracy in %")
        if labels:
            drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)
        drawn.suptitle(f"{comparison.samples} samples, 95 % intervals", fontsize=10, x=0.01, ha="left")
        write_picture(drawn, path)
    return Path(path)


def panel(axes: Any, comparison: Comparison, cost: Cost, palette: Palette) -> dict[str, str]:
    """Draw accuracy against one cost; returns tooltips by the gid of their marker."""
    tips = {}
    recipes = list(dict.fromkeys(row.recipe for row in comparison.measured))
    for number, recipe in enumerate(recipes):
        rows = sorted((r for r in comparison.measured if r.recipe == recipe), key=lambda r: getattr(r, cost))
        width = 1 - number / len(recipes)  # later ones are thinner, so that equal curves are visible
        style: dict[str, Any] = {"color": _hue(number, palette), "marker": MARKERS[number % len(MARKERS)]}
        style |= {"linewidth": 1 + 1.5 * width, "markersize": 4 + 3.5 * width}
        style |= {"label": textwrap.fill(recipe, LABEL), "linestyle": "-" if number < len(palette.series) else "--"}
        _series(axes, rows, cost, style)
        for place, row in enumerate(rows if palette is not PAPER else ()):
            gid = f"tip{number}-{place}"
            axes.plot([getattr(row, cost)], [row.accuracy], "o", alpha=0, markersize=9, gid=gid)
            tips[gid] = (
                f"{recipe}, T={row.timesteps}: {row.accuracy:.2%}, {steps(row)} steps, "
                f"{short(row.synaptic_operations / 1e6)} M synaptic operations"
            )
    _front(axes, comparison.front(cost), cost, palette)
    _ann(axes, comparison.ann, palette)
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


def _hue(number: int, palette: Palette) -> Any:
    """In files the ten dark colours of tab20, then the ten light ones; on a page the same ten again, dashed."""
    if palette is not PAPER:
        return palette.series[number % len(palette.series)]
    return library().colormaps["tab20"](2 * (number % 10) + (number // 10) % 2)


def _series(axes: Any, rows: Sequence[Row], cost: Cost, style: dict[str, Any]) -> None:
    x, y = [getattr(row, cost) for row in rows], [row.accuracy for row in rows]
    low, high = [row.accuracy - row.low for row in rows], [row.high - row.accuracy for row in rows]
    axes.errorbar(x, y, (low, high), fmt="none", ecolor=style["color"], elinewidth=1, alpha=0.4)
    axes.plot(x, y, **style)


def _front(axes: Any, rows: Sequence[Row], cost: Cost, palette: Palette) -> None:
    """A staircase: the best accuracy at each cost."""
    x, y = [getattr(row, cost) for row in rows], [row.accuracy for row in rows]
    axes.step(x, y, where="post", color=palette.ink, linewidth=1.2, linestyle=":", zorder=1)
    ring = {"markerfacecolor": "none", "markeredgecolor": palette.ink, "linestyle": "none"}
    axes.plot(x, y, "o", markersize=11, label="Pareto front", zorder=3, **ring)


def _ann(axes: Any, ann: dict[str, Any] | None, palette: Palette) -> None:
    if ann is not None:
        label = f"ANN {ann['accuracy']:.1%}"
        axes.axhspan(ann["low"], ann["high"], color=palette.faint, alpha=0.3, linewidth=0)
        axes.axhline(ann["accuracy"], color=palette.ink, linestyle="--", linewidth=1, label=label)


def _logistic(axes: Any, comparison: Comparison) -> None:
    """Ticks in the range of accuracies, no closer to 0 and 1 than half a sample."""
    edge = 0.5 / comparison.samples
    bounds = [bound for row in comparison.measured for bound in (row.low, row.high, row.ann_accuracy)] or [0.1, 0.9]
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
    return (
        f"{comparison.samples} samples; ANN {100 * ann['accuracy']:.2f} % ({100 * ann['low']:.2f} to "
        f"{100 * ann['high']:.2f}), {short(ann['macs'] / 1e6)} M MACs"
    )
