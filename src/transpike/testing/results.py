"""The laws of tasks, energy models and chips: of what judges a run."""

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from transpike.chips import Chip
from transpike.core.activity import Activity
from transpike.core.task import MeasuredTask, OutcomeTask, Task
from transpike.energy import AnnActivity, AnnLayer, EnergyModel, EnergyRow
from transpike.testing._law import ROUNDING, Law, check_member, random
from transpike.testing._networks import network, small
from transpike.workflow.chip_fit.run import chip_fit
from transpike.workflow.simulate import simulate


def check_task(task: Task, output: Tensor | None = None, target: Tensor | None = None) -> None:
    """A task judges each sample alone, outputs (steps, samples, *shape) of several time steps one by one.

    ``output`` and ``target`` default to the logits of ten classes and class indices.
    """
    check_member(task)
    law = Law(task)
    output = random(3, 6, 10) if output is None else output
    samples = output.shape[1]
    raw = torch.arange(samples) % output.shape[-1] if target is None else target
    if isinstance(task, MeasuredTask) and not task.needs_targets:
        raw = output[0]  # represents that of the source network
    checked = task.check(tuple(output.shape[2:]), samples, raw)
    if isinstance(task, OutcomeTask):
        _check_outcomes(task, output, raw, checked, law)
    elif isinstance(task, MeasuredTask):
        _check_measures(task, output[-1], raw, checked, law)
    _check_marks(task, output[-1], checked, law)


def _check_outcomes(task: OutcomeTask, output: Tensor, raw: Tensor, checked: Tensor, law: Law) -> None:
    steps, samples = output.shape[:2]
    right, same = task.outcomes(output, checked), task.agrees(output, output[-1])
    for name, found in (("outcomes()", right), ("agrees()", same)):
        law(f"{name} is True or False of each sample", found.dtype == torch.bool and found.shape == (steps, samples))
    law("answers() has the leading axes", task.answers(output).shape[:2] == (steps, samples))
    law("an output agrees with itself", bool(same[-1].all()))
    each = torch.stack([task.outcomes(one, checked) for one in output])
    law("every step is judged alone", torch.equal(each, right))
    order = torch.arange(samples).flip(0)
    again = task.check(tuple(output.shape[2:]), samples, raw[order])
    law("permuted samples have permuted outcomes", torch.equal(task.outcomes(output[:, order], again), right[:, order]))


def _check_measures(task: MeasuredTask, output: Tensor, raw: Tensor, checked: Tensor, law: Law) -> None:
    """``output`` of one time step."""
    samples, shape = len(output), tuple(output.shape[1:])
    found = task.statistics(output, checked)
    law("statistics() is (samples, k) in float64", found.dtype == torch.float64 and found.shape[:1] == (samples,))
    order = torch.arange(samples).flip(0)
    again = task.statistics(output[order], task.check(shape, samples, raw[order]))
    law("permuted samples have permuted statistics", torch.allclose(again, found[order], rtol=ROUNDING, atol=0))
    values, measured = task.from_rows(found), len(task.metrics)
    law("there is one value per metric", values.shape == (measured,) and measured > 0)
    both = task.from_rows(torch.stack([found, found], 1))
    law(
        "several networks are measured apart", torch.allclose(both, values.expand(2, -1), rtol=ROUNDING, equal_nan=True)
    )
    law("metrics have different names", len({metric.word for metric in task.metrics}) == measured)
    best, drawn = task.value(found), task.draws(found)
    law("value() is the first metric", best is None or abs(best - float(values[0])) <= ROUNDING * abs(best))
    law("no gain over itself", best is None or task.gain(found, found)[0] == 0)
    law("draws() gives one value per metric", drawn is None or drawn.shape[1:] == (measured,))
    law("room() is not negative", task.room(1.0) >= 0 and task.room(0.0) >= 0)


