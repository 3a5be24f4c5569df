"""The samples of an explanation, and simulations of the network with one layer changed."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.inputs import InputNames, unpacked
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.core.recipe import Recipe
from transpike.core.schedule import Schedule
from transpike.core.task import Task
from transpike.data.batches import with_targets
from transpike.errors import DataError, SettingError
from transpike.lowering.layerwise import layer_by_layer
from transpike.passes import FoldBatchNorm
from transpike.passes.rewrites.rectify import rectified
from transpike.snn import SNN
from transpike.training.spiking.reconstruction import Reconstruct
from transpike.workflow.convert import convert
from transpike.workflow.distributed import processes
from transpike.workflow.explain.layer_errors import LayerSums
from transpike.workflow.explain.tallies import Compared, ComparedTally, Rows
from transpike.workflow.hybrid import behind_before
from transpike.workflow.judged import Judged
from transpike.workflow.resumable.run import Tally, added_parts
from transpike.workflow.shared_batches import Batch

BATCH = 32
PARTS = ("weights", "neurons")  # of a layer, which are replaced separately
BUDGET = 2**30  # bytes per batch
ALL = Judged()


@dataclass(frozen=True, eq=False)
class Case:
    """Samples, targets, and the source network with batch normalisation folded.

    ``ann``: what the task needs of each answer of the source network (``Task.rows``).
    """

    snn: SNN
    source: Graph
    x: Tensor
    shown: Tensor
    y: Tensor
    ann: Tensor
    timesteps: int
    task: Task
    judged: Judged = ALL
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, snn: SNN, data: Any, samples: int, timesteps: int, task: Task, judged: Judged = ALL) -> "Case":
        inputs, targets, seen = [], list[Tensor](), 0
        for x, given in with_targets(data, snn.sample_shape):
            y = judged.target(given) if task.needs_targets else None
            if y is None and task.needs_targets:
                raise DataError("an explanation needs targets: pass batches of (input, target)")
            inputs.append(snn.prepare(x[: samples - seen]).cpu().float())
            targets += [] if y is None else [y[: samples - seen]]
            seen += len(inputs[-1])
            if seen >= samples:
                break
        if not seen:
            raise DataError("there are no samples to explain")
        x = torch.cat(inputs)
        warnings = snn.checked(x)
        snn, x = behind_before(snn, x)
        shown = snn.encoder.accumulate(x)
        context = Context(snn.source, (), snn.timesteps)
        source = rectified(FoldBatchNorm().apply(snn.source, context), snn.recipe.passes, context)
        table = {node.name: node for node in source}
        for node in snn.graph:
            there = table.get(node.name)
            fires = isinstance(node.op, Neuron) and not node.op.is_delay and node.name != snn.graph.output.name
            if fires and there is not None and not (_is_activation(there) and there.shape == node.shape):
                raise SettingError(
                    f"the neurons of {node.name} follow a pool, unlike the activation in the source network: to "
                    "explain it, convert without pooling='before-neuron'"
                )
        logits = judged.part(torch.cat([source.run(part) for part in shown.split(BATCH)]))
        shape, y = tuple(logits.shape[1:]), logits
        if task.needs_targets:
            y = task.check(shape, len(x), torch.cat(targets).cpu(), "what is explained")
        ann = task.rows(logits, y)
        return cls(snn, source, x, shown, y, ann, timesteps, task, judged, warnings)

    @property
    def batches(self) -> int:
        """Number of batches of the comparison."""
        return len(self._parts(self._held, self.timesteps))

    @property
    def _held(self) -> int:
        """Elements per sample and step to keep: those of all cells, or of the output in a network without cells."""
        held = sum(math.prod(node.shape) for node in self.snn.graph if isinstance(node.op, Cell))
        return held or math.prod(self.snn.graph.output.shape)

    def compared(
        self, sums: dict[str, LayerSums], oracle: bool, reconverted: Graph | None, advance: Callable[[], None]
    ) -> tuple[Tensor, dict[str, Tensor], dict[tuple[str, str], Tensor]]:
        """Judged samples (``Task.rows``): of the network, per layer replaced by its original, and per part replaced.

        ``oracle``: also replace each layer by its original. ``reconverted``: the source converted again, to replace
        each of ``PARTS`` of each layer by its counterpart.
        """
        tally, alone = ComparedTally(sums), processes().count == 1
        after = {name: behind(self.snn.graph, name) for name in sums}

        def run(context: Context, shown: Tensor, y: Tensor) -> Compared:
            return self._compared(context, shown, y, after, oracle, reconverted, advance if alone else lambda: None)

        asked = {"oracle": oracle, "reconverted": {} if reconverted is None else reconverted.parameters()}
        for _ in self._batches(tally, run, self._held, self.timesteps, asked):
            for _ in range(0 if alone else tally.simulations):
                advance()
        return tally.found()

    def _compared(
        self, context: Context, shown: Tensor, y: Tensor, after: dict[str, set[str]], oracle: bool,
        reconverted: Graph | None, advance: Callable[[], None],
    ) -> Compared:  # fmt: skip
        """One batch; ``after``: the layers after each layer."""
        graph, trains = self.snn.graph, dict[str, Tensor]()

        def see(node: Node, train: Tensor) -> None:
            if isinstance(node.op, Cell):
                trains[node.name] = train

        found = Compared(
            self._judged(layer_by_layer(graph, context, shown, {}, see), y), {name: LayerSums() for name in after}
        )
        sent = {name: train.mean(0) for name, train in trains.items()}
        self._add(graph, found.sums, self.timesteps, shown, trains, sent)
        advance()
        output: Tensor | None
        for name, sums in found.sums.items():
            given = {other: train for other, train in trains.items() if other not in after[name]}
            if oracle:
                original = self._original(name, shown, sent)
                sums.compare(sent[name], original)
                output = layer_by_layer(graph, context, shown, given | {name: original[None]})
                found.originals[name] = self._judged(output, y)
                advance()
            if reconverted is not None:
                for part, other in self.renewed(name, reconverted).items():
                    output = self._with_layer(name, other, context, shown, given, trains[name])
                    found.renewed[part, name] = found.right if output is None else self._judged(output, y)
                    advance()
        return found

    def reconverted(self, recipe: Recipe | None = None) -> Graph:
        """The source converted again, by the same or another recipe, calibrated on these samples.

        Raises SettingError for a recipe that trains all layers together: one of them does not fit another conversion.
        """
        made_by = dataclasses.replace(recipe or self.snn.recipe, timesteps=self.timesteps)  # type: ignore[type-var]
        if any(isinstance(one, Reconstruct) for one in made_by.passes):
            raise SettingError("its recipe trains all layers together, so no single layer can be reconverted")
        packed = InputNames.of(self.snn.source.inputs) is not None
        samples = [(unpacked(self.x, self.snn.source.inputs), None)] if packed else self.x
        return convert(
            self.snn.source, made_by, samples, spiking=self.snn.spiking or None, exact_grid=False, allow_no_neurons=True
        ).graph

    def renewed(self, name: str, reconverted: Graph) -> dict[str, Graph]:
        """Graphs with one layer replaced: with reconverted weights, or with reconverted neurons.

        The weights of a layer include everything between it and the previous neurons: biases and pools too.
        """
        here, there = self.snn.graph[name], reconverted[name]
        return {
            "weights": reconverted.replaced(dataclasses.replace(there, op=here.op)),
            "neurons": self.snn.graph.replaced(dataclasses.replace(here, op=there.op)),
        }

    def run(self, graph: Graph, timesteps: int | None = None, schedule: Schedule | None = None) -> Tensor:
        """Judged samples of a changed network."""
        largest, steps = max(math.prod(node.shape) for node in graph), timesteps or self.timesteps

        def one(context: Context, shown: Tensor, y: Tensor) -> Tensor:
            return self._judged(layer_by_layer(graph, context, shown, {}), y)

        return self._rows(one, largest, steps, {"changed": graph.parameters(), "schedule": schedule}, schedule)

    def with_layer(self, name: str, other: Graph) -> Tensor:
        """Judged samples with one layer, or the output, of another conversion of the source."""
        graph, after = self.snn.graph, behind(self.snn.graph, name)

        def one(context: Context, shown: Tensor, y: Tensor) -> Tensor:
            given: dict[str, Tensor] = {}

            def see(node: Node, train: Tensor) -> None:
                if isinstance(node.op, Cell) and node.name not in after:
                    given[node.name] = train

            layer_by_layer(graph, context, shown, {}, see, until=name)
            output = self._with_layer(name, other, context, shown, given)
            assert output is not None
            return self._judged(output, y)

        return self._rows(one, self._held, self.timesteps, {"layer": name, "other": other.parameters()})

    def points(self, rows: Tensor, other: Tensor) -> tuple[float | None, float | None, float | None]:
        """``Task.gain`` as it is shown: of an accuracy in percentage points."""
        gained, low, high = map(self.task.first.shown_or_none, self.task.gain(rows, other))
        return gained, low, high

    def _with_layer(
        self,
        name: str,
        other: Graph,
        context: Context,
        shown: Tensor,
        given: dict[str, Tensor],
        before: Tensor | None = None,
    ) -> Tensor | None:
        """The output's currents, with this layer from ``other`` and ``given`` trains of the layers before it.

        None where the layer sends the same as ``before``, so that later layers do not change.
        """
        received = {one: train for one, train in given.items() if explained(self.snn.graph[one], self.source)}
        layer = layer_by_layer(other, context, shown, received, until=name)
        if name == self.snn.graph.output.name:
            return layer
        if before is not None and torch.equal(layer, before):
            return None
        return layer_by_layer(self.snn.graph, context, shown, given | {name: layer})

    def _judged(self, output: Tensor, y: Tensor) -> Tensor:
        """Judged answers of the readout, for the output's currents (time, batch, *shape)."""
        readout = self.snn.readout
        if not readout.every_step:
            output = output.mean(0, keepdim=True)
        state = readout.init(output[0])
        for t, current in enumerate(output, 1):
            state = readout.update(state, current, t)
        return self.task.rows(self.judged.part(readout.logits(state, len(output))), y)

    def _rows(
        self, run: Callable[[Context, Tensor, Tensor], Tensor], elements: int, steps: int, asked: dict[str, Any],
        schedule: Schedule | None = None,
    ) -> Tensor:  # fmt: skip
        """The judged samples of all batches; ``asked`` tells the simulation from others."""
        rows = Rows()
        for _ in self._batches(rows, run, elements, steps, asked, schedule):
            pass
        return rows.joined()

    def _batches(
        self, tally: Tally, run: Callable[[Context, Tensor, Tensor], Any], elements: int, steps: int,
        asked: dict[str, Any], schedule: Schedule | None = None,
    ) -> Iterator[None]:  # fmt: skip
        """Merge ``run`` of each batch of ``_parts``, which processes share (``distributed_samples``)."""
        parts, first = self._parts(elements, steps, schedule), 0
        batches = []
        for part in parts:
            batches.append(Batch(first, len(part[1]), part))
            first += len(part[1])
        asked |= {"timesteps": steps, "task": self.task, "samples": {"inputs": self.x, "targets": self.y}}
        return added_parts("explain", tally, self.snn, batches, lambda batch: run(*batch.content), asked)

    def _parts(
        self, elements: int, steps: int, schedule: Schedule | None = None
    ) -> list[tuple[Context, Tensor, Tensor]]:
        """Batches that fit into the memory, with ``elements`` per sample and step."""
        batch = max(1, min(BATCH, BUDGET // (4 * elements * steps)))
        framed = self.snn.encoder.has_frames
        found = []
        for x, shown, y in zip(self.x.split(batch), self.shown.split(batch), self.y.split(batch), strict=True):
            context = Context(
                self.snn.source, (shown,), steps, encoder=self.snn.encoder, schedule=schedule or self.snn.schedule,
                recorded=x if framed else None,
            )  # fmt: skip
            found.append((context, shown, y))
        return found

    def _original(self, name: str, shown: Tensor, sent: dict[str, Tensor]) -> Tensor:
        """Output of the source's layer for the outputs of the spiking layers before it."""
        values: dict[str, Tensor] = {}
        for node in self.source:
            assert isinstance(node.op, (Op, Input))
            output = (
                node.op.part(shown) if isinstance(node.op, Input) else node.op.run(*(values[i] for i in node.inputs))
            )
            if node.name == name:
                return output
            values[node.name] = sent.get(node.name, output) if _is_activation(node) else output
        raise AssertionError(f"{name} is not in the source network")

    def _add(
        self,
        graph: Graph,
        sums: dict[str, LayerSums],
        steps: int,
        shown: Tensor,
        trains: dict[str, Tensor],
        sent: dict[str, Tensor],
    ) -> None:
        """Add mean outputs, mean currents and the source's activations of every layer to ``sums``."""
        activations: dict[str, Tensor] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if node.name in sums:
                activations[node.name] = output

        self.source.run(shown, observe=see)
        values: dict[str, Tensor] = {}
        for node in graph:
            if isinstance(node.op, Input):
                values[node.name] = node.op.part(shown)
            elif isinstance(node.op, Op):
                values[node.name] = node.op.run(*(values[i] for i in node.inputs))
            else:
                if node.name in sums:
                    assert isinstance(node.op, Neuron)
                    current, sent_here = values[node.inputs[0]], sent[node.name]
                    axis = graph.channel_axes[node.name]
                    sums[node.name].add(node.op, current, sent_here, activations[node.name], steps, axis)
                    sums[node.name].fit(node.op, trains[node.name], activations[node.name], steps)
                values[node.name] = sent[node.name]


def _is_activation(node: Node) -> bool:
    return isinstance(node.op, Op) and node.op.role == "activation"


def behind(graph: Graph, name: str) -> set[str]:
    """The layer and all layers that depend on it."""
    found = {name}
    for node in graph:
        if found & set(node.inputs):
            found.add(node.name)
    return found


def explained(node: Node, source: Graph) -> bool:
    """Whether the node is a neuron layer in place of an activation of the source."""
    activations = {n.name for n in source if _is_activation(n)}
    return isinstance(node.op, Neuron) and not node.op.is_delay and node.name in activations
