"""The accuracy, operations, energy and traffic of every cut of a network, from one run."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from transpike import tasks
from transpike.core.activity import Activity
from transpike.data.batches import with_targets
from transpike.energy import EnergyModel, Operations, checked
from transpike.errors import DataError, SettingError
from transpike.lowering.boundary import connections_once, macs_once
from transpike.snn import SNN, takes_snn
from transpike.workflow.cuts.joint import Joint
from transpike.workflow.cuts.places import places
from transpike.workflow.cuts.result import CutRow, Cuts
from transpike.workflow.evaluate.hybrid import Hybrid
from transpike.workflow.hybrid import refuse_hybrid
from transpike.workflow.judged import Tasks
from transpike.workflow.judged import asked as judgement

MODES = ("steps", "differences", "windows")


@takes_snn
def cuts(
    snn: SNN,
    data: Any,
    *,
    answers: tuple[int, ...] | None = None,
    limit: int | None = None,
    models: EnergyModel | Iterable[EnergyModel] | None = None,
    output: str | int | None = None,
    task: Tasks | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Cuts:
    """Cut ``snn`` after every layer of neurons where a single wire leaves it: it spikes before, and not after.

    One run of the spiking network serves all cuts: what has crossed at each of them after each of ``answers`` steps
    (default: the recipe's T) goes through the rest of the source network. ``Cuts`` has the metric of the task, the
    operations of both sides, their energy by ``models`` (default: Operations) and what crosses. The neurons are those
    of ``snn``: a cut equals ``convert(spiking=…)`` where the recipe calibrates each layer by the layers before it.
    ``data``, ``limit``, ``output`` and ``task`` as for ``evaluate``; ``progress(done, total)`` counts samples.

    Raises DataError as ``evaluate`` does, and SettingError for a hybrid network and for schedules of phases and time
    slots, whose layers answer at different times.
    """
    refuse_hybrid(snn, "cuts", "it cuts a network that spikes as a whole")
    chosen = (Operations(),) if models is None else checked(models)
    if not chosen:
        raise SettingError("there is no energy model: pass at least one")
    schedule = snn.schedule
    if schedule.mode not in MODES or (schedule.mode == "windows" and schedule.lag(snn.timesteps) < snn.timesteps):
        raise SettingError(
            f"cuts do not support {schedule}, whose layers answer at different times: convert with a recipe that "
            "streams, like ecc, or with whole windows"
        )
    steps = tuple(sorted({schedule.check(t) for t in (answers or (snn.timesteps,))}))
    asked, judged = judgement(snn.outputs, task, output)
    joint, inputs, seen = Joint(snn, found := places(snn)), snn.input_check(), 0
    total = len(data.dataset) if hasattr(data, "dataset") and hasattr(data.dataset, "__len__") else None
    total = limit if total is None else min(total, limit or total)
    rows: dict[tuple[int, int], list[Tensor]] = {(number, t): [] for number in range(len(found)) for t in steps}
    counts: dict[tuple[int, int], Activity] = {}
    ann: list[Tensor] = []
    for x, given in with_targets(data, snn.sample_shape):
        kept = len(x) if limit is None else min(len(x), limit - seen)
        if kept < 1:
            break
        y = judged.target(given) if asked.needs_targets else None
        if y is None and asked.needs_targets:
            raise DataError("cuts are compared by a metric that needs targets: pass batches of (input, target)")
        prepared = snn.prepare(x[:kept]).cpu()
        inputs.add(prepared)
        with torch.no_grad():
            logits = judged.part(snn.source.run(snn.encoder.accumulate(prepared)))
            target = logits if y is None else asked.check(tuple(logits.shape[1:]), kept, y[:kept].cpu())
            ann.append(asked.rows(logits, target))
            for t, values, activities in joint.answers(prepared, torch.arange(seen, seen + kept), steps):
                for number, (value, activity) in enumerate(zip(values, activities, strict=True)):
                    rows[number, t].append(asked.rows(judged.part(value), target))
                    before = counts.get((number, t))
                    counts[number, t] = activity if before is None else before + activity
        seen += kept
        if progress is not None:
            progress(seen, total)
    if not seen:
        raise DataError("there are no samples to run")
    reference = torch.cat(ann)

    def row(behind: str, kind: str, t: int, total_steps: int, judged_rows: Tensor, sides: Hybrid) -> CutRow:
        gain = asked.gain(reference, judged_rows)[0]
        return CutRow(behind, kind, t, total_steps, asked.value(judged_rows), *asked.interval(judged_rows), gain, sides)

    made = [row("", "analogue", 0, 0, reference, _analogue(snn, chosen))]
    for number, place in enumerate(found):
        kind = "spiking" if number == len(found) - 1 else "cut"
        for t in steps:
            sides = Hybrid.counted(place.snn.spiking or ("*",), counts[number, t], chosen)
            made.append(row(place.name, kind, t, place.snn.total_steps(t), torch.cat(rows[number, t]), sides))
    return Cuts(
        rows=tuple(made),
        samples=seen,
        recipe=str(snn.recipe),
        models=tuple(map(str, chosen)),
        metric=asked.first,
        task=str(asked),
        room=asked.room(asked.value(reference) or 0.0),
        warnings=inputs.finished(),
        remarks=(*tasks.remarks(asked), *snn.remarks),
    )


def _analogue(snn: SNN, models: tuple[EnergyModel, ...]) -> Hybrid:
    """The source network: everything is analogue, and nothing crosses."""
    macs = macs_once(snn.source)
    once = frozenset(macs)
    return Hybrid.counted((), Activity((), 1, macs, connections_once(snn.source), computed_once=once), models)
