"""A decision as one picture: accuracy over time steps, and the energy by every model."""

import textwrap
from pathlib import Path
from typing import Any

from transpike.core.task import ACCURACY
from transpike.errors import SettingError
from transpike.report import decision, energy_card, measurement, picture
from transpike.report._style import DARK, PAPER, Palette, figure, theme, write_picture
from transpike.workflow.cost.result import Cost
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report

LETTERS = 112  # of a line of the title


def overview(result: Cost, path: str | Path, *, dark: bool = False) -> Path:
    """Draw the metric over time steps next to the energy of the SNN over that of the quantised ANN by every model.

    The title says how many time steps suffice, and how many models favour the SNN. PNG, SVG or PDF by extension;
    ``dark``: for a dark page. Raises SettingError for a cost without an evaluation, MissingExtra without matplotlib.
    """
    report = result.report
    if report is None:
        raise SettingError("the overview needs a cost with an evaluation: give data with targets, or a task")
    palette = DARK if dark else PAPER
    title = [textwrap.fill(one, LETTERS) for one in decision.sentences(report, result)]
    with theme(palette):
        drawn = figure(9.6, 3.4 + 0.19 * "\n".join(title).count("\n"))
        left, right = drawn.subplots(1, 2, width_ratios=(1.15, 1))
        _metric(left, report, palette)
        _ratios(right, result, palette)
        drawn.suptitle("\n".join(title), x=0.012, ha="left", fontsize=11)
        write_picture(drawn, path)
    return Path(path)


def _metric(axes: Any, report: Report | Measurement, palette: Palette) -> None:
    """The first metric over time, with a ring at the answer that suffices."""
    if isinstance(report, Measurement):
        measurement.paint(axes, report, palette)
        metric = report.metrics[0]
    else:
        picture.accuracy(axes, {"SNN": report}, palette)
        metric = ACCURACY
    near = decision.sufficient(report)
    if near is not None and near.score[0] is not None:
        height = metric.shown(near.score[0])
        ring = {"markerfacecolor": "none", "markeredgecolor": palette.series[1], "markeredgewidth": 2}
        axes.plot([near.total_steps], [height], "o", markersize=12, linestyle="none", **ring)
        axes.annotate(
            f"T={near.timesteps}", (near.total_steps, height), xytext=(8, -16), textcoords="offset points",
            color=palette.series[1], fontweight="bold",
        )  # fmt: skip
    axes.set_title(f"{metric.title}, {report.samples:,} samples; band: 95 % interval", loc="left")


def _ratios(axes: Any, result: Cost, palette: Palette) -> None:
    """Energy ratios of the models that judge, with the side on which the SNN is cheaper."""
    energy_card.ratios(axes, result, palette, judging=True)
    axes.set_title("Energy by every model", loc="left")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.4), max(high, 2.5))
    axes.set_ylim(top=len(result.judged) - 0.2)  # room for the words
    axes.grid(axis="x", which="both", alpha=0.25)
    for text, place, side in (("SNN cheaper", -5, "right"), ("ANN cheaper", 5, "left")):
        axes.annotate(
            text, (1, 1), xycoords=("data", "axes fraction"), xytext=(place, -3), textcoords="offset points", ha=side,
            va="top", fontsize=9,
        )  # fmt: skip
