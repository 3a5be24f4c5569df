"""An evaluation as a picture: accuracy over time steps."""

from pathlib import Path
from typing import Any

from transpike.report._style import PAPER, Palette, figure, theme, write_picture
from transpike.workflow.evaluate.report import Report

MARKED = 16  # answers, above which a line has no markers


def draw(reports: dict[str, Report], path: str | Path) -> Path:
    """Draw accuracy over total steps, with 95 % bands and the ANN's accuracy; PNG, SVG or PDF by extension."""
    with theme(PAPER):
        drawn = figure(7.2, 4.4)
        axes = drawn.subplots()
        accuracy(axes, reports, PAPER)
        samples = next(iter(reports.values())).samples
        axes.set_title(f"{samples} samples, bands: 95 % intervals", loc="left")
        write_picture(drawn, path)
    return Path(path)


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
        for answer in report.curve if palette is not PAPER else ():
            gid = f"tip{number}-{answer.timesteps}"
            axes.plot([answer.total_steps], [100 * answer.accuracy], "o", color=colour, alpha=0, markersize=9, gid=gid)
            tips[gid] = (
                f"{label}, T={answer.timesteps}: {answer.accuracy:.2%} ({answer.low:.2%} to {answer.high:.2%}) after "
                f"{answer.total_steps} steps"
            )
    first = next(iter(reports.values()))
    axes.axhline(100 * first.ann_accuracy, color=palette.ink, linestyle="--", linewidth=1)
    axes.annotate(
        f"ANN {first.ann_accuracy:.1%}",
        (1, 100 * first.ann_accuracy),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
    )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("total time steps")
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(top=min(104, 100 * first.ann_accuracy + 6))
    axes.grid(alpha=0.5)
    axes.legend(loc="lower right")
    return tips
