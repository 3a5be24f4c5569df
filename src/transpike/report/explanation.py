"""Causes of an accuracy change, for a terminal and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console

from transpike.core.task import ACCURACY
from transpike.report._contents import errors
from transpike.report._lines import draw as draw_table
from transpike.report._numbers import change, digits, gain
from transpike.report._style import PAPER, Palette, figure, legend_below, short_name, theme, write_picture
from transpike.workflow.explain.run import SCATTERED, Explanation, LayerError

PARTS = ("carried", "clipping", "flooring", "unevenness")
LAYERS = 4  # with a plot of rates against activations


def show(result: Explanation, console: Console) -> None:
    """Print the table of layers and the sentences."""
    draw_table(errors(result), console)
    console.print(text(result), soft_wrap=True, highlight=False, markup=False)


def text(result: Explanation) -> str:
    """The result in sentences, plain text."""
    name, unit = result.metric.name, _unit(result)
    lines = [_both(result)]
    enough = "two points" if result.metric == ACCURACY else f"{digits(result.fault)}{unit}"
    if any(one.renewed is not None for one in result.layers):
        faults = result.faults
        lines.append(
            f"No single layer recovers {enough} or more when reconverted (95 %)."
            if not faults
            else f"Layers that recover {enough} or more: " + ", ".join(_fault(one, result) for one in faults[:5]) + "."
        )
    if any(one.regained is not None for one in result.layers):
        dear = [one for one in sorted(result.layers, key=lambda one: -(one.regained or 0.0)) if _sure(one)][:3]
        lines.append(
            f"Cost of spiking, by {name} that the original layer recovers: "
            + ", ".join(f"{one.name} ({gain(one.regained, result.metric)}{unit}, mostly {one.worst})" for one in dear)
            + "."
            if dear
            else f"No single original layer recovers {name} (95 %)."
        )
    fitted = [one for one in result.layers if one.fits]
    if fitted:
        worst = max(fitted, key=lambda one: one.fits[-1][1])
        steps, fit, estimate = worst.fits[-1]
        lines.append(
            f"Largest error of the rates in {worst.name}: K = {fit:.2g} after {steps} steps; expected from its "
            f"activations: 2 Ω/T = {estimate:.2g} (RNL)."
        )
    gains = [one for one in result.changes if (one.gain or 0.0) > 0]
    for one in gains:
        sure = "" if (one.low or 0.0) > 0 else ", not significant"
        shown, low, high = (gain(number, result.metric) for number in (one.gain, one.low, one.high))
        lines.append(f"{one.what}: {shown}{unit} ({low} to {high}{sure}).")
    if result.changes and not gains:
        lines.append(f"None of these changes recovers {name}: " + ", ".join(c.what for c in result.changes) + ".")
    lines += [f"Note: {remark}." for remark in result.remarks]
    return "\n".join(lines)


def draw(result: Explanation, path: str | Path) -> Path:
    """Parts of the error and recovered accuracy of each layer, and rates against activations."""
    shown, fitted = scattered(result), curved(result)
    with theme(PAPER):
        heights = [0.24 * len(result.layers) + 1.6, *([2.6] if shown else []), *([2.6] if fitted else [])]
        drawn = figure(8.5, sum(heights))
        grid = drawn.add_gridspec(len(heights), 1, height_ratios=heights)
        left, right = grid[0].subgridspec(1, 2).subplots(sharey=True)
        parts(left, result, PAPER)
        points(right, result, PAPER)
        if shown:
            for axis, name in zip(grid[1].subgridspec(1, len(shown)).subplots(squeeze=False)[0], shown, strict=True):
                scatter(axis, result, name, PAPER)
        if fitted:
            axes = grid[len(heights) - 1].subgridspec(1, len(fitted)).subplots(squeeze=False, sharey=True)[0]
            for axis, name in zip(axes, fitted, strict=True):
                fits(axis, result, name, PAPER)
            legend_below(axes[0])
        write_picture(drawn, path)
    return Path(path)


def scattered(result: Explanation) -> list[str]:
    """The layers whose rates are drawn: the first ones to change."""
    return [one.name for one in result.first_to_change if one.name in result.scatter][:LAYERS]


def parts(axis: Any, result: Explanation, palette: Palette) -> dict[str, str]:
    """A stacked bar for each layer."""
    tips, base = {}, [0.0] * len(result.layers)
    for number, part in enumerate(PARTS):
        sizes = [100 * getattr(one, f"{part}_size") for one in result.layers]
        colour = palette.series[(7, 3, 0, 1)[number]]
        for row, (size, start) in enumerate(zip(sizes, base, strict=True)):
            gid = f"tip{number}-{row}"
            bar = axis.barh(row, size, left=start, color=colour, height=0.7, label=None if row else part)
            bar[0].set_gid(gid)
            tips[gid] = f"{result.layers[row].name}: {part} {size:.1f} %"
        base = [a + b for a, b in zip(base, sizes, strict=True)]
    _rows(axis, result)
    axis.set_xlabel("error, % of the mean activation")
    if result.layers:
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return tips


def points(axis: Any, result: Explanation, palette: Palette) -> dict[str, str]:
    """What each layer recovers of the metric, replaced by its original or reconverted, with 95 % intervals."""
    tips = {}
    kinds = (("regained", "original layer", 0, -0.15), ("renewed", "reconverted", 3, 0.15))
    for kind, label, number, shift in kinds:
        rows = [(row, one) for row, one in enumerate(result.layers) if getattr(one, kind) is not None]
        for place, (row, one) in enumerate(rows):
            value, low, high = (getattr(one, f"{kind}{end}") for end in ("", "_low", "_high"))
            colour, gid = palette.series[number], f"tip{kind}{row}"
            ends = [value if bound is None else bound for bound in (low, high)]
            axis.plot(ends, [row + shift] * 2, color=colour, linewidth=1, alpha=0.5)
            axis.plot(
                [value], [row + shift], "o", color=colour, markersize=4, gid=gid, label=None if place else label
            )  # fmt: skip
            shown, least, most = (gain(number, result.metric) for number in (value, low, high))
            tips[gid] = f"{one.name}, {label}: {shown}{_unit(result)} ({least} to {most})"
    axis.axvline(0, color=palette.ink, linewidth=0.8)
    _rows(axis, result)
    of = "percentage points" if result.metric.share else result.metric.unit
    axis.set_xlabel(f"recovered {result.metric.name}" + (f" in {of}" if of else ""))
    if axis.get_legend_handles_labels()[1]:
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return tips


def scatter(axis: Any, result: Explanation, name: str, palette: Palette) -> None:
    """A layer's output against the source's activation."""
    activation, rate = (values[:: max(1, len(values) // SCATTERED)] for values in result.scatter[name])
    axis.plot(activation, rate, ".", markersize=2.5, alpha=0.5, color=palette.series[0])
    top = float(max(activation.max(), rate.max()))
    axis.plot([0, top], [0, top], color=palette.ink, linewidth=0.8)
    axis.set_title(short_name(name))
    axis.set_xlabel("activation")
    axis.set_ylabel("layer output")


def curved(result: Explanation) -> list[str]:
    """The layers whose fits are drawn: those with the largest error, if simulated step by step."""
    found = [one for one in result.layers if len(one.fits) > 1]
    return [one.name for one in sorted(found, key=lambda one: -one.fits[-1][1])[:LAYERS]]


def fits(axis: Any, result: Explanation, name: str, palette: Palette) -> None:
    """Error of a layer's rates over time, and the estimate by RNL."""
    one = next(one for one in result.layers if one.name == name)
    times, found, estimates = zip(*one.fits, strict=True)
    axis.plot(times, found, "o-", color=palette.series[0], markersize=3.5, label="K(t)")
    axis.plot(times, estimates, "--", color=palette.series[3], label="2 Ω / t")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(times, [str(t) for t in times])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_title(short_name(name))
    axis.set_xlabel("t")
    axis.set_ylabel("relative squared error")


