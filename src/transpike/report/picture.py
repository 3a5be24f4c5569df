"""An evaluation as a picture: accuracy over time steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from transpike.report._style import PAPER, Palette, figure, legend_below, reference, theme, write_picture
from transpike.workflow.evaluate.report import Report

MARKED = 16  # answers, above which a line has no markers
POINTED = 64  # answers with a tooltip, at most
One = TypeVar("One")


def draw(reports: dict[str, Report], path: str | Path) -> Path:
    """Draw accuracy over total steps, with 95 % bands and the ANN's accuracy; PNG, SVG or PDF by extension."""
    with theme(PAPER):
        drawn = figure(7.2, 4.4)
        axes = drawn.subplots()
        accuracy(axes, reports, PAPER)
        legend_below(axes)
        samples = next(iter(reports.values())).samples
        axes.set_title(f"{samples} samples, bands: 95 % intervals", loc="left")
        write_picture(drawn, path)
    return Path(path)


def some(found: Sequence[One], most: int) -> list[One]:
    """At most about ``most`` of them, evenly, with the first and the last one."""
    step = -(-len(found) // most)
    kept = list(found[::step])
    return kept if (len(found) - 1) % step == 0 else [*kept, found[-1]]


def accuracy(axes: Any, reports: dict[str, Report], palette: Palette) -> dict[str, str]:
    """Draw the curves; returns tooltips by the gid of their marker."""
    tips = {}
    for number, (label, report) in enumerate(reports.items()):
        steps = [answer.total_steps for answer in report.curve]
        colour = palette.series[number % len(palette.series)]
        marker = "" if len(steps) > MARKED else "o"
        axes.plot(
            steps, [100 * a.accuracy for a in report.curve], marker=marker, markersize=4, color=colour, label=label
        )
        low, high = [100 * a.low for a in report.curve], [100 * a.high for a in report.curve]
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        for answer in some(report.curve, POINTED) if palette is not PAPER else ():
            gid = f"tip{number}-{answer.timesteps}"
            axes.plot([answer.total_steps], [100 * answer.accuracy], "o", color=colour, alpha=0, markersize=9, gid=gid)
            tips[gid] = (
                f"{label}, T={answer.timesteps}: {answer.accuracy:.2%} ({answer.low:.2%} to {answer.high:.2%}) after "
                f"{answer.total_steps} steps"
            )
    first = next(iter(reports.values()))
    reference(axes, 100 * first.ann_accuracy, f"ANN {first.ann_accuracy:.2%}", palette)
    over_steps(axes)
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(top=min(104, 100 * first.ann_accuracy + 6))
    return tips


def work(axes: Any, reports: dict[str, Report], palette: Palette) -> None:
    """Draw the synaptic operations until each answer, and the MACs of the ANN."""
    for number, (label, report) in enumerate(reports.items()):
        steps = [answer.total_steps for answer in report.curve]
        operations = [answer.synaptic_operations / 1e6 for answer in report.curve]
        marker = "" if len(steps) > MARKED else "o"
        colour = palette.series[number % len(palette.series)]
        axes.plot(steps, operations, marker=marker, markersize=4, color=colour, label=label)
    macs = next(iter(reports.values())).ann_macs / 1e6
    reference(axes, macs, f"ANN, {macs:.3g} M MACs", palette, "left")
    over_steps(axes)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("million synaptic operations")


def over_steps(axes: Any) -> None:
    """A logarithmic axis of total time steps."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("total time steps")
    axes.grid(alpha=0.5)
