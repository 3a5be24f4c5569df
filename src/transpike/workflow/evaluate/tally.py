"""Sums of an evaluation over batches: runs, counts, exactness, warnings, closeness to the source network."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike import tasks
from transpike.core.activity import Activity
from transpike.core.graph import Graph
from transpike.core.naming import listed
from transpike.core.preprocessing import described
from transpike.core.stand_in import NOTHING_SPIKES, has_neurons
from transpike.core.task import Task
from transpike.energy import EnergyModel
from transpike.lowering.activity import evaluations, multiplications, unpriced
from transpike.lowering.trace import Trace
from transpike.snn import SNN
from transpike.workflow.evaluate.evaluated import LayerRow
from transpike.workflow.evaluate.fidelity import FidelityTally
from transpike.workflow.evaluate.hybrid import Hybrid
from transpike.workflow.evaluate.outputs import OutputTally
from transpike.workflow.evaluate.pictures import SAMPLES, PictureTally
from transpike.workflow.judged import Judged
from transpike.workflow.sharing import answer_of

COUNTS = ("samples", "ties", "early", "beyond", "elements")
"""Fields of a tally that are sums of integers."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run of one batch; ``kept``: (row of the trace, timesteps) of the answers that count."""

    trace: Trace
    kept: list[tuple[int, int]]
    prepared: Tensor
    ids: Tensor
    reference: Tensor
    engine: Any