def _rows(axis: Any, result: Explanation) -> None:
    axis.set_yticks(range(len(result.layers)), [short_name(one.name) for one in result.layers], fontsize=8)
    axis.set_ylim(max(1, len(result.layers)) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.5)


def _both(result: Explanation) -> str:
    """Both networks in one sentence."""
    where = f"at T={result.timesteps} on {result.samples} samples"
    if result.metric == ACCURACY:
        return (
            f"ANN {result.ann_accuracy:.2%}, SNN {result.accuracy:.2%} ({result.low:.2%} to {result.high:.2%}) "
            f"{where}: accuracy change {change(result.ann_accuracy - result.accuracy):+.2f} percentage points."
        )
    ann, snn, low, high = map(result.metric.text, (result.ann_value, result.value, result.low, result.high))
    bounds = "" if result.low is None else f" ({low} to {high})"
    better = "higher" if result.metric.higher_is_better else "lower"
    return f"{result.task}, {result.metric.name}: ANN {ann}, SNN {snn}{bounds} {where}; {better} is better."


def _unit(result: Explanation) -> str:
    unit = result.metric.change_unit
    return f" {unit}" if unit else ""


def _fault(one: LayerError, result: Explanation) -> str:
    return f"{one.name} ({gain(one.renewed, result.metric)}{_unit(result)} when its {one.fault} are reconverted)"


def _sure(one: LayerError) -> bool:
    return (one.regained or 0.0) > 0 and (one.regained_low or 0.0) > 0
