"""Causes of an accuracy drop: every layer compared with the source network, and changes that recover accuracy."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike import tasks
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Node
from transpike.core.task import ACCURACY, FAULT, Metric
from transpike.errors import SettingError, TranspikeError
from transpike.lowering.layerwise import layerwise
from transpike.passes.shift import only_synapse, shifted
from transpike.results.notebook import Shown
from transpike.results.writing import write_atomically
from transpike.schedules import LayerSynchronous
from transpike.snn import SNN, takes_snn
from transpike.workflow.distributed import check_alike, processes
from transpike.workflow.explain.case import PARTS, Case, explained
from transpike.workflow.explain.layer_errors import LayerError, LayerSums
from transpike.workflow.judged import Tasks
from transpike.workflow.judged import asked as judgement

SCHEMA = 1
SAMPLES = 256
SCALES = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
SCATTERED = 300  # pairs of a layer in the JSON, and in pictures
TRIED = 3  # layers whose changes are tried


@dataclass(frozen=True)
class Change:
    """A change, tried on the same samples: ``gain`` in percentage points of accuracy, with a 95 % interval.

    By a task with another metric than a share, in the unit of the metric; positive is better. None: not defined.
    """

    what: str
    gain: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """``value`` of ``metric``, the first of the task, for layers simulated one by one.

    The answer is the mean output current. By default the metric is the accuracy. ``fault``: the recovery from which
    a reconverted layer is called a fault, as the gains of layers: in percentage points, or in the unit of the metric.
    """

    samples: int
    timesteps: int
    ann_value: float | None
    value: float | None
    low: float | None
    high: float | None
    layers: tuple[LayerError, ...]
    changes: tuple[Change, ...]
    remarks: tuple[str, ...] = ()
    scatter: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    metric: Metric = ACCURACY
    fault: float = 2.0
    task: str = "classification"

    @property
    def accuracy(self) -> float:
        """``value`` of a task that counts correct answers. Raises AttributeError for another one."""
        return self._of_accuracy(self.value)

    @property
    def ann_accuracy(self) -> float:
        """The accuracy of the source network. Raises AttributeError for a task with other metrics."""
        return self._of_accuracy(self.ann_value)

    def _of_accuracy(self, value: float | None) -> float:
        if self.metric != ACCURACY or value is None:
            raise AttributeError(f"{self.task} has no accuracy, but {self.metric.name}: see value and ann_value")
        return value

    @property
    def ranked(self) -> tuple[LayerError, ...]:
        """Layers by what is recovered when they are reconverted, then by their original, largest first."""
        return tuple(sorted(self.layers, key=lambda one: (-(one.renewed or 0.0), -(one.regained or 0.0))))

    @property
    def faults(self) -> tuple[LayerError, ...]:
        """Layers that recover ``fault`` or more when reconverted, significantly (95 %), largest first."""
        return tuple(one for one in self.ranked if (one.renewed or 0.0) >= self.fault and (one.renewed_low or 0.0) > 0)

    @property
    def first_to_change(self) -> tuple[LayerError, ...]:
        """``faults``, then the other layers by accuracy recovered by the original."""
        rest = (one for one in self.layers if one not in self.faults)
        return (*self.faults, *sorted(rest, key=lambda one: -(one.regained or 0.0)))

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data; of a task with metrics ``value`` and ``ann_value`` instead of accuracies."""
        if self.metric == ACCURACY:
            values: dict[str, Any] = {"ann_accuracy": self.ann_value, "accuracy": self.value}
        else:
            values = {"task": self.task, "metric": dataclasses.asdict(self.metric), "fault": self.fault}
            values |= {"ann_value": self.ann_value, "value": self.value}
        return {
            "schema": SCHEMA, "samples": self.samples, "timesteps": self.timesteps, **values,
            "low": self.low, "high": self.high,
            "layers": [dataclasses.asdict(one) for one in self.layers],
            "ranked": [one.name for one in self.ranked], "faults": [one.name for one in self.faults],
            "changes": [dataclasses.asdict(one) for one in self.changes], "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "scatter": {name: _rounded(pairs) for name, pairs in self.scatter.items()},
        }  # fmt: skip

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())


