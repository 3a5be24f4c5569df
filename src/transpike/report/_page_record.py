"""Spikes on a page: inputs, answers over time, rate maps and rasters."""

import json
from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

from transpike.errors import printable
from transpike.report import _raster
from transpike.report._numbers import short
from transpike.report._pixels import image, png
from transpike.report._section import Sample, Section, Stretch, Strip
from transpike.report._style import library
from transpike.workflow.record import LayerTrain, SampleRecord, SpikeRecord

COUNTED = 256  # time steps up to which the counts of every step are on the page


def section(result: SpikeRecord) -> Section:
    lead = [
        "Rate maps of the layers, first to last: mean output of each place over channels and time steps (brighter is "
        "more)."
    ]
    if result.steps:
        lead.append(
            "Rasters: a row for each neuron, time from left to right, the most active neurons at the top; negative "
            "spikes in another colour."
        )
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
    right = one.label is None or one.label == one.answers[-1]
    words += f"; {spikes:,.0f} spikes and {short(operations / 1e6)} M SynOps in these layers"
    picture, strips = image(_shown(one.input)), tuple(_strip(layer, result.steps) for layer in one.layers)
    if not result.steps:
        return Sample(picture, alt, words, right, strips)
    steps = one.timesteps[-1]
    answers = [f"answer: {printable(named(answer))}" for answer in one.answers]
    answers += [f"{printable(result.metric.name)} {result.metric.text(value)}" for value in one.values]
    data = json.dumps({"times": one.timesteps, "answers": answers}, ensure_ascii=False) if answers else ""
    return Sample(picture, alt, words, right, strips, steps, _stretches(one, named), _raster.ticks(steps), data)


def _answer(result: SpikeRecord, one: SampleRecord, named: Callable[[int], str]) -> str:
    """The answer, or the value of the metric of a task without classes."""
    if not one.answers or one.ann_answer is None:
        return f"{result.metric.name} {result.metric.text(one.values[-1])}" if one.values else "without a target"
    answer = named(one.answers[-1])
    words = f"answer: {answer}, stable from step {one.settled}" if len(one.timesteps) > 1 else f"answer: {answer}"
    return words if one.ann_answer == one.answers[-1] else f"{words} (ANN: {named(one.ann_answer)})"


def _stretches(one: SampleRecord, named: Callable[[int], str]) -> tuple[Stretch, ...]:
    """The answers over time, equal ones in one stretch; before the first answer there is none."""
    found, before = [], one.timesteps[0] - 1
    if before and one.answers:
        found.append(Stretch("", 100 * before / one.timesteps[-1], None))
    for answer, times in groupby(zip(one.timesteps, one.answers, strict=False), key=lambda pair: pair[1]):
        last = [t for t, _ in times][-1]
        right = None if one.label is None else answer == one.label
        found.append(Stretch(named(answer), 100 * (last - before) / one.timesteps[-1], right))
        before = last
    return tuple(found)


def _strip(layer: LayerTrain, steps: bool) -> Strip:
    words = f"{layer.spikes:,.0f} spikes, {short(layer.synaptic_operations / 1e6)} M SynOps"
    if not steps:
        return Strip(layer.name, words, _heat(layer.map))
    train = _raster.kept(layer.train)
    rows, counts = train.shape[1], (train != 0).sum(1).tolist()
    words += f"; raster of {rows} neuron{'' if rows == 1 else 's'}"
    return Strip(
        layer.name, words, _heat(layer.map), rows, _raster.path(train, 1), _raster.path(train, -1),
        tuple(counts) if len(counts) <= COUNTED else (),
    )  # fmt: skip


def _heat(values: Tensor) -> str:
    top = float(values.max()) or 1.0
    colours = library().colormaps["viridis"]((values / top).numpy())
    return png(torch.from_numpy(colours[..., :3]))


def _shown(given: Tensor | dict[str, Tensor]) -> Tensor:
    """The input, of several the first that is an image."""
    if isinstance(given, Tensor):
        return given
    return next((value for value in given.values() if value.ndim == 3), next(iter(given.values())))