def _check_marks(task: Task, output: Tensor, checked: Tensor, law: Law) -> None:
    """The marks that reports draw."""
    size = (48, 64)
    drawn = [task.marks(one, size) for one in output]
    law("marks() draws the answers of all samples, or of none", len({marks is None for marks in drawn}) == 1)
    targets = [task.target_marks(one, size) for one in checked] if task.needs_targets else []
    for marks in (*drawn, *targets):
        if marks is None:
            continue
        law("marks are boxes or a mask", marks.mask is None or not marks.boxes)
        law("a mask has integers on a plane", marks.mask is None or _plane(marks.mask))
        edges = [(box.right - box.left, box.bottom - box.top) for box in marks.boxes]
        law("a box ends after it begins", all(min(lengths) >= 0 for lengths in edges), edges)
    picture = task.picture(random(3, *size))
    law("a picture has one or three channels", picture is None or (picture.ndim == 3 and len(picture) in (1, 3)))


def _plane(mask: Tensor) -> bool:
    return mask.ndim == 2 and not mask.is_floating_point() and not mask.is_complex()


def check_energy_model(model: EnergyModel, activity: Activity | None = None) -> None:
    """Joules are the sum of rows, never negative, linear in the spikes, and never fall when a spike is added.

    ``activity``: of a run that the model can price, by default of a small network of binary spikes.
    """
    check_member(model)
    law = Law(model)
    given = activity or simulate(small(), network(True)[1][:8]).activity
    law(
        "constants have a unit and a source",
        all(q.unit and q.source for q in model.constants.values()),
        model.constants,
    )
    named = isinstance(model.excluded, tuple) and all(isinstance(one, str) and one for one in model.excluded)
    law("excluded names what it does not price", named and bool(model.excluded), model.excluded)
    law("it can price the run: give an activity that it can", model.fits(given))
    rows, joule = model.rows(given), model.joule(given)
    _check_rows(rows, joule, law)
    assert joule is not None
    one, two, three = (model.joule(given.busier(factor)) or 0.0 for factor in (1.0, 2.0, 3.0))
    law("joules are linear in the spikes", abs((three - two) - (two - one)) <= 1e-9 * three, one, two, three)
    for index, layer in enumerate(given.layers):
        spikes, operations = layer.spikes.clone(), layer.synaptic_operations.clone()
        spikes.view(-1)[0] += 1
        operations.view(-1)[0] += 1
        more = dataclasses.replace(layer, spikes=spikes, synaptic_operations=operations)
        layers = (*given.layers[:index], more, *given.layers[index + 1 :])
        found = model.joule(dataclasses.replace(given, layers=layers)) or 0.0
        law(f"another spike of {layer.name} costs nothing or more", found >= joule * (1 - ROUNDING), joule, found)
    ann = AnnActivity((AnnLayer("a", 100, 50.0, 10, 10, 100, 8, 8), AnnLayer("b", 50, 50.0, 10, 5, 50, 8, 8)))
    for skipping in (False, True):
        if (found_rows := model.ann_rows(ann, skipping)) is not None:
            _check_rows(found_rows, model.ann_joule(ann, skipping), law)


def _check_rows(rows: Iterable[EnergyRow], joule: float | None, law: Law) -> None:
    rows = tuple(rows)
    law("no row is negative or infinite", all(0 <= r.joule < float("inf") and r.count >= 0 for r in rows), rows)
    law("the joules are the sum of the rows", joule == sum(row.joule for row in rows), joule)


def check_chip(chip: Chip) -> None:
    """Every limit of a chip has a source, and a network can be compared with it."""
    law = Law(chip)
    skipped = ("name", "title", "vendor", "sources")
    limits = [f.name for f in dataclasses.fields(chip) if f.name not in skipped and getattr(chip, f.name) is not None]
    bare = [name for name in limits if chip.source(name) is None]
    law("every limit has a source", not bare, bare)
    law("every source is of a limit", all(source.limit in limits for source in chip.sources), chip.sources)
    fit = chip_fit(small(), chip)
    law("what does not fit is named", fit.fits or all(str(misfit) for misfit in fit.misfits))
    law("without its limits every network fits", chip_fit(small(), Chip(chip.name, chip.title)).fits)