class Tally(ABC):
    """Adds up the results of batches; a subclass judges the answers."""

    def __init__(self, snn: SNN, task: Task, judged: Judged, asked: tuple[int, ...]) -> None:
        self.task, self.asked, self.inputs = task, asked, snn.input_check()
        self.samples = self.ties = self.early = self.beyond = self.elements = 0
        self.fidelity = FidelityTally(task.class_axis)
        self.judged, self.outputs = judged, OutputTally(judged, self.fidelity)
        self.pictures = PictureTally(task, asked)
        self.activities: dict[int, Activity] = {}
        self.exact, self.why = True, ""
        self.kernels: dict[str, str] = {}
        self.observed: Any = None

    @abstractmethod
    def judge_source(self, logits: Tensor, target: Tensor) -> None:
        """Judge the answers (batch, *shape) of the source network."""

    @abstractmethod
    def judge(self, snn: SNN, run: "Run", target: Tensor) -> None:
        """Judge the answers of a run."""

    def add(
        self, snn: SNN, x: Tensor, y: Tensor | None, runs: tuple[int, ...], engine: Any, first: int, source: Graph,
        see: Callable[[Tensor], Any],
    ) -> None:  # fmt: skip
        """Run a batch, the only one of this tally, in both networks; ``y`` None: the task needs no targets.

        ``first``: number of its first sample; ``source``: the source network on the device of x. ``see`` looks at the
        prepared inputs, and returns what the tally of all batches has to count.
        """
        ids = torch.arange(first, first + len(x))
        with torch.no_grad():
            prepared = snn.prepare(x)
            self.observed, self.pictures.open = see(prepared), first < SAMPLES
            self.beyond, self.elements = self.beyond + snn.beyond(prepared), self.elements + prepared.numel()
            whole = answer_of(source, snn.encoder.accumulate(prepared))
            if not bool(torch.isfinite(whole).all()):
                source.check_finite(snn.encoder.accumulate(prepared), "the test data")
            logits = self.judged.part(whole)
            y = logits if y is None else self.task.check(tuple(logits.shape[1:]), len(x), y.to(x.device))
        self.judge_source(logits, y)
        self.pictures.add_source(x, logits, y)
        for steps in runs:
            trace = snn.run_prepared(prepared, steps, engine, ids, (), True)
            # each run counts for its last answer only, although phase cycles give earlier ones too
            wanted = self.asked if snn.schedule.every_step else (steps,)
            kept = [(place, t) for place, t in enumerate(trace.timesteps) if t in wanted]
            for place, t in kept:
                self.outputs.add(t, trace.logits[place], whole)
            trace = dataclasses.replace(trace, logits=self.judged.part(trace.logits))
            self.judge(snn, Run(trace, kept, prepared, ids, logits, engine), y)
            for place, t in kept:
                self.pictures.add(t, trace.logits[place])
            before = self.activities.get(steps)
            self.activities[steps] = trace.activity if before is None else before + trace.activity
            self.ties += trace.ties
            self.early += trace.early
            self.kernels = trace.kernels
            if not trace.exact:
                self.exact, self.why = False, trace.why
        self.samples += len(x)

    def merge(self, part: "Tally") -> None:
        """Add the tally of the next batch, in the order of the samples, so that sums do not depend on who ran it."""
        if part.observed is not None:
            self.inputs.count(part.observed)
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.outputs.merge(part.outputs)
        self.pictures.merge(part.pictures)
        for steps, activity in part.activities.items():
            before = self.activities.get(steps)
            self.activities[steps] = activity if before is None else before + activity
        self.kernels = part.kernels
        if not part.exact:
            self.exact, self.why = False, part.why
        self.merge_judged(part)

    @abstractmethod
    def merge_judged(self, part: Any) -> None:
        """Add what a tally of the same class has judged."""

    def state(self) -> dict[str, Any]:
        """What was added, as plain data for ``core.codec``."""
        return {
            "counts": {name: getattr(self, name) for name in COUNTS},
            "exact": (self.exact, self.why),
            "kernels": self.kernels,
            "inputs": self.inputs.state(),
            "outputs": self.outputs.state(),
            "pictures": self.pictures.state(),
            "activities": tuple(self.activities.items()),
            "judged": self.state_judged(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what ``state`` gave. Raises ValueError, or anything else, for values of another form."""
        for name in COUNTS:
            if type(state["counts"][name]) is not int or state["counts"][name] < (name == "samples"):
                raise ValueError(f"it has no number of {name}")
            setattr(self, name, state["counts"][name])
        self.exact, self.why = state["exact"]
        self.kernels, self.activities = dict(state["kernels"]), dict(state["activities"])
        if any(one.samples != self.samples for one in self.activities.values()):
            raise ValueError("its counts are those of other samples")
        self.inputs.restore(state["inputs"])
        self.outputs.restore(state["outputs"])
        self.pictures.restore(state["pictures"])
        answers = self.restore_judged(state["judged"])
        if any({*found} != {*self.asked} for found in (answers, self.fidelity.sums)):
            raise ValueError("it holds other answers")

    @abstractmethod
    def state_judged(self) -> tuple[Any, ...]:
        """What was judged, as plain data."""

    @abstractmethod
    def restore_judged(self, state: tuple[Any, ...]) -> Iterable[int]:
        """Take what ``state_judged`` gave; returns the time steps of its answers."""

    def __getstate__(self) -> dict[str, Any]:
        """Without the check of inputs, which every process has."""
        return {name: value for name, value in vars(self).items() if name != "inputs"}

    def common(
        self, snn: SNN, engine: str, remarks: tuple[str, ...], models: tuple[EnergyModel, ...]
    ) -> dict[str, Any]:
        """The fields of ``Evaluated``; ``remarks``: those of the subclass."""
        warnings = self.inputs.finished()
        exactness, activity = snn.exactness, self.activities[max(self.activities)]
        grid = (
            {}
            if exactness is None
            else {"exact_up_to": exactness.timesteps, "largest_weight_rounding": exactness.rounding}
        )
        return {
            "recipe": str(snn.recipe),
            "schedule": _name(snn.schedule),
            "engine": engine,
            "kernels": self.kernels,
            "samples": self.samples,
            "ann_macs": multiplications(snn.source),
            "layers": _rows(activity, max(self.asked)),
            "macs": activity.macs,
            "exact": self.exact,
            "exact_why": self.why,
            "ties": self.ties,
            "grid": grid,
            "encoder": _name(snn.encoder),
            "readout": _name(getattr(snn.readout, "inside", snn.readout)),
            "remarks": (
                *self._silence(snn, activity), *tasks.remarks(self.task), *_others(snn), *remarks,
                *self._remarks(snn, activity),
            ),
            "provenance": snn.provenance | {"preprocessing": described(snn.preprocessing)},
            "activities": {t: self.until(snn, t) for t in self.asked},
            "unpriced": unpriced(snn.source) | activity.unpriced,
            "evaluations": function_evaluations(snn.source, activity),
            "task": str(self.task),
            "fidelity": tuple(self.fidelity.found(t) for t in self.asked),
            "outputs": self.outputs.found(self.asked),
            "warnings": warnings,
            "pictures": tuple(self.pictures.found),
            "hybrid": Hybrid.of(snn, self.until(snn, max(self.asked)), models),
        }  # fmt: skip

    def per_answer(self, snn: SNN, t: int, activity: Activity, models: tuple[EnergyModel, ...]) -> dict[str, Any]:
        """The counts of one answer, per sample."""
        macs, layers = activity.macs, activity.layers
        neurons = [layer for layer in layers if layer.role == "neuron"]
        slots = self.samples * t * sum(layer.neurons for layer in neurons)
        return {
            "timesteps": t,
            "total_steps": snn.total_steps(t),
            "synaptic_operations": sum(float(layer.synaptic_operations.sum()) for layer in layers) / self.samples,
            "spikes": sum(float(layer.spikes.sum()) for layer in layers) / self.samples,
            "spike_rate": sum(float(layer.spikes.sum()) for layer in neurons) / slots if slots else 0.0,
            "macs": sum(macs.values()),
            "energy_joule": {str(model): model.joule(activity) for model in models},
        }

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
        if self.early:
            found.append(
                f"{self.early} spikes were sent before all of their inputs, because a value exceeded its window: "
                "use more calibration data, or a larger zeta"
            )
        if self.beyond:
            found.append(
                f"{self.beyond / self.elements:.2%} of the input values exceed {snn.encoder.largest:.3g}, the "
                "largest value of input spikes, and were clipped: scale the input, or calibrate with such inputs"
            )
        if left_out := unpriced(snn.source) | activity.unpriced:
            layers: dict[str, list[str]] = {}
            for name, what in left_out.items():
                layers.setdefault(what, []).append(name)
            groups = (f"{listed(names)} ({what}{' each' * (len(names) > 1)})" for what, names in layers.items())
            found.append(f"neither MACs nor joules include the operations of these layers: {'; '.join(groups)}")
        silent = [row.name for row in activity.layers if row.role == "neuron" and not bool(row.spikes.any())]
        if silent:
            found.append(f"no neuron of {listed(silent)} fired: use a lower threshold there, or more time steps")
        return tuple(found)

    def until(self, snn: SNN, t: int) -> Activity:
        """Activity of the first t steps: streaming counts step by step, windows and cycles have separate runs."""
        if not snn.schedule.every_step:
            return self.activities[t]
        return self.activities[max(self.activities)].until(t, snn.program.macs(t))


def rows_of(value: Tensor, samples: int, kind: torch.dtype) -> Tensor:
    """``value`` from a file; ValueError unless it has a row of this type for each sample."""
    if value.dtype != kind or value.ndim < 1 or len(value) != samples:
        raise ValueError(f"it has {value.dtype}{list(value.shape)} for {samples} samples")
    return value


def function_evaluations(source: Graph, activity: Activity) -> dict[str, dict[str, float]]:
    """Function → its evaluations per sample: of the ANN, as the spiking network executes them, and where needed."""
    ann, snn = evaluations(source), activity.evaluated
    return {
        name: dict(zip(("ann", "executed", "changed"), (ann.get(name, 0), *snn.get(name, (0.0, 0.0))), strict=True))
        for name in dict.fromkeys((*ann, *snn))
    }


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
            product_operations=float(layer.product_operations.sum()) / n,
            active_positions=layer.active_share(n),
        )
        for layer in activity.layers
    )


def _name(thing: object) -> str:
    """LayerSynchronous → layer synchronous."""
    return "".join(" " + c.lower() if c.isupper() else c for c in type(thing).__name__).strip()
