"""Measure a unit: convert the network by its recipe, and evaluate it."""

import base64
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

from transpike.core.cell import Neuron
from transpike.core.codec import encode
from transpike.core.exit import Exit
from transpike.core.task import Task
from transpike.data.batches import without_targets
from transpike.errors import DataError, NotExact, SettingError, UnsupportedModel
from transpike.results.statistics import paired_difference
from transpike.snn import SNN
from transpike.workflow.compare.inputs import Batches, Opened
from transpike.workflow.compare.kept import packed
from transpike.workflow.compare.units import Unit, Work
from transpike.workflow.convert import convert
from transpike.workflow.early_exit import fit_exit
from transpike.workflow.evaluate.measurement import Estimate, Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate
from transpike.workflow.resumable.file import Place
from transpike.workflow.resumable.run import resumable_at
from transpike.workflow.sharing import Shared, sharing

REFUSALS = (SettingError, UnsupportedModel, DataError, NotExact)
"""Errors that recur for a recipe, and are stored; others may be temporary."""
EVERY = 60.0
"""Seconds of a unit between two writes of what its batches have added up to."""


def measure(
    work: Work, unit: Unit, opened: Opened, tell: Callable[[int], None] = lambda samples: None,
    place: Place | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Convert and evaluate; returns the results, or the reason of a refusal, as plain data.

    ``tell`` is called with the number of samples that have been evaluated. ``place``: where finished batches are kept
    while the unit runs, and from which it continues after its process was lost.
    """
    start = time.perf_counter()
    with resumable_at(place, every=EVERY, forgiving=True):
        content = _measured(work, unit, opened, tell)
    return {**content, "seconds": round(time.perf_counter() - start, 3)}


def _measured(work: Work, unit: Unit, opened: Opened, tell: Callable[[int], None]) -> dict[str, Any]:
    source, calibration, data, fitting = opened
    try:
        with sharing(_shared(work.inputs)):
            snn = convert(
                source,
                unit.recipe,
                without_targets(calibration),
                preprocessing=work.preprocessing,
                spiking=work.spiking or None,
                exact_grid=work.exact_grid,
                seed=work.seed,
            )
            snn = snn.accepting_any_input() if work.any_input else snn
            report = evaluate(
                snn,
                data,
                timesteps=max(unit.answers),
                answers=unit.answers,
                engine=work.engine,
                memory=work.memory,
                energy=work.energy,
                output=work.output,
                task=work.task,
                progress=lambda done, _: tell(done),
            )
        content: dict[str, Any] = _found(snn, report, work.task)
        if snn.schedule.every_step and max(unit.answers) > 1:
            for wish in work.exits:
                try:
                    content["cells"].append(_early(work, unit, snn, data, fitting, wish))
                except SettingError as error:
                    content["common"]["remarks"].append(f"no {wish}: {error}")
        elif work.exits:
            content["common"]["remarks"].append("no early exit: a run gives only one answer")
    except REFUSALS as error:
        return {"refused": str(error)}
    return content


def release() -> None:
    """Frees what units keep for each other in this process."""
    _shared.cache_clear()


@functools.lru_cache(maxsize=1)
def _shared(inputs: str) -> Shared:
    """What the conversions and evaluations of this process found on the same network and data."""
    return Shared()


def _found(snn: SNN, report: Report | Measurement, task: Task) -> dict[str, Any]:
    lowered = snn.program.lowered
    alphabets = [lowered.alphabets[node.name] for node in lowered.nodes if isinstance(node.op, Neuron)]
    common = {
        "ann_macs": report.ann_macs,
        "alphabets": sorted({str(alphabet) for alphabet in alphabets}),
        "signed": any(alphabet.signed for alphabet in alphabets),
        "schedule": report.schedule,
        "exact": report.exact,
        "exact_why": report.exact_why,
        "remarks": [*report.warnings, *report.remarks],
    }
    if isinstance(report, Measurement):
        return {"samples": report.samples, "common": common | _known(report), "cells": _of_metrics(report, task)}
    common["ann_accuracy"] = report.ann_accuracy
    cells = []
    for answer in report.curve:
        right = report.outcomes[answer.timesteps]
        drop, low, high = paired_difference(report.ann_outcomes, right)
        paired = {"drop": drop, "drop_low": low, "drop_high": high, "outcomes": packed(right)}
        cells.append(dataclasses.asdict(answer) | paired)
    return {"samples": report.samples, "common": common, "cells": cells}


def _known(report: Measurement) -> dict[str, Any]:
    """The metrics and those of the source network."""
    return {
        "measured": [dataclasses.asdict(metric) for metric in report.metrics],
        "ann": {name: dataclasses.asdict(one) for name, one in report.ann.items()},
    }


def _of_metrics(report: Measurement, task: Task) -> list[dict[str, Any]]:
    """One cell per answer, with the statistics of the samples as float64."""
    cells = []
    for answer in report.curve:
        statistics = report.rows[answer.timesteps]
        worse = Estimate(*task.gain(report.ann_rows, statistics))
        in_text = {"shape": list(statistics.shape), "data": base64.b64encode(statistics.numpy().tobytes()).decode()}
        cells.append(dataclasses.asdict(answer) | {"worse": dataclasses.asdict(worse), "statistics": in_text})
    return cells


def _early(work: Work, unit: Unit, snn: SNN, data: Batches, fitting: Batches, wish: Exit) -> dict[str, Any]:
    """The same network with an exit, fitted on other samples, as an additional answer of its longest run."""
    steps = max(unit.answers)
    fitted = fit_exit(
        snn, fitting, score=wish.score, drop=wish.drop, confidence=wish.confidence, timesteps=steps, engine=work.engine,
        output=work.output, task=work.task,
    )  # fmt: skip
    report = evaluate(
        fitted, data, timesteps=steps, answers=(steps,), engine=work.engine, memory=work.memory, energy=work.energy,
        output=work.output, task=work.task,
    )  # fmt: skip
    assert isinstance(report, Report)  # else the exit was refused
    found, right = report.exit, report.exit_outcomes
    assert found is not None and right is not None
    drop, low, high = paired_difference(report.ann_outcomes, right)
    return {
        "timesteps": steps, "total_steps": found.mean_steps, "accuracy": found.accuracy, "low": found.low,
        "high": found.high, "agreement": found.agreement, "synaptic_operations": found.synaptic_operations,
        "spikes": found.spikes, "spike_rate": found.spike_rate, "macs": round(found.macs),
        "energy_joule": found.energy_joule, "drop": drop, "drop_low": low, "drop_high": high,
        "outcomes": packed(right), "exit": str(wish), "policy": encode(fitted.exit, {}, "exit"),
    }  # fmt: skip
