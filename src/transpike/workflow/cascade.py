"""A cascade: a small network screens every sample, a larger one classifies the samples that the first passes on."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.core.inputs import Inputs
from transpike.core.task import AnyTask, OutcomeTask
from transpike.data.batches import with_targets
from transpike.engines import Engine, engine_named
from transpike.errors import DataError, SettingError
from transpike.lowering.activity import multiplications
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically
from transpike.snn import SNN, takes_snn
from transpike.tasks import Binary, Classification, TopK
from transpike.workflow.judged import Judged
from transpike.workflow.judged import asked as judgement

PER_MAC, PER_OPERATION, PER_UPDATE = 2, 3, 3


@dataclass(frozen=True)
class Cost:
    """Mean cost of one sample, both networks together.

    ``macs`` multiplications (of an SNN: the remaining MACs), ``synaptic_operations``, ``membrane_updates``;
    ``weights_fetched`` = macs + synaptic operations (no reuse); ``accesses`` = 2 · macs (weight, input) + 3 · synaptic
    operations (weight, potential read and written) + 3 · membrane updates (bias, potential read and written): the
    counts of Lemaire et al. 2022 (arXiv 2210.13107) without biases of the ANN, outputs, spike queues and addressing.
    """

    macs: float = 0.0
    synaptic_operations: float = 0.0
    membrane_updates: float = 0.0

    @property
    def weights_fetched(self) -> float:
        return self.macs + self.synaptic_operations

    @property
    def accesses(self) -> float:
        return PER_MAC * self.macs + PER_OPERATION * self.synaptic_operations + PER_UPDATE * self.membrane_updates

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.macs + other.macs,
            self.synaptic_operations + other.synaptic_operations,
            self.membrane_updates + other.membrane_updates,
        )

    def __truediv__(self, samples: int) -> "Cost":
        return Cost(self.macs / samples, self.synaptic_operations / samples, self.membrane_updates / samples)


@dataclass(frozen=True)
class Outcome:
    """Answers of a cascade. ``confusion[t][p]``: number of samples of class t that were classified as p.

    ``screened``: the same for the screen alone, normal or abnormal. Fractions are in [0, 1], 0 for an empty class.
    """

    confusion: tuple[tuple[int, ...], ...]
    screened: tuple[tuple[int, int], tuple[int, int]]
    cost: Cost

    @property
    def samples(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        return sum(row[number] for number, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy. It assumes independent samples; those of one person are not."""
        return wilson(self.correct, self.samples)

    @property
    def sensitivity(self) -> tuple[float, ...]:
        """Recall of each class."""
        return tuple(_share(row[number], sum(row)) for number, row in enumerate(self.confusion))

    @property
    def predictive_value(self) -> tuple[float, ...]:
        """Precision (positive predictive value) of each class."""
        columns = list(zip(*self.confusion, strict=True))
        return tuple(_share(column[number], sum(column)) for number, column in enumerate(columns))

    @property
    def f1(self) -> tuple[float, ...]:
        """2 · sensitivity · predictive value / (sensitivity + predictive value) of each class."""
        both = zip(self.sensitivity, self.predictive_value, strict=True)
        return tuple(_share(2 * s * p, s + p) for s, p in both)

    @property
    def macro_f1(self) -> float:
        return sum(self.f1) / len(self.confusion)

    @property
    def forwarded(self) -> float:
        """The share of samples that the screen passed on to the second network."""
        return (self.screened[0][1] + self.screened[1][1]) / self.samples

    @property
    def normal_recall(self) -> float:
        """The share of normal samples that the screen classified as normal."""
        return _share(self.screened[0][0], sum(self.screened[0]))

    @property
    def abnormal_recall(self) -> float:
        """The share of abnormal samples that the screen passed on."""
        return _share(self.screened[1][1], sum(self.screened[1]))

    def __add__(self, other: "Outcome") -> "Outcome":
        """Both outcomes combined, for example of the parts of a test set that different cascades processed."""
        if len(self.confusion) != len(other.confusion):
            raise DataError(f"outcomes of {len(self.confusion)} and {len(other.confusion)} classes cannot be added")
        n, m = self.samples, other.samples
        cost = Cost(*((n * a + m * b) / (n + m) for a, b in zip(asdict(self.cost).values(), asdict(other.cost).values(),
                                                                strict=True)))  # fmt: skip
        confusion, screened = (_added(a, b) for a, b in ((self.confusion, other.confusion),
                                                         (self.screened, other.screened)))  # fmt: skip
        return Outcome(confusion, screened, cost)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Numbers only."""
        names = ("samples", "accuracy", "interval", "macro_f1", "sensitivity", "predictive_value", "f1", "forwarded",
                 "normal_recall", "abnormal_recall", "confusion", "screened")  # fmt: skip
        cost = {**asdict(self.cost), "weights_fetched": self.cost.weights_fetched, "accesses": self.cost.accesses}
        return {**{name: getattr(self, name) for name in names}, "cost": cost}


@dataclass(frozen=True)
class CascadeReport:
    """Results of a cascade of two spiking networks, and of the cascade of their source networks.

    ``exact``: every run stayed on the exact grid, so every engine gives these answers; ``ties``: see Trace.
    ``warnings``: differences between the inputs of a network and those of its calibration.
    """

    ann: Outcome
    snn: Outcome
    total_steps: tuple[int, int]
    exact: bool
    ties: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Numbers only."""
        return {"ann": self.ann.to_json(), "snn": self.snn.to_json(), "total_steps": self.total_steps,
                "exact": self.exact, "ties": self.ties, "warnings": list(self.warnings)}  # fmt: skip

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())


