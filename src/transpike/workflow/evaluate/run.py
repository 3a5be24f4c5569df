"""Accuracy or errors at every t, latency and activity of an SNN, compared with its source network."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from transpike.core.graph import Graph
from transpike.core.task import MeasuredTask, OutcomeTask
from transpike.energy import EnergyModel, checked
from transpike.engines import engine_named
from transpike.errors import DataError, SettingError
from transpike.snn import SNN, takes_snn
from transpike.workflow.distributed import check_alike, processes
from transpike.workflow.evaluate.measured import MeasuredTally
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.outcomes import OutcomeTally
from transpike.workflow.evaluate.report import Report
from transpike.workflow.judged import Tasks
from transpike.workflow.judged import asked as judgement
from transpike.workflow.resumable.run import added, resumable
from transpike.workflow.shared_batches import Batch


@overload
def evaluate(
    snn: SNN,
    data: Any,
    *,
    timesteps: int | None = None,
    answers: tuple[int, ...] | None = None,
    engine: str = "auto",
    memory: int | None = None,
    limit: int | None = None,
    energy: EnergyModel | Iterable[EnergyModel] = (),
    output: str | int | None = None,
    task: OutcomeTask | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Report: ...


@overload
def evaluate(
    snn: SNN,
    data: Any,
    *,
    timesteps: int | None = None,
    answers: tuple[int, ...] | None = None,
    engine: str = "auto",
    memory: int | None = None,
    limit: int | None = None,
    energy: EnergyModel | Iterable[EnergyModel] = (),
    output: str | int | None = None,
    task: Tasks,
    progress: Callable[[int, int | None], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Report | Measurement: ...


@takes_snn
def evaluate(
    snn: SNN,
    data: Any,
    *,
    timesteps: int | None = None,
    answers: tuple[int, ...] | None = None,
    engine: str = "auto",
    memory: int | None = None,
    limit: int | None = None,
    energy: EnergyModel | Iterable[EnergyModel] = (),
    output: str | int | None = None,
    task: Tasks | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Report | Measurement:
    """Accuracy of ``snn`` and of its source network on the same inputs, and the activity of each layer.

    ``data``: any iterable of (input, target) batches, or a pair of tensors. Streaming gives every t up to
    ``timesteps`` (default: the recipe's, or its exit's) from one run; a layer-synchronous network is run once for each
    of ``answers`` (default: powers of two). ``limit``: only the first N samples; ``energy``: models of
    ``transpike.energy``, for joules of every answer; ``task`` (of ``transpike.tasks``, default: classification)
    defines correct answers. A task that measures answers, like Regression, gives a ``Measurement`` of its metrics
    instead; ``Fidelity`` reads no targets. With several outputs, the task judges the one named ``output``; targets are
    of this one, or of all by name. A dictionary of tasks by output gives
    the metrics of all. Without both, ``Fidelity`` of all is measured; ``outputs`` of the result has each.
    Samples that stop early by the network's ``exit`` are run again, to count their activity; ``progress(done, total)``
    is called after each batch. Intervals of accuracies are Wilson's, those of metrics from resampled samples, 95 %.
    Inside of ``distributed_samples`` the processes of torchrun share the batches. ``checkpoint``: a file from which the
    same call continues after a kill or a lost process, see ``resumable``.
    Deterministic for a given seed; on the exact grid independent of the batch size.

    Raises DataError for data without targets or samples, for targets or outputs that do not match the task, and for
    inputs that do not look like those of the calibration (``SNN.accepting_any_input``), SettingError for time steps
    without an answer.
    """
    schedule = snn.schedule
    asked = tuple(sorted({schedule.check(t) for t in answers})) if answers else ()
    longest = max((snn.timesteps, *asked, 0 if snn.exit is None else snn.exit.timesteps))
    steps = schedule.check(longest if timesteps is None else timesteps)
    if asked and schedule.every_step and asked[-1] > steps:
        raise SettingError(f"a run of {steps} steps has no answer after {asked[-1]}; pass timesteps={asked[-1]}")
    asked = asked or tuple(t for t in schedule.answers(steps) if _runs(snn, t) or t == steps)
    runs = (steps,) if schedule.every_step else asked
    total = len(data.dataset) if hasattr(data, "dataset") and hasattr(data.dataset, "__len__") else None
    engine_, models = engine_named(engine, memory), checked(energy)
    asked_task, judged = judgement(snn.outputs, task, output)
    policy = snn.exit if snn.schedule.every_step and snn.exit and snn.exit.timesteps <= steps else None
    policy = policy if policy is None or policy.output == (judged.name or "") else None

    def empty() -> MeasuredTally | OutcomeTally:
        if isinstance(asked_task, MeasuredTask):
            return MeasuredTally(snn, asked_task, judged, asked)
        assert isinstance(asked_task, OutcomeTask)
        return OutcomeTally(snn, asked_task, judged, asked, policy)

    def see(prepared: Tensor) -> Any:
        """With several processes, inputs are counted in their order; with one process, before they are run."""
        seen = tally.inputs.observe(prepared)
        if ranks.count > 1:
            return seen
        return tally.inputs.count(seen)

    def run(batch: Batch) -> MeasuredTally | OutcomeTally:
        x, given = batch.content
        y = judged.target(given) if asked_task.needs_targets else None
        if y is None and asked_task.needs_targets:
            raise DataError(
                "evaluation needs targets: pass batches of (input, target); without targets, "
                "task=transpike.tasks.Fidelity() compares the answers with those of the source network"
            )
        if x.device not in sources:
            sources[x.device] = snn.source.to(device=x.device)
        part, y = empty(), None if y is None else y[: batch.size]
        part.add(snn, x, y, runs, engine_, batch.first, sources[x.device], see)
        return part

    tally, ranks, sources = empty(), processes(), dict[Any, Graph]()
    how = {"timesteps": runs, "answers": asked, "engine": engine, "task": asked_task, "output": output}
    check_alike(ranks, snn, limit=limit, **how)
    with contextlib.nullcontext() if checkpoint is None else resumable(checkpoint):
        for _ in added("evaluate", tally, snn, data, run, how, limit):
            if progress is not None:
                progress(tally.samples, limit if limit is not None else total)
        if not tally.samples:
            raise DataError("there are no samples to evaluate")
        return tally.report(snn, engine, models)


def _runs(snn: SNN, timesteps: int) -> bool:
    """Whether all cells can run for ``timesteps``."""
    try:
        snn.program.check_steps(timesteps)
    except SettingError:
        return snn.schedule.mode != "windows"
    return True
