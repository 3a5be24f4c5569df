"""Where the accuracy went: every layer against the network it came from, and what a change would give back."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike._layer_errors import LayerError, LayerSums
from transpike.core.batches import pairs
from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op
from transpike.core.sequence import layer_by_layer, layerwise
from transpike.core.step import Context
from transpike.errors import DataError, SettingError
from transpike.evaluate import paired_difference, wilson
from transpike.files import write_atomically
from transpike.snn import SNN
from transpike.steps import FoldBatchNorm

SCHEMA = 1
SAMPLES = 256
BATCH = 32
FAULT = 2.0  # points that a layer alone must give back to be called a fault
SCALES = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
TRIED = 3  # layers whose changes are tried
BUDGET = 2**30  # bytes of what is held of a batch


@dataclass(frozen=True)
class Change:
    """Something to do, tried on the same images: ``gain`` in points of accuracy, with a 95 % interval."""

    what: str
    gain: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """``accuracy`` is that of layers simulated one by one, read as the mean of the output's current."""

    samples: int
    timesteps: int
    ann_accuracy: float
    accuracy: float
    low: float
    high: float
    layers: tuple[LayerError, ...]
    changes: tuple[Change, ...]
    remarks: tuple[str, ...] = ()
    scatter: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def ranked(self) -> tuple[LayerError, ...]:
        """Layers by what they alone give back, the most first."""
        return tuple(sorted(self.layers, key=lambda one: -(one.regained or 0.0)))

    @property
    def faults(self) -> tuple[LayerError, ...]:
        """Layers that alone give back two points or more, beyond what chance would, the most first."""
        return tuple(one for one in self.ranked if (one.regained or 0.0) >= FAULT and (one.regained_low or 0.0) > 0)

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        return {
            "schema": SCHEMA, "samples": self.samples, "timesteps": self.timesteps, "ann_accuracy": self.ann_accuracy,
            "accuracy": self.accuracy, "low": self.low, "high": self.high,
            "layers": [dataclasses.asdict(one) for one in self.layers],
            "ranked": [one.name for one in self.ranked], "faults": [one.name for one in self.faults],
            "changes": [dataclasses.asdict(one) for one in self.changes], "remarks": list(self.remarks),
        }  # fmt: skip

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())