@takes_snn
def cascade(
    screen: SNN,
    second: SNN,
    data: Any,
    *,
    normal: int = 0,
    engine: str = "auto",
    screen_output: str | int | None = None,
    output: str | int | None = None,
    task: AnyTask | None = None,
) -> CascadeReport:
    """Run every sample through ``screen``; ``second`` classifies those that the screen does not classify as normal.

    ``data``: batches of (input, target), or a pair of tensors; targets are classes of ``second``, and ``normal`` is
    the class that corresponds to class 0 of the screen, which has two classes, or one logit that is positive for the
    others. ``second`` may classify a sample as normal. Each network applies its own preprocessing; the cascade of ANNs
    selects the samples to pass on by itself. Several inputs are those of both networks; of several outputs
    ``screen_output`` and ``output`` decide. ``task``, default classification, may be ``transpike.tasks.Binary``.
    Raises DataError for data without targets or samples, SettingError for networks that do not match and for a task
    whose answer is not one class of a sample.
    """
    parts = _Part.screen(screen, screen_output), _Part.second(second, task, output)
    tally = _Tally(*parts, normal, engine_named(engine))
    for x, given in with_targets(data, screen.sample_shape):
        y = parts[1].judged.target(given)
        if y is None:
            raise DataError("a cascade needs targets: pass batches of (input, target)")
        tally.add(x, y.cpu())
    if not tally.samples:
        raise DataError("there are no samples to evaluate")
    return tally.report()


@dataclass(frozen=True, eq=False)
class _Part:
    """A network, the output that decides, and its task."""

    snn: SNN
    judged: Judged
    task: OutcomeTask

    @classmethod
    def screen(cls, snn: SNN, output: str | int | None) -> "_Part":
        part = cls(snn, judgement(snn.outputs, Classification(), output)[1], Classification())
        if part.shape not in ((2,), (1,)):
            raise SettingError(f"a screen needs two classes, normal and abnormal, or one logit, not {part.shape}")
        return part if part.shape == (2,) else cls(snn, part.judged, Binary())

    @classmethod
    def second(cls, snn: SNN, task: AnyTask | None, output: str | int | None) -> "_Part":
        asked, judged = judgement(snn.outputs, task or Classification(), output)
        if not isinstance(asked, OutcomeTask) or not asked.has_classes or isinstance(asked, TopK):
            raise SettingError(
                f"a cascade counts one class per sample, but {asked} has another kind of answer: use classification or "
                "Binary(); evaluate() measures each network by any task"
            )
        return cls(snn, judged, asked)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.judged.shape(self.snn.source.output.shape)

    @property
    def classes(self) -> int:
        return 2 if isinstance(self.task, Binary) else self.shape[-1] if self.shape else 0


