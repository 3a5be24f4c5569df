"""Accuracy at every t, latency and activity of an SNN, compared with its source network."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from transpike import tasks
from transpike.core.activity import Activity
from transpike.core.exit import ExitPolicy
from transpike.core.graph import Graph
from transpike.core.input_check import InputCheck
from transpike.core.preprocessing import described
from transpike.core.stand_in import NOTHING_SPIKES, has_neurons
from transpike.core.task import OutcomeTask, Task
from transpike.data.batches import pairs
from transpike.energy import EnergyModel, checked
from transpike.engines import engine_named
from transpike.errors import DataError, SettingError
from transpike.lowering.activity import analogue_macs, multiplications, unpriced
from transpike.results.statistics import wilson
from transpike.snn import SNN
from transpike.workflow.evaluate.exit_report import ExitTally
from transpike.workflow.evaluate.report import Answer, LayerRow, Report

CHANCE_SAMPLES = 20
"""Fewer samples do not distinguish an accuracy from chance."""


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
    task: Task | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Report:
    """Accuracy of ``snn`` and of its source network on the same inputs, and the activity of each layer.

    ``data``: any iterable of (input, target) batches, or a pair of tensors. Streaming gives every t up to
    ``timesteps`` (default: the recipe's, or its exit's) from one run; a layer-synchronous network is run once for each
    of ``answers`` (default: powers of two). ``limit``: only the first N samples; ``energy``: models of
    ``transpike.energy``, for joules of every answer; ``task`` (of ``transpike.tasks``, default: classification)
    defines correct answers; samples that stop early by the network's ``exit`` are run again, to count their activity;
    ``progress(done, total)`` is called after each batch. Intervals are Wilson's, 95 %.
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
        raise SettingError(f"a run of {steps} steps has no answer after {asked[-1]}; give timesteps={asked[-1]}")
    asked = asked or tuple(t for t in schedule.answers(steps) if _runs(snn, t) or t == steps)
    runs = (steps,) if schedule.every_step else asked
    total = len(data.dataset) if hasattr(data, "dataset") and hasattr(data.dataset, "__len__") else None
    engine_, models = engine_named(engine, memory), checked(energy)
    policy = snn.exit if snn.schedule.every_step and snn.exit and snn.exit.timesteps <= steps else None
    tally = _Tally(policy, tasks.outcome_task(task, "an evaluation"), snn.input_check())
    for x, y in pairs(data, snn.sample_shape):
        if limit is not None and tally.samples >= limit:
            break
        if y is None:
            raise DataError("evaluation needs targets: give batches of (input, target)")
        x, y = (x, y) if limit is None else (x[: limit - tally.samples], y[: limit - tally.samples])
        tally.add(snn, x, y, runs, asked, engine_)
        if progress is not None:
            progress(tally.samples, limit if limit is not None else total)
    if not tally.samples:
        raise DataError("there are no samples to evaluate")
    return tally.report(snn, engine, asked, models)


def _runs(snn: SNN, timesteps: int) -> bool:
    """Whether all cells can run for ``timesteps``."""
    try:
        snn.program.check_steps(timesteps)
    except SettingError:
        return snn.schedule.mode != "windows"
    return True


