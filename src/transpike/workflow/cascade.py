"""A cascade: a small network screens every sample, a larger one classifies the samples that the first passes on."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.data.batches import pairs
from transpike.engines import Engine, engine_named
from transpike.errors import DataError, SettingError
from transpike.lowering.activity import multiplications
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically
from transpike.snn import SNN, takes_snn
from transpike.tasks import Classification
from transpike.workflow.demands import judges_one_output, takes_one_input

TASK = Classification()  # a screen and its confusion matrix are about classes
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
@judges_one_output
@takes_one_input
def cascade(screen: SNN, second: SNN, data: Any, *, normal: int = 0, engine: str = "auto") -> CascadeReport:
    """Run every sample through ``screen``; ``second`` classifies those that the screen does not classify as normal.

    ``data``: batches of (input, target), or a pair of tensors; targets are classes of ``second``, and ``normal`` is
    the class that corresponds to class 0 of the screen, which has two classes. ``second`` may classify a sample as
    normal. Each network applies its own preprocessing; the cascade of ANNs selects the samples to pass on by itself.
    Raises DataError for data without targets or samples, SettingError for networks that do not match.
    """
    runner, tally = engine_named(engine), None
    for x, y in pairs(data, screen.sample_shape):
        if y is None:
            raise DataError("a cascade needs targets: give batches of (input, target)")
        if tally is None:
            tally = _Tally(screen, second, normal, runner)
        tally.add(x, y.cpu())
    if tally is None:
        raise DataError("there are no samples to evaluate")
    return tally.report()


class _Tally:
    """Adds up the results of batches, for both cascades."""

    def __init__(self, screen: SNN, second: SNN, normal: int, engine: Engine) -> None:
        classes = second.graph.output.shape[-1] if second.graph.output.shape else 0
        if screen.graph.output.shape != (2,):
            raise SettingError(f"a screen needs two classes, normal and abnormal, not {screen.graph.output.shape}")
        if not 0 <= normal < classes:
            raise SettingError(f"normal must be one of the second network's {classes} classes, not {normal}")
        self.networks, self.normal, self.engine = (screen, second), normal, engine
        self.confusion = {kind: torch.zeros(classes, classes, dtype=torch.int64) for kind in ("ann", "snn")}
        self.screened = {kind: torch.zeros(2, 2, dtype=torch.int64) for kind in ("ann", "snn")}
        self.cost = {"ann": Cost(), "snn": Cost()}
        self.macs = [float(multiplications(network.source)) for network in self.networks]
        self.exact, self.ties = True, 0
        self.inputs = tuple(network.input_check() for network in self.networks)

    def add(self, x: Tensor, y: Tensor) -> None:
        y = TASK.check(self.networks[1].graph.output.shape, len(x), y)
        for kind in ("ann", "snn"):
            passed = self._predict(kind, 0, x) > 0
            answer = torch.full_like(y, self.normal)
            if passed.any():
                answer[passed] = self._predict(kind, 1, x[passed.to(x.device)])
            _count(self.confusion[kind], y, answer)
            _count(self.screened[kind], (y != self.normal).long(), passed.long())

    def _predict(self, kind: str, which: int, x: Tensor) -> Tensor:
        network = self.networks[which]
        if kind == "ann":
            self.cost["ann"] += Cost(macs=len(x) * self.macs[which])
            with torch.no_grad():
                return TASK.answers(network.source.run(network.encoder.accumulate(network.prepare(x)))).cpu()
        prepared = network.prepare(x)
        self.inputs[which].add(prepared)
        trace = network.run_prepared(prepared, network.timesteps, self.engine, None, (), True)
        self.cost["snn"] += _cost(trace.activity)
        self.exact, self.ties = self.exact and trace.exact, self.ties + trace.ties
        return TASK.answers(trace.logits[-1]).cpu()

    def report(self) -> CascadeReport:
        samples = int(self.confusion["ann"].sum())
        ann, snn = (
            Outcome(_rows(self.confusion[kind]), _rows(self.screened[kind]), self.cost[kind] / samples)  # type: ignore[arg-type]
            for kind in ("ann", "snn")
        )
        steps = (self.networks[0].total_steps(), self.networks[1].total_steps())
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
