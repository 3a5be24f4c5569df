"""Base classes of passes: thresholds from statistics, calibration on spikes, replacement of neurons."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from transpike.activations import Unchanged
from transpike.core.cell import Gain, Neuron
from transpike.core.channels import rows, shaped
from transpike.core.finite import at, finite
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import STEP, Context, Pass, Watch
from transpike.core.plain import is_plain
from transpike.core.stand_in import check_stand_ins
from transpike.errors import DataError, SettingError
from transpike.neurons import IntegrateAndFire
from transpike.passes._sides import silent_sides

Granularity = Literal["layer", "channel", "neuron"]
Axes = int | tuple[int, ...]


@dataclass(frozen=True)
class Thresholds(Pass):
    """Every activation becomes an integrate-and-fire neuron with v(0) = 0 and θ from ``measure``, times ``scale``.

    One threshold per layer, channel or neuron. A channel whose statistic is 0 takes its layer's largest threshold.
    A side of a two-sided function (``Rectify``) whose statistics are all 0 takes those of the other side.
    ``spiking_output`` adds a neuron after the last layer. Raises DataError for a layer that never fires on the
    calibration data.
    """

    asks: ClassVar[str] = "activations"
    sets_thresholds: ClassVar[bool] = True
    granularity: Granularity = "channel"
    spiking_output: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.granularity not in ("layer", "channel", "neuron"):
            raise SettingError(f"granularity must be 'layer', 'channel' or 'neuron', not {self.granularity!r}")
        if not 0 < self.scale < float("inf"):
            raise SettingError(f"scale must be positive, not {self.scale}: it multiplies every threshold")

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        """Node → its statistic, one value per row (``rows``)."""
        watch = self.watch(graph, context)
        if watch is None:
            raise TypeError(f"{type(self).__name__} must define measure() or watch()")
        context.measure(graph, watch)
        return watch.result()

    def watch(self, graph: Graph, context: Context) -> "Watch | None":
        """The statistics that ``measure`` reads from one run of all calibration data; None if it needs other runs."""
        return None

    def measured(self, graph: Graph, context: Context, watch: "Watch | None" = None) -> dict[str, Tensor]:
        """``measure``; a side of a two-sided function that never fires has the statistic of the other side.

        ``watch``: that of a run which has already seen the data.
        """
        found = self.measure(graph, context) if watch is None else watch.result()
        fires = {name: bool((values > 0).any()) for name, values in found.items()}
        for name, other in silent_sides(graph, context, fires).items():
            found[name] = found[other].clamp(max=getattr(graph[name].op, "ceiling", None) or float("inf"))
        return found

    def measuring(self, context: Context) -> float:
        """The part of ``work`` that ``measure`` does, in its own runs."""
        return 0

    def work(self, context: Context) -> float:
        return context.samples + self.measuring(context)

    def apply(self, graph: Graph, context: Context) -> Graph:
        watch = self.watch(graph, context)
        ranges, measuring = context.divided(context.samples, self.measuring(context))
        note_ranges(graph, ranges, self.spiking_output, watch)
        found = self.measured(graph, measuring, watch)
        silent = {name: int((values <= 0).sum()) for name, values in found.items()}
        if self.granularity != "layer" and any(silent.values()):
            where = ", ".join(f"{name} {count}" for name, count in silent.items() if count)
            context.remark(
                f"on the calibration data the threshold statistic is 0, so the layer's largest threshold is used, "
                f"for these {self.granularity}s: {where}"
            )
        axes = self.axes(graph)
        thresholds = {
            name: self.scale * self.threshold(graph[name], values, axes[name]) for name, values in found.items()
        }
        return with_neurons(graph, thresholds)

    def axes(self, graph: Graph) -> Mapping[str, Axes]:
        """Node → the axis of its channels, or several axes if each of their combinations has its own threshold."""
        return graph.channel_axes

    def fires(self, graph: Graph, node: Node) -> bool:
        """True where a neuron will be placed: at an activation, or after the last layer."""
        return is_activation(node) or (self.spiking_output and node.name == graph.output.name)

    def sizes(self, node: Node, output: Tensor) -> Tensor:
        """The magnitude that a neuron has to send for the output of an activation."""
        return output.abs() if encodes(node.op) else torch.relu(output)

    def rows(self, output: Tensor, axis: Axes) -> Tensor:
        """(rows, values): one row for each threshold; the channels of ``output`` are on ``axis``."""
        if self.granularity == "layer":
            return output.reshape(1, -1)
        if self.granularity == "channel" and isinstance(axis, int):
            return rows(output, axis)
        if self.granularity == "channel" and isinstance(axis, tuple):
            first = output.movedim(axis, tuple(range(len(axis))))
            return first.flatten(len(axis)).flatten(0, len(axis) - 1)
        return output.flatten(1).T

    def threshold(self, node: Node, values: Tensor, axis: Axes) -> Tensor:
        """θ from its statistic: (), the node's shape, or one value per channel with size 1 on every other axis."""
        largest = values.max()
        if not float(largest) > 0:
            raise DataError(
                f"{node.name} never fires on the calibration data (its threshold statistic is 0), so its threshold "
                "would be 0; use more or different calibration data, raise the percentile, or remove the layer"
            )
        values = torch.where(values <= 0, largest, values)
        if self.granularity == "layer":
            return values[0]
        if self.granularity == "neuron":
            return values.reshape(node.shape)
        if isinstance(axis, int):
            return shaped(values, axis, len(node.shape))
        return values.reshape([size if a in axis else 1 for a, size in enumerate(node.shape, 1)])


