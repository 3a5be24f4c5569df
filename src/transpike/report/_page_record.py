"""Spikes on a page: inputs, rate maps and raster plots."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from transpike.report._numbers import short
from transpike.report._pixels import image, png
from transpike.report._section import Drawing, Map, Sample, Section, drawing
from transpike.report._style import PAGE, library, short_name
from transpike.workflow.record import SampleRecord, SpikeRecord


def section(result: SpikeRecord) -> Section:
    lead = [
        "Rate maps of the layers, first to last: mean output of each place over channels and time steps (brighter is "
        "more)."
    ]
    if result.steps:
        lead.append("Raster plots: spikes of single neurons over time, the most active at the top.")
    else:
        lead.append("There are no raster plots, because layers send whole windows without the times of single spikes.")
    samples = tuple(_sample(result, number, one) for number, one in enumerate(result.samples))
    return Section("spikes", "Spikes of some samples", tuple(lead), samples=samples)


def _sample(result: SpikeRecord, number: int, one: SampleRecord) -> Sample:
    def named(answer: int) -> str:
        return result.classes[answer] if answer < len(result.classes) else f"class {answer}"

    words = _answer(result, one, named)
    spikes, operations = (sum(getattr(layer, key) for layer in one.layers) for key in ("spikes", "synaptic_operations"))
    alt = f"sample {number + 1}" + ("" if one.label is None else f": {named(one.label)}")
    maps = tuple(
        Map(
            _heat(layer.map),
            f"{layer.name}: {layer.spikes:,.0f} spikes, {short(layer.synaptic_operations / 1e6)} M SynOps",
        )
        for layer in one.layers
    )
    right = one.label is None or one.label == one.answers[-1]
    words += f"; {spikes:,.0f} spikes and {short(operations / 1e6)} M SynOps in these layers"
    return Sample(image(_shown(one.input)), alt, words, right, maps, _raster(one, number) if result.steps else None)


def _answer(result: SpikeRecord, one: SampleRecord, named: Callable[[int], str]) -> str:
    """The answer, or the value of the metric of a task without classes."""
    if not one.answers or one.ann_answer is None:
        return f"{result.metric.name} {result.metric.text(one.values[-1])}" if one.values else "without a target"
    answer = named(one.answers[-1])
    words = f"answer: {answer}, stable from step {one.settled}" if len(one.timesteps) > 1 else f"answer: {answer}"
    return words if one.ann_answer == one.answers[-1] else f"{words} (ANN: {named(one.ann_answer)})"


def _raster(one: SampleRecord, number: int) -> Drawing:
    """A band of rows for each layer, a tick for each spike; negative spikes in the fourth colour."""

    def paint(axes: Any) -> dict[str, str]:
        base, marks, tops = 0, [], []
        for layer in one.layers:
            for sign, colour in ((1, PAGE.series[0]), (-1, PAGE.series[3])):
                t, k = (layer.train * sign > 0).nonzero(as_tuple=True)
                gap = torch.full((len(t),), math.nan)
                x = torch.stack([t + 1, t + 1, gap], 1).flatten()  # one line with gaps is much smaller than many lines
                y = torch.stack([base + k - 0.4, base + k + 0.4, gap], 1).flatten()
                axes.plot(x, y, color=colour, linewidth=1.1, solid_capstyle="butt")
            marks.append(base + (len(layer.neurons) - 1) / 2)
            base += len(layer.neurons) + 2
            tops.append(base - 1.5)
        for top in tops[:-1]:
            axes.axhline(top, color=PAGE.faint, linewidth=0.8)
        axes.set_yticks(marks, [short_name(layer.name) for layer in one.layers], fontsize=8)
        axes.set_ylim(base - 2, -1)
        axes.set_xlim(0.3, one.timesteps[-1] + 0.7)
        axes.set_xlabel("time step")
        return {}

    names = ", ".join(layer.name for layer in one.layers)
    return drawing(f"raster{number}", f"Spikes of {names}.", paint, 5.6, 3.4)


def _heat(values: Tensor) -> str:
    top = float(values.max()) or 1.0
    colours = library().colormaps["viridis"]((values / top).numpy())
    return png(torch.from_numpy(colours[..., :3]))


def _shown(given: Tensor | dict[str, Tensor]) -> Tensor:
    """The input, of several the first that is an image."""
    if isinstance(given, Tensor):
        return given
    return next((value for value in given.values() if value.ndim == 3), next(iter(given.values())))