class _Tally:
    """Adds up the results of batches, for both cascades."""

    def __init__(self, screen: _Part, second: _Part, normal: int, engine: Engine) -> None:
        classes = second.classes
        if not 0 <= normal < classes:
            raise SettingError(f"normal must be one of the second network's {classes} classes, not {normal}")
        self.parts, self.normal, self.engine, self.samples = (screen, second), normal, engine, 0
        self.confusion = {kind: torch.zeros(classes, classes, dtype=torch.int64) for kind in ("ann", "snn")}
        self.screened = {kind: torch.zeros(2, 2, dtype=torch.int64) for kind in ("ann", "snn")}
        self.cost = {"ann": Cost(), "snn": Cost()}
        self.macs = [float(multiplications(part.snn.source)) for part in self.parts]
        self.exact, self.ties = True, 0
        self.inputs = tuple(part.snn.input_check() for part in self.parts)

    def add(self, x: Tensor | Inputs, y: Tensor) -> None:
        y = self.parts[1].task.check(self.parts[1].shape, len(x), y)
        self.samples += len(x)
        for kind in ("ann", "snn"):
            passed = self._predict(kind, 0, x) > 0
            answer = torch.full_like(y, self.normal)
            if passed.any():
                answer[passed] = self._predict(kind, 1, x[passed.to(x.device)])
            _count(self.confusion[kind], y, answer)
            _count(self.screened[kind], (y != self.normal).long(), passed.long())

    def _predict(self, kind: str, which: int, x: Tensor | Inputs) -> Tensor:
        part = self.parts[which]
        network, answers = part.snn, part.task.answers
        if kind == "ann":
            self.cost["ann"] += Cost(macs=len(x) * self.macs[which])
            with torch.no_grad():
                output = network.source.run(network.encoder.accumulate(network.prepare(x)))
            return answers(part.judged.part(output)).cpu()
        prepared = network.prepare(x)
        self.inputs[which].add(prepared)
        trace = network.run_prepared(prepared, network.timesteps, self.engine, None, (), True)
        self.cost["snn"] += _cost(trace.activity)
        self.exact, self.ties = self.exact and trace.exact, self.ties + trace.ties
        return answers(part.judged.part(trace.logits[-1])).cpu()

    def report(self) -> CascadeReport:
        ann, snn = (
            Outcome(_rows(self.confusion[kind]), _rows(self.screened[kind]), self.cost[kind] / self.samples)  # type: ignore[arg-type]
            for kind in ("ann", "snn")
        )
        steps = (self.parts[0].snn.total_steps(), self.parts[1].snn.total_steps())
        warnings = tuple(warning for check in self.inputs for warning in check.finished())
        return CascadeReport(ann, snn, steps, self.exact, self.ties, warnings)


def _cost(activity: Activity) -> Cost:
    """The sum over the samples of a run."""
    layers = activity.layers
    return Cost(
        float(activity.samples * sum(activity.macs.values())),
        sum(float(layer.synaptic_operations.sum()) for layer in layers),
        float(sum(layer.updates for layer in layers)),
    )


def _count(table: Tensor, truth: Tensor, answer: Tensor) -> None:
    table += torch.bincount(truth * len(table) + answer, minlength=table.numel()).reshape(table.shape)


def _rows(table: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _added(a: tuple[tuple[int, ...], ...], b: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(x + y for x, y in zip(*rows, strict=True)) for rows in zip(a, b, strict=True))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