@dataclass(frozen=True)
class Calibration(Pass):
    """A correction from ``samples`` calibration inputs, applied ``rounds`` times to each layer."""

    samples: int = 128
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rounds < 1:
            raise SettingError(f"samples and rounds must be at least 1, not {self.samples} and {self.rounds}")

    def work(self, context: Context) -> float:
        return min(self.samples, context.samples) * (1 + (self.rounds + 1) * STEP * context.timesteps)


@dataclass(frozen=True)
class ReplaceNeurons(Pass):
    """Replaces each integrate-and-fire neuron by the result of ``neuron``."""

    @property
    def forgets(self) -> bool:
        """True where the potential loses charge: a hard reset or a leak."""
        return False

    @property
    def gain(self) -> Gain:
        """The gain of the differences that the neurons send; "" for other codes."""
        return ""

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not is_plain(node.op, IntegrateAndFire):
                return None
            return dataclasses.replace(node, op=self.neuron(node.op))

        changed = graph.rewrite(change)
        check_stand_ins(changed)
        return changed

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        raise TypeError(f"{type(self).__name__} must define neuron()")


def is_activation(node: Node) -> bool:
    return isinstance(node.op, Op) and node.op.role == "activation"


def encodes(op: object) -> bool:
    """True for an activation that changes nothing: a neuron in its place encodes a wire, with values of either sign."""
    return is_plain(op, Unchanged)


def behind(node: Node) -> str:
    """The name of the neuron after the last layer."""
    return f"{node.name}.neuron"


def note_ranges(graph: Graph, context: Context, spiking_output: bool, watch: Watch | None = None) -> None:
    """Record the largest |current| at each future neuron, and the largest |output| of operators between neurons.

    Also the graph before conversion to spikes. ``watch`` reads the same run; without it, what another conversion found
    for the same graph and data is taken from ``context.shared``.
    """
    context.analogue[:] = [graph]
    context.activations[:] = [context.shared.setdefault("activations of the analogue network", {})]
    key = "ranges", spiking_output
    if watch is None and key in context.shared:
        context.ranges.update(context.shared[key])
        return

    def read(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> dict[str, Tensor]:
        with at(f"{node.name}, on the calibration data"):
            finite(output, node.op)
        values = {}
        if is_activation(node) or (isinstance(node.op, Op) and node.op.role in ("analogue", "product")):
            values[node.name] = inputs[0] if is_activation(node) else output
        if spiking_output and node.name == graph.output.name and not is_activation(node):
            values[behind(node)] = output
        axis = graph.channel_axes[node.name]  # an activation and its current have the same axis
        return {name: shaped(_largest(value, axis), axis, len(node.shape)) for name, value in values.items()}

    def add(node: str, found: dict[str, Tensor]) -> None:
        for name, largest in found.items():
            context.ranges[name] = torch.maximum(context.ranges.get(name, largest), largest)

    ranges = Watch(read, add, lambda: context.ranges)
    context.measure(graph, *([ranges] if watch is None else [ranges, watch]))
    context.shared[key] = dict(context.ranges)


def _largest(value: Tensor, axis: int) -> Tensor:
    """The largest |value| of each channel; without a copy for images."""
    if axis == 1 and value.ndim > 2 and value.is_contiguous():
        flat = value.flatten(2)
        return torch.maximum(flat.amax(2).amax(0), -flat.amin(2).amin(0))
    return rows(value.abs(), axis).amax(1)


def with_neurons(graph: Graph, thresholds: dict[str, Tensor]) -> Graph:
    """The graph with neurons instead of activations; a spiking output is a separate neuron after the last layer."""

    def neuron(op: Op, threshold: Tensor) -> IntegrateAndFire:
        return IntegrateAndFire(op, threshold, torch.zeros_like(threshold))

    def change(node: Node) -> Node | None:
        if node.name in thresholds and isinstance(node.op, Op) and is_activation(node):
            return dataclasses.replace(node, op=neuron(node.op, thresholds[node.name]), origin=())
        return None

    spiking, last = graph.rewrite(change), graph.output
    if last.name in thresholds and isinstance(last.op, Op) and not is_activation(last):
        cell = neuron(last.op, thresholds[last.name])
        spiking = Graph((*spiking.nodes, Node(behind(last), cell, (last.name,))))
    return spiking
