"""An evaluation in the metrics of its task, as sentences and as a picture."""

from pathlib import Path
from typing import Any

from transpike.core.task import Metric
from transpike.report._numbers import short, signed, value
from transpike.report._style import PAPER, Palette, figure, reference, theme, write_picture
from transpike.report.picture import over_steps
from transpike.workflow.evaluate.measurement import Estimate, MeasuredAnswer, Measurement


def lines(result: Measurement) -> list[str]:
    """The result in sentences, without those about the run."""
    last, best = result.final, result.recommended
    found = [
        f"{result.task}, SNN at T={last.timesteps}, after {last.total_steps} total steps, {result.samples} samples:"
    ]
    for metric in result.metrics:
        sentence = f"  {metric.name} {_estimate(last.metrics[metric.name], metric)}"
        if result.ann:
            sentence += f"; ANN {_estimate(result.ann[metric.name], metric)}"
            sentence += f"; change {_change(last.changes[metric.name], metric)}"
        found.append(f"{sentence}; {'higher' if metric.higher_is_better else 'lower'} is better.")
    if result.fidelity:
        close = result.fidelity[-1]
        error = "not defined" if close.relative_error is None else f"{close.relative_error:.2%}"
        found.append(
            f"Outputs next to those of the ANN: relative error {error}, largest difference "
            f"{short(close.largest_difference)}."
        )
    if len(result.curve) > 1:
        first = result.metrics[0]
        found.append(
            f"Recommended: T={best.timesteps}, after {best.total_steps} total steps: {first.name} "
            f"{value(best.metrics[first.name].value, first)}, the first answer within {result.room} of T="
            f"{last.timesteps}."
        )
    found.append(
        f"At T={last.timesteps}: mean spike rate {result.spike_rate:.1%} per neuron and step; "
        f"{short(last.synaptic_operations / 1e6)} M synaptic operations per sample, plus "
        f"{short(sum(result.macs.values()) / 1e6)} M remaining MACs; ANN: {short(result.ann_macs / 1e6)} M MACs."
    )
    return found


def _estimate(one: Estimate, metric: Metric) -> str:
    if one.low is None or one.high is None:
        return value(one.value, metric)
    return f"{value(one.value, metric)} ({value(one.low, metric)} to {value(one.high, metric)})"


def _change(one: Estimate, metric: Metric) -> str:
    if one.value is None:
        return "not defined"
    scale, unit = (100, "points") if metric.share else (1, metric.unit)
    bounds = (
        "" if one.low is None or one.high is None else f" ({signed(scale * one.low)} to {signed(scale * one.high)})"
    )
    return f"{signed(scale * one.value)}{bounds} {unit}".rstrip()


def draw(result: Measurement, path: str | Path) -> Path:
    """Draw the first metric over total steps, with 95 % bands and the ANN's; PNG, SVG or PDF by extension."""
    with theme(PAPER):
        drawn = figure(7.2, 4.4)
        axes = drawn.subplots()
        paint(axes, result, PAPER)
        axes.set_title(f"{result.samples} samples, bands: 95 % intervals", loc="left")
        write_picture(drawn, path)
    return Path(path)


def paint(axes: Any, result: Measurement, palette: Palette) -> None:
    """Draw the first metric over time."""
    metric = result.metrics[0]
    scale, unit = (100, "%") if metric.share else (1, metric.unit)
    known = [answer for answer in result.curve if _value(answer, metric) is not None]
    steps = [answer.total_steps for answer in known]
    colour = palette.series[0]
    axes.plot(steps, [scale * (_value(a, metric) or 0.0) for a in known], marker="o", markersize=4, color=colour)
    bounds = [(a.total_steps, one.low, one.high) for a in known for one in (a.metrics[metric.name],)]
    sure = [(step, scale * low, scale * high) for step, low, high in bounds if low is not None and high is not None]
    if sure:
        axes.fill_between(*zip(*sure, strict=True), color=colour, alpha=0.18, linewidth=0)
    ann = result.ann[metric.name].value if result.ann else None
    if ann is not None:
        reference(axes, scale * ann, f"ANN {value(ann, metric)}", palette)
    over_steps(axes)
    axes.set_ylabel(f"{metric.name} in {unit}" if unit else metric.name)


def _value(answer: MeasuredAnswer, metric: Metric) -> float | None:
    return answer.metrics[metric.name].value