@takes_snn
def explain(
    snn: SNN,
    data: Any,
    *,
    timesteps: int | None = None,
    samples: int = SAMPLES,
    oracle: bool = True,
    renew: bool = True,
    changes: bool = True,
    output: str | int | None = None,
    task: Tasks | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Explanation:
    """Compare every layer of ``snn`` with the network it came from, on the first ``samples`` of ``data``.

    Layers are simulated one by one, over all time steps, in float32, with the readout of the network. ``oracle``
    replaces each layer in turn by its original (weights and activation of the source, on the mean outputs of the
    spiking layers before it) and measures how much better answers get: the cost of spiking there. ``renew`` replaces
    its weights (with biases and pools), and then its neurons, by those of the source converted again by the recipe,
    calibrated on these inputs: what is recovered in this way is an error of the layer, not a cost of spiking.
    ``changes`` tries more time steps, windows, other thresholds and biases where most accuracy was recovered. ``data``,
    ``output`` and ``task`` as for ``evaluate``; inside of ``distributed_samples`` processes share the simulations.
    ``progress(done, total)`` counts simulations.
    Raises DataError for data without targets, SettingError for phase cycles, windows with wait steps and early firing,
    whose layers cannot run one by one, and for pools before neurons. Changes are chosen and measured on the same
    samples, which overestimates small gains.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise SettingError(f"samples must be an integer of at least 1, not {samples!r}")
    steps = snn.timesteps if timesteps is None else snn.schedule.check(timesteps)
    layerwise(snn.graph, snn.schedule, steps, "explanations")
    with torch.no_grad():
        case = Case.of(snn, data, samples, steps, *judgement(snn.outputs, task, output))
        given = {"timesteps": steps, "task": case.task, "oracle": oracle, "renew": renew, "changes": changes}
        check_alike(processes(), snn, samples={"inputs": case.x, "targets": case.y}, **given)
        return _explained_case(case, oracle, renew, changes, progress)


def _explained_case(
    case: Case, oracle: bool, renew: bool, changes: bool, progress: Callable[[int, int | None], None] | None
) -> Explanation:
    names = [node.name for node in case.snn.graph if explained(node, case.source)]
    remarks = list(tasks.remarks(case.task))
    if not names:
        remarks.append("there is no spiking layer to compare with the source network")
    reconverted: Graph | None = None
    try:
        reconverted = case.reconverted() if renew else None
    except TranspikeError as error:
        remarks.append(f"layers were not reconverted, because the source network cannot be converted again: {error}")
    runs = 1 + len(names) * (oracle + len(PARTS) * (reconverted is not None))
    total = case.batches * runs + (3 + TRIED * (len(SCALES) + 2)) * changes
    done = 0

    def advance(count: int = 1) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    sums = {name: LayerSums() for name in names}
    right, originals, renewed = case.compared(sums, oracle, reconverted, advance)
    layers = []
    for name in names:
        regained = case.points(originals[name], right) if name in originals else (None,) * 3
        parts = [(*case.points(renewed[part, name], right), part) for part in PARTS if (part, name) in renewed]
        again = max(parts, key=_largest) if parts else (None,) * 4
        layers.append(
            dataclasses.replace(
                sums[name].layer(name),
                regained=regained[0], regained_low=regained[1], regained_high=regained[2],
                renewed=again[0], renewed_low=again[1], renewed_high=again[2], fault=again[3],
            )
        )  # fmt: skip
    task, metric = case.task, case.task.first
    value, ann, (low, high) = task.value(right), task.value(case.ann), task.interval(right)
    found = Explanation(
        samples=len(right),
        timesteps=case.timesteps,
        ann_value=ann,
        value=value,
        low=low,
        high=high,
        layers=tuple(layers),
        changes=(),
        remarks=tuple(remarks),
        scatter={name: sums[name].scatter() for name in names},
        warnings=case.warnings,
        metric=metric,
        fault=metric.shown(FAULT * task.room(value or 0.0)),
        task=str(task),
    )
    if changes:
        tried = _Tried(case, right, advance)
        tried.whole_network(reconverted)
        for layer in found.first_to_change[:TRIED]:
            tried.layer(case.snn.graph[layer.name], sums[layer.name].missing())
        best = sorted(tried.changes, key=lambda change: -_gain(change))
        again_ = [Change(f"reconvert the {one.fault} of {one.name}", *_change(one)) for one in found.faults[:TRIED]]
        found = dataclasses.replace(found, changes=tuple(sorted(best + again_, key=lambda change: -_gain(change))))
        if done < total:  # changes that could not be tried
            advance(total - done)
    return found


def _largest(part: tuple[float | None, float | None, float | None, str]) -> tuple[float | str, ...]:
    """The order of gains: those that are not defined are the smallest."""
    *numbers, name = part
    return (*(-math.inf if one is None else one for one in numbers), name)


def _change(one: LayerError) -> tuple[float | None, float | None, float | None]:
    return one.renewed, one.renewed_low, one.renewed_high


def _gain(change: Change) -> float:
    return -math.inf if change.gain is None else change.gain


def _rounded(pairs: tuple[Tensor, Tensor]) -> list[list[float]]:
    """[activation, output], a few hundred pairs."""
    some = torch.stack(pairs, 1)[:: max(1, len(pairs[0]) // SCATTERED)]
    return [[float(f"{a:.5g}"), float(f"{b:.5g}")] for a, b in some.tolist()]


class _Tried:
    """Changes and their gains on the same samples."""

    def __init__(self, case: Case, right: Tensor, advance: Callable[[], None]) -> None:
        self.case, self.right, self.advance, self.changes = case, right, advance, list[Change]()
        self.by_channel: Graph | None = None
        recipe = case.snn.recipe
        if getattr(recipe, "granularity", None) == "layer":
            try:
                self.by_channel = case.reconverted(dataclasses.replace(recipe, granularity="channel"))  # type: ignore[type-var]
            except TranspikeError:
                self.by_channel = None  # the recipe may support only one threshold per layer

    def keep(self, what: str, outcome: Tensor) -> None:
        self.changes.append(Change(what, *self.case.points(outcome, self.right)))
        self.advance()

    def whole_network(self, reconverted: Graph | None) -> None:
        """Try more time steps, a window for each layer, and a reconverted output layer."""
        case, graph = self.case, self.case.snn.graph
        units = [node.op.unit for node in graph if isinstance(node.op, Neuron) and not node.op.is_delay]
        if case.snn.schedule.mode != "slots" and case.snn.encoder.most_steps(case.x) is None:
            more = math.ceil(1.5 * case.timesteps)
            self.keep(f"raise T to {more}", case.run(graph, more))
        remembers = all(unit is not None and unit.reset == "soft" and unit.leak == 1 for unit in units)
        if case.snn.schedule.mode == "steps" and remembers:
            schedule = LayerSynchronous()
            total = schedule.total_steps(graph, case.timesteps)
            self.keep(f"a window for each layer ({total} steps in total)", case.run(graph, schedule=schedule))
        if reconverted is not None:
            name = graph.output.name
            self.keep(f"reconvert {name}", case.with_layer(name, reconverted))

    def layer(self, node: Node, missing: Tensor) -> None:
        """Try other thresholds, channel-wise thresholds, and the missing bias of the layer."""
        case, graph, name = self.case, self.case.snn.graph, node.name
        assert isinstance(node.op, Neuron)
        unit = node.op.unit
        synapse = only_synapse(graph, name)
        if synapse is not None:
            self.keep(f"correct the biases before {name}", case.run(shifted(graph, synapse, missing.float())))
        if unit is None or "threshold" not in node.op.tensors() or unit.code is not None:
            return
        if self.by_channel is not None:
            self.keep(f"channel-wise thresholds on {name}", case.with_layer(name, self.by_channel))
        best: tuple[Tensor, float, float] | None = None
        for scale in SCALES:
            outcome = case.run(_scaled(graph, node, scale))
            rank = case.task.first.rank(case.task.value(outcome))
            if best is None or rank > best[2]:
                best = outcome, scale, rank
            if scale != SCALES[-1]:
                self.advance()
        assert best is not None
        self.keep(f"{best[1]:g} × the threshold of {name}", best[0])


def _scaled(graph: Graph, node: Node, scale: float) -> Graph:
    """The graph with one threshold and its spike scale multiplied."""
    assert isinstance(node.op, Neuron)
    tensors = node.op.tensors()
    changed = {"threshold": tensors["threshold"] * scale}
    if "spike_scale" in tensors:
        changed["spike_scale"] = tensors["spike_scale"] * scale
    return graph.replaced(dataclasses.replace(node, op=node.op.with_tensors(**changed)))