def explain(
    snn: SNN,
    data: Any,
    *,
    timesteps: int | None = None,
    samples: int = SAMPLES,
    oracle: bool = True,
    changes: bool = True,
    progress: Callable[[int, int | None], None] | None = None,
) -> Explanation:
    """Compare every layer of ``snn`` with the network it came from, on the first ``samples`` of ``data``.

    Layers are simulated one by one, each whole in time, in float32. ``oracle`` replaces one layer after another by its
    original (weights and activation of the source on what the spiking layers before it send, constant in time) and
    measures the accuracy that comes back. ``changes`` then tries more steps, other thresholds and corrected biases
    where the most came back. ``data`` as for ``evaluate``; ``progress(done, total)`` counts simulations.
    Raises DataError for data without targets, SettingError for phase cycles, windows held for a part and early firing,
    whose layers do not run one by one, and for pools before
    neurons. Changes are chosen and measured on the same images, so that small gains flatter them.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise SettingError(f"samples must be a whole number from 1 on, not {samples!r}")
    steps = snn.timesteps if timesteps is None else snn.schedule.check(timesteps)
    layerwise(snn.schedule, steps, "explanations")
    with torch.no_grad():
        return _explained_case(_Case.of(snn, data, samples, steps), oracle, changes, progress)


def _explained_case(
    case: "_Case", oracle: bool, changes: bool, progress: Callable[[int, int | None], None] | None
) -> Explanation:
    snn, steps = case.snn, case.timesteps
    names = [node.name for node in snn.graph if _explained(node, case.source)]
    total = case.batches * (1 + len(names) * oracle) + (1 + TRIED * len(SCALES)) * changes
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    sums = {name: LayerSums() for name in names}
    right, originals = case.compared(sums, oracle, advance)
    layers = []
    for name in names:
        layer = sums[name].layer(name)
        if oracle:
            difference, low, high = paired_difference(originals[name], right)
            layer = dataclasses.replace(
                layer, regained=100 * difference, regained_low=100 * low, regained_high=100 * high
            )
        layers.append(layer)
    correct, count = int(right.sum()), len(right)
    found = Explanation(
        samples=count,
        timesteps=steps,
        ann_accuracy=case.ann,
        accuracy=correct / count,
        low=wilson(correct, count)[0],
        high=wilson(correct, count)[1],
        layers=tuple(layers),
        changes=(),
        scatter={name: sums[name].scatter() for name in names},
    )
    if not changes:
        return found
    tried = _tried(snn, case, found, right, advance)
    return dataclasses.replace(found, changes=tuple(sorted(tried, key=lambda change: -change.gain)))


def _explained(node: Node, source: Graph) -> bool:
    activations = {n.name for n in source if _is_activation(n)}
    return isinstance(node.op, Neuron) and not node.op.relays and node.name in activations


@dataclass(frozen=True, eq=False)
class _Case:
    """The images, their targets, and the source network with batch normalisation folded."""

    snn: SNN
    source: Graph
    x: Tensor
    shown: Tensor
    y: Tensor
    ann: float
    timesteps: int

    @classmethod
    def of(cls, snn: SNN, data: Any, samples: int, timesteps: int) -> "_Case":
        inputs, targets, seen = [], [], 0
        for x, y in pairs(data):
            if y is None:
                raise DataError("an explanation needs targets: give batches of (input, target)")
            inputs.append(x[: samples - seen])
            targets.append(y.reshape(-1)[: samples - seen])
            seen += len(inputs[-1])
            if seen >= samples:
                break
        if not seen:
            raise DataError("there are no samples to explain")
        x, y = snn.prepare(torch.cat(inputs)).cpu().float(), torch.cat(targets).cpu()
        shown = snn.encoder.accumulate(x)
        source = FoldBatchNorm().apply(snn.source, None)  # type: ignore[arg-type]
        table = {node.name: node for node in source}
        for node in snn.graph:
            there = table.get(node.name)
            fires = isinstance(node.op, Neuron) and not node.op.relays and node.name != snn.graph.output.name
            if fires and there is not None and not (_is_activation(there) and there.shape == node.shape):
                raise SettingError(
                    f"the neurons of {node.name} stand behind a pool, elsewhere than the activation in the source "
                    "network: convert with another rule than pooling='before-neuron' to explain it"
                )
        right = torch.cat([source.run(part).argmax(-1) for part in shown.split(BATCH)]) == y
        return cls(snn, source, x, shown, y, float(right.double().mean()), timesteps)

    @property
    def batches(self) -> int:
        """How many parts the comparison takes."""
        return len(self._parts(self._held, self.timesteps))

    @property
    def _held(self) -> int:
        return sum(math.prod(node.shape) for node in self.snn.graph if isinstance(node.op, Cell))

    def compared(
        self, sums: "dict[str, LayerSums]", oracle: bool, advance: Callable[[], None]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Which samples are right, (samples,); with ``oracle`` also those with each layer replaced by its original."""
        graph, right = self.snn.graph, list[Tensor]()
        originals: dict[str, list[Tensor]] = {name: [] for name in sums}
        behind = {name: _behind(graph, name) for name in sums}
        for context, shown, y in self._parts(self._held, self.timesteps):
            trains: dict[str, Tensor] = {}

            def see(node: Node, train: Tensor, trains: dict[str, Tensor] = trains) -> None:
                if isinstance(node.op, Cell):
                    trains[node.name] = train

            right.append(layer_by_layer(graph, context, shown, {}, see).mean(0).argmax(-1) == y)
            sent = {name: train.mean(0) for name, train in trains.items()}
            self._add(graph, sums, self.timesteps, shown, sent)
            advance()
            for name in sums if oracle else ():
                given = {other: train for other, train in trains.items() if other not in behind[name]}
                given[name] = self._original(name, shown, sent)[None]
                sums[name].compare(sent[name], given[name][0])
                originals[name].append(layer_by_layer(graph, context, shown, given).mean(0).argmax(-1) == y)
                advance()
        return torch.cat(right), {name: torch.cat(found) for name, found in originals.items() if found}

    def run(self, graph: Graph, timesteps: int | None = None) -> Tensor:
        """Which samples a changed network has right, (samples,)."""
        largest, steps = max(math.prod(node.shape) for node in graph), timesteps or self.timesteps
        right = [
            layer_by_layer(graph, context, shown, {}).mean(0).argmax(-1) == y
            for context, shown, y in self._parts(largest, steps)
        ]
        return torch.cat(right)

    def _parts(self, elements: int, steps: int) -> list[tuple[Context, Tensor, Tensor]]:
        """Batches of which ``elements`` of every sample and step fit into the memory at once."""
        batch = max(1, min(BATCH, BUDGET // (4 * elements * steps)))
        framed = self.snn.encoder.has_frames
        found = []
        for x, shown, y in zip(self.x.split(batch), self.shown.split(batch), self.y.split(batch), strict=True):
            context = Context(
                self.snn.source, (shown,), steps, encoder=self.snn.encoder, schedule=self.snn.schedule,
                recorded=x if framed else None,
            )  # fmt: skip
            found.append((context, shown, y))
        return found

    def _original(self, name: str, shown: Tensor, sent: dict[str, Tensor]) -> Tensor:
        """What the source's layer gives on what the spiking layers before it send."""
        values: dict[str, Tensor] = {}
        for node in self.source:
            assert isinstance(node.op, (Op, Input))
            output = shown if isinstance(node.op, Input) else node.op.run(*(values[i] for i in node.inputs))
            if node.name == name:
                return output
            values[node.name] = sent.get(node.name, output) if _is_activation(node) else output
        raise AssertionError(f"{name} is not in the source network")

    def _add(
        self, graph: Graph, sums: "dict[str, LayerSums]", steps: int, shown: Tensor, sent: dict[str, Tensor]
    ) -> None:
        """The layers' currents from what they sent in the mean, and the source's activations beside them."""
        activations: dict[str, Tensor] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if node.name in sums:
                activations[node.name] = output

        self.source.run(shown, observe=see)
        values: dict[str, Tensor] = {}
        for node in graph:
            if isinstance(node.op, Input):
                values[node.name] = shown
            elif isinstance(node.op, Op):
                values[node.name] = node.op.run(*(values[i] for i in node.inputs))
            else:
                if node.name in sums:
                    assert isinstance(node.op, Neuron)
                    current, sent_here = values[node.inputs[0]], sent[node.name]
                    sums[node.name].add(node.op, current, sent_here, activations[node.name], steps)
                values[node.name] = sent[node.name]


def _is_activation(node: Node) -> bool:
    return isinstance(node.op, Op) and node.op.role == "activation"


def _behind(graph: Graph, name: str) -> set[str]:
    """The layer and all that depends on it."""
    found = {name}
    for node in graph:
        if found & set(node.inputs):
            found.add(node.name)
    return found


def _tried(snn: SNN, case: _Case, found: Explanation, right: Tensor, advance: Callable[[], None]) -> list[Change]:
    """Changes and what they give, on the same images."""
    tried: list[Change] = []

    def keep(what: str, outcome: Tensor) -> None:
        difference, low, high = paired_difference(outcome, right)
        tried.append(Change(what, 100 * difference, 100 * low, 100 * high))
        advance()

    if snn.schedule.mode != "slots":
        more = math.ceil(1.5 * case.timesteps)
        if snn.encoder.most_steps(case.x) is None:
            keep(f"raise T to {more}", case.run(snn.graph, more))
    for layer in found.ranked[:TRIED]:
        node = snn.graph[layer.name]
        assert isinstance(node.op, Neuron)
        unit = node.op.unit
        if unit is None or "threshold" not in node.op.tensors() or unit.code is not None:
            continue
        best: tuple[Tensor, float] | None = None
        for scale in SCALES:
            outcome = case.run(_scaled(snn.graph, node, scale))
            advance()
            if best is None or int(outcome.sum()) > int(best[0].sum()):
                best = outcome, scale
        assert best is not None
        difference, low, high = paired_difference(best[0], right)
        tried.append(Change(f"{best[1]:g} × the threshold of {layer.name}", 100 * difference, 100 * low, 100 * high))
    return tried


def _scaled(graph: Graph, node: Node, scale: float) -> Graph:
    """The graph with one threshold, and what its spikes are worth, scaled."""
    assert isinstance(node.op, Neuron)
    tensors = node.op.tensors()
    changed = {"threshold": tensors["threshold"] * scale}
    if "worth" in tensors:
        changed["worth"] = tensors["worth"] * scale
    return graph.replaced(dataclasses.replace(node, op=node.op.with_tensors(**changed)))
