"""The energy of a network, for a terminal and as a picture: quantised baseline, models, Pareto front."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from transpike.report import _hybrid
from transpike.report._contents import models, operations
from transpike.report._lines import draw as draw_table
from transpike.report._numbers import short
from transpike.report._style import PAPER, Palette, figure, legend_below, log_ticks, short_name, theme, write_picture
from transpike.workflow.cost.result import THRESHOLDS, Cost, ModelCost, Point
from transpike.workflow.evaluate.measurement import Measurement

DRAWN = 4  # models in the picture


def show(result: Cost, console: Console) -> None:
    """Print the tables of models and of operations, and the sentences."""
    draw_table(models(result), console)
    draw_table(operations(result), console)
    console.print(text(result), soft_wrap=True, highlight=False, markup=False)


def cells(one: ModelCost) -> tuple[str, ...]:
    """Name, SNN, ANN and dense ANN in µJ, ratio, break-even spike rate, and range of the ratio over the constants."""
    joules = (_micro(joule) for joule in (one.snn_joule, one.ann_joule, one.dense_joule))
    name = one.model if one.judges else f"{one.model} *"
    return (name, *joules, _number(one.ratio, 3), _rate(one.break_even_rate), _span(one))


def text(result: Cost) -> str:
    """The result in sentences, plain text."""
    lines = [
        _networks(result),
        f"{result.verdict}.",
        f"The {result.snn_name} sends {result.spikes_per_synapse:.3g} spikes per synapse and inference (spike rate "
        f"{result.spike_rate:.1%}); published break-even points: "
        + "; ".join(f"{text} ({source})" for text, source in THRESHOLDS)
        + ".",
        *([f"{result.burst_advice}."] if result.burst_advice else []),
        *(f"{line}." for line in advice(result)),
        *_hybrid.lines(result.hybrid),
    ]
    missing: dict[str, list[str]] = {}
    for one in result.models:
        if one.ann_joule is not None and one.break_even_missing:
            missing.setdefault(one.break_even_missing, []).append(one.model)
    lines += [f"No break-even spike rate for {', '.join(names)}: {why}." for why, names in missing.items()]
    left_out: dict[str, list[str]] = {}
    for one in result.judged:
        for term in one.excluded:
            left_out.setdefault(term, []).append(one.model)
    terms = [
        f"{term} ({'all' if len(names) == len(result.judged) else ', '.join(names)})"
        for term, names in left_out.items()
    ]
    aside = [one.model for one in result.models if not one.judges]
    if aside:
        lines.append(
            f"* {', '.join(aside)}: more bits are counted for the ANN than it has, so not in the verdict; for "
            "comparison with published numbers."
        )
    lines += ["Not counted: " + "; ".join(terms) + "."] if terms else []
    lines.append(
        "Models differ by orders of magnitude: compare ratios, not joules. Constants and sources are in --json."
    )
    lines += [f"Note: {note}." for note in result.notes]
    return "\n".join(lines)


def advice(result: Cost) -> list[str]:
    """A sentence for each model that judges; none where accuracies are missing."""
    return [] if result.report is None else [result.advice(one.model) for one in result.judged]


def _networks(result: Cost) -> str:
    """Both networks and how good they are, in one sentence."""
    weights = "real weights" if result.weight_bits is None else f"{result.weight_bits}-bit weights"
    ann = f"{result.ann_name} and {weights}"
    zeros = f"{result.density:.0%} of its products are nonzero"
    report, value = result.report, result.quantised_baseline_value
    if report is None or value is None:
        return f"{result.snn_name}; {ann}, {zeros}; {result.samples} samples, without accuracies."
    text = result.metric.text
    if isinstance(report, Measurement):
        source = report.ann[result.metric.name].value if report.ann else None
        known = "" if source is None else f"ANN {text(source)}; "
        early, end = report.recommended.score[0], report.final.score[0]
        why = f", the first within {report.room} of the {text(end)} at T={report.timesteps}"
        why = why if report.recommended != report.final else ""
        sure = (
            ""
            if result.quantised_baseline_low is None
            else (f" ({text(result.quantised_baseline_low)} to {text(result.quantised_baseline_high)})")
        )
        return (
            f"{report.task}, {result.metric.name}: {known}{ann} {text(value)}{sure}, {zeros}; {result.snn_name} "
            f"{text(early)}{why}; {result.samples} samples."
        )
    last, shown = report.final, report.recommended
    why = f", the first within half a point of the {last.accuracy:.2%} at T={last.timesteps}" if shown != last else ""
    bounds = f"{result.quantised_baseline_low:.2%} to {result.quantised_baseline_high:.2%}"
    return (
        f"ANN {report.ann_accuracy:.2%}; {ann} {value:.2%} ({bounds}), {zeros}; {result.snn_name} "
        f"{shown.accuracy:.2%}{why}; {result.samples} samples."
    )


def draw(result: Cost, path: str | Path) -> Path:
    """The metric against energy for the first models that price both networks, with the Pareto front.

    Without accuracies, the energy ratios of all models.
    """
    names = drawn_models(result)
    if not names:
        with theme(PAPER):
            drawn = figure(5.2, 0.34 * max(1, len(result.models)) + 1.2)
            ratios(drawn.subplots(), result, PAPER)
            write_picture(drawn, path)
        return Path(path)
    with theme(PAPER):
        drawn = figure(3.4 * len(names) + 0.6, 3.6)
        axes = drawn.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, names, strict=False):
            front(axis, result, name, PAPER)
            axis.set_title(short_name(name))
        axes[0].set_ylabel(result.metric.axis_label)
        legend_below(axes[0])
        write_picture(drawn, path)
    return Path(path)


def drawn_models(result: Cost) -> list[str]:
    """The first models that count for the verdict and price both networks."""
    return [one.model for one in result.judged if result.front(one.model)][:DRAWN]


def front(axis: Any, result: Cost, name: str, palette: Palette) -> dict[str, str]:
    """Draw the Pareto plot of one model; returns tooltips by the gid of their marker."""
    tips = {}
    for number, (kind, marker) in enumerate((("ANN", "s"), ("SNN", "o"))):
        label: str | None = kind
        for place, (joule, height, point) in enumerate(_drawn(result, result.points, name, kind)):
            gid = f"tip{kind}{place}"
            axis.plot(
                [joule], [height], marker, color=palette.series[number], markersize=4.5, alpha=0.8,
                linestyle="none", label=label, gid=gid,
            )  # fmt: skip
            label = None
            tips[gid] = f"{point}: {_height(result, point)}, {short(joule)} µJ"
    best = _drawn(result, result.front(name), name)
    axis.plot(
        [joule for joule, _, _ in best], [height for _, height, _ in best], color=palette.ink,
        alpha=0.6, linewidth=1, zorder=0, label="Pareto front",
    )  # fmt: skip
    axis.set_xscale("log")
    log_ticks(axis)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel("µJ per sample")
    axis.grid(alpha=0.5)
    return tips


def _drawn(result: Cost, points: Iterable[Point], name: str, kind: str = "") -> list[tuple[float, float, Point]]:
    """(µJ, value as it is shown, point) of the points that this model prices and whose metric was measured."""
    found, shown = ((p.energy_joule.get(name), p.value, p) for p in points if kind in ("", p.kind)), result.metric.shown
    return [(1e6 * joule, shown(value), p) for joule, value, p in found if joule is not None and value is not None]


def _height(result: Cost, point: Point) -> str:
    shown = result.metric.shown(point.value or 0.0)
    return f"{shown:.2f}%" if result.metric.share else result.metric.text(point.value)


def ratios(axis: Any, result: Cost, palette: Palette, judging: bool = False) -> dict[str, str]:
    """Draw SNN / ANN of each model as dots; bars: range when one constant is halved or doubled.

    ``judging``: only the models that count for the verdict.
    """
    models = result.judged if judging else result.models
    shown = [one for one in reversed(models) if one.ratio is not None]
    tips = {}
    for row, one in enumerate(shown):
        assert one.ratio is not None
        values = [value for pair in one.sensitivity.values() for value in pair] or [one.ratio]
        colour = palette.series[0 if one.judges else 7]
        axis.barh(row, max(values) - min(values), left=min(values), height=0.5, color=colour, alpha=0.3)
        axis.plot([one.ratio], [row], "o", color=colour, markersize=5, gid=f"tip{row}")
        tips[f"tip{row}"] = f"{one.model}: {one.ratio:.3g} × the quantised ANN ({min(values):.2g} to {max(values):.2g})"
    axis.axvline(1, color=palette.ink, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(shown)), [short_name(one.model) + ("" if one.judges else " *") for one in shown])
    axis.set_xscale("log")
    log_ticks(axis)
    axis.set_xlabel(f"energy of the {result.snn_name} / quantised ANN")
    axis.grid(axis="x", alpha=0.5)
    return tips


def _micro(joule: float | None) -> str:
    return "-" if joule is None else short(1e6 * joule)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    if value <= 0:
        return "none"
    return f"{value:.1%}" if value < 1 else "> 100%"


def _span(one: ModelCost) -> str:
    values = [value for pair in one.sensitivity.values() for value in pair]
    return f"{short(min(values))}…{short(max(values))}" if values else "-"