class _Tally:
    """Adds up the results of batches."""

    def __init__(self, policy: ExitPolicy | None, task: OutcomeTask, inputs: InputCheck) -> None:
        self.task, self.inputs = task, inputs
        self.exits = None if policy is None else ExitTally(policy, self.task)
        self.samples = self.ties = self.early = self.beyond = self.elements = 0
        self.ann_correct: list[Tensor] = []
        self.correct: dict[int, list[Tensor]] = {}
        self.agree: dict[int, int] = {}
        self.activities: dict[int, Activity] = {}
        self.exact, self.why = True, ""
        self.kernels: dict[str, str] = {}
        self.source: Graph | None = None
        self.device = torch.device("cpu")

    def add(self, snn: SNN, x: Tensor, y: Tensor, runs: tuple[int, ...], asked: tuple[int, ...], engine: Any) -> None:
        ids = torch.arange(self.samples, self.samples + len(x))
        with torch.no_grad():
            if self.source is None or x.device != self.device:
                self.source, self.device = snn.source.to(device=x.device), x.device
            prepared = snn.prepare(x)
            self.inputs.add(prepared)
            self.beyond, self.elements = self.beyond + snn.encoder.beyond(prepared), self.elements + prepared.numel()
            logits = self.source.run(snn.encoder.accumulate(prepared))
            y = self.task.check(tuple(logits.shape[1:]), len(x), y.to(x.device))
        self.ann_correct.append(self.task.outcomes(logits, y).cpu())
        for steps in runs:
            trace = snn.run_prepared(prepared, steps, engine, ids, (), True)
            right, same = self.task.outcomes(trace.logits, y).cpu(), self.task.agrees(trace.logits, logits)
            for t, row, equal in zip(trace.timesteps, right, same.sum(-1).tolist(), strict=True):
                # each run counts for its last answer only, although phase cycles give earlier ones too
                if t in (asked if snn.schedule.every_step else (steps,)):
                    self.correct.setdefault(t, []).append(row)
                    self.agree[t] = self.agree.get(t, 0) + equal
            before = self.activities.get(steps)
            self.activities[steps] = trace.activity if before is None else before + trace.activity
            if self.exits is not None:
                self.exits.add(snn, prepared, y, ids, trace.logits, logits, engine)
            self.ties += trace.ties
            self.early += trace.early
            self.kernels = trace.kernels
            if not trace.exact:
                self.exact, self.why = False, trace.why
        self.samples += len(x)

    def report(self, snn: SNN, engine: str, asked: tuple[int, ...], models: tuple[EnergyModel, ...] = ()) -> Report:
        warnings = self.inputs.finished()
        exactness, activity = snn.exactness, self.activities[max(self.activities)]
        outcomes = {t: torch.cat(self.correct[t]) for t in asked}
        ann_outcomes = torch.cat(self.ann_correct)
        ann_correct = int(ann_outcomes.sum())
        counted = {t: self._until(snn, t) for t in asked}
        curve = tuple(self._answer(snn, t, int(outcomes[t].sum()), counted[t], models) for t in asked)
        grid = (
            {}
            if exactness is None
            else {"exact_up_to": exactness.timesteps, "largest_weight_rounding": exactness.rounding}
        )
        return Report(
            recipe=str(snn.recipe),
            schedule=_name(snn.schedule),
            engine=engine,
            kernels=self.kernels,
            samples=self.samples,
            ann_accuracy=ann_correct / self.samples,
            ann_low=wilson(ann_correct, self.samples)[0],
            ann_high=wilson(ann_correct, self.samples)[1],
            ann_macs=multiplications(snn.source),
            curve=curve,
            layers=_rows(activity, curve[-1].timesteps),
            macs=activity.macs,
            exact=self.exact,
            exact_why=self.why,
            ties=self.ties,
            grid=grid,
            encoder=_name(snn.encoder),
            readout=_name(getattr(snn.readout, "inside", snn.readout)),
            remarks=(
                *self._silence(snn, activity),
                *tasks.remarks(self.task),
                *_others(snn),
                *self._remarks(snn, activity),
            ),
            provenance=snn.provenance | {"preprocessing": described(snn.preprocessing)},
            outcomes=outcomes,
            ann_outcomes=ann_outcomes,
            activities=counted,
            unpriced=unpriced(snn.source) | activity.unpriced,
            exit=None if self.exits is None else self.exits.report(snn, models),
            exit_outcomes=None if self.exits is None else torch.cat(self.exits.early),
            task=str(self.task),
            warnings=warnings,
        )

    def _silence(self, snn: SNN, activity: Activity) -> tuple[str, ...]:
        """The remark that leads the report of a network in which nothing spikes."""
        if not has_neurons(snn.graph):
            remark, ann = NOTHING_SPIKES, multiplications(snn.source)
            if ann:
                times = sum(activity.macs.values()) / ann
                remark += f", {times:.3g} times the multiplications of the ANN at T={activity.timesteps}"
            return (remark,)
        if not any(bool(row.spikes.any()) for row in activity.layers if row.role == "neuron"):
            return ("no neuron fired: the answers come from biases and analogue layers alone",)
        return ()

    def _remarks(self, snn: SNN, activity: Activity) -> tuple[str, ...]:
        found = []
        right, chance = int(torch.cat(self.ann_correct).sum()), self.task.chance(snn.source.output.shape)
        if chance is not None and self.samples >= CHANCE_SAMPLES and wilson(right, self.samples)[0] <= chance:
            found.append(
                f"the ANN is not significantly more accurate than chance ({chance:.1%}): use the classes and the "
                "preprocessing of its training"
            )
        if self.early:
            found.append(
                f"{self.early} spikes were sent before all of their inputs, because a value exceeded its window: "
                "use more calibration data, or a larger zeta"
            )
        if snn.exit is not None and self.exits is None:
            found.append(
                f"the exit was ignored, because it was fitted for T={snn.exit.timesteps} and this run is shorter: use "
                f"timesteps={snn.exit.timesteps}"
            )
        if self.exits is not None and self.exits.policy.task != str(self.task):
            found.append(
                f"the exit was fitted for {self.exits.policy.task}, and its guaranteed bound does not apply to "
                f"{self.task}: fit it again for this task"
            )
        if self.beyond:
            found.append(
                f"{self.beyond / self.elements:.2%} of the input values exceed {snn.encoder.largest:.3g}, the "
                "largest value of input spikes, and were clipped: scale the input, or calibrate with such inputs"
            )
        if left_out := unpriced(snn.source) | activity.unpriced:
            listed = "; ".join(f"{name} ({what})" for name, what in left_out.items())
            found.append(f"neither MACs nor joules include the operations of these layers: {listed}")
        silent = [row.name for row in activity.layers if row.role == "neuron" and not bool(row.spikes.any())]
        if silent:
            found.append(f"no neuron of {', '.join(silent)} fired: use a lower threshold there, or more time steps")
        return tuple(found)

    def _until(self, snn: SNN, t: int) -> Activity:
        """Activity of the first t steps: streaming counts step by step, windows and cycles have separate runs."""
        if not snn.schedule.every_step:
            return self.activities[t]
        macs = analogue_macs(snn.program.lowered, t, snn.encoder.is_constant)
        return self.activities[max(self.activities)].until(t, macs)

    def _answer(self, snn: SNN, t: int, correct: int, activity: Activity, models: tuple[EnergyModel, ...]) -> Answer:
        macs, layers = activity.macs, activity.layers
        neurons = [layer for layer in layers if layer.role == "neuron"]
        slots = self.samples * t * sum(layer.neurons for layer in neurons)
        return Answer(
            timesteps=t,
            total_steps=snn.total_steps(t),
            accuracy=correct / self.samples,
            low=wilson(correct, self.samples)[0],
            high=wilson(correct, self.samples)[1],
            agreement=self.agree[t] / self.samples,
            synaptic_operations=sum(float(layer.synaptic_operations.sum()) for layer in layers) / self.samples,
            spikes=sum(float(layer.spikes.sum()) for layer in layers) / self.samples,
            spike_rate=sum(float(layer.spikes.sum()) for layer in neurons) / slots if slots else 0.0,
            macs=sum(macs.values()),
            energy_joule={str(model): model.joule(activity) for model in models},
        )


def _others(snn: SNN) -> tuple[str, ...]:
    """The remarks of the conversion without the one that leads a report."""
    return tuple(remark for remark in snn.remarks if remark != NOTHING_SPIKES)


def _rows(activity: Activity, timesteps: int) -> tuple[LayerRow, ...]:
    n = activity.samples
    return tuple(
        LayerRow(
            name=layer.name,
            op=layer.kind,
            role=layer.role,
            neurons=layer.neurons,
            alphabet=layer.alphabet,
            spike_rate=float(layer.spikes.sum()) / (n * layer.neurons * timesteps),
            spikes=float(layer.spikes.sum()) / n,
            synaptic_operations=float(layer.synaptic_operations.sum()) / n,
            membrane_updates=layer.updates / n,
        )
        for layer in activity.layers
    )


def _name(thing: object) -> str:
    """LayerSynchronous → layer synchronous."""
    return "".join(" " + c.lower() if c.isupper() else c for c in type(thing).__name__).strip()
