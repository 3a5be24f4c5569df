"""Thresholds from the source network's activations, and the neurons that carry them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.step import Context, Step
from transpike.errors import DataError, SettingError
from transpike.neurons import IntegrateAndFire

Granularity = Literal["layer", "channel", "neuron"]


class Quantile:
    """The exact ``percentile`` of values that arrive in batches, one for each row; only the upper tail is kept.

    Linear interpolation between order statistics, as numpy.percentile.
    """

    def __init__(self, percentile: float, total: int) -> None:
        position = (total - 1) * percentile / 100
        self.weight = position - int(position)
        self.keep = total - int(position)
        self.tail: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """``values`` is (rows, any number)."""
        tail = values if self.tail is None else torch.cat([self.tail, values], 1)
        self.tail = tail.topk(min(self.keep, tail.shape[1]), 1, sorted=True).values

    def result(self) -> Tensor:
        assert self.tail is not None
        lower, upper = self.tail[:, -1], self.tail[:, max(self.tail.shape[1] - 2, 0)]
        return lower + self.weight * (upper - lower)


@dataclass(frozen=True)
class ToSpiking(Step):
    """Every activation becomes an integrate-and-fire neuron with ``θ = percentile of its outputs``, ``v(0) = β θ``.

    ``percentile`` 100 is the maximum (the ECC and Diehl papers); statistics run over all calibration data, zeros
    included, per layer, channel or neuron. A channel that never fires on it takes its layer's largest threshold.
    ``spiking_output`` puts a neuron behind the last layer too.

    Raises DataError for a layer that is dead on the calibration data.
    """

    percentile: float = 99.9
    granularity: Granularity = "channel"
    beta: float = 0.5
    reset: Literal["soft", "hard"] = "soft"
    spiking_output: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise SettingError(f"percentile must be in (0, 100], not {self.percentile}")
        if self.granularity not in ("layer", "channel", "neuron"):
            raise SettingError(f"granularity must be 'layer', 'channel' or 'neuron', not {self.granularity!r}")
        if not 0 <= self.beta < 1:
            raise SettingError(f"beta must be in [0, 1), not {self.beta}: it is the share of θ that v starts from")
        if self.reset not in ("soft", "hard"):
            raise SettingError(f"reset must be 'soft' or 'hard', not {self.reset!r}")
        if self.reset == "hard" and self.beta > 0:
            raise SettingError("a hard reset discards the initial potential that beta calibrates; set beta=0")

    def apply(self, graph: Graph, context: Context) -> Graph:
        samples = sum(len(batch) for batch in context.batches)
        found: dict[str, Quantile] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._fires(graph, node):
                current = inputs[0] if isinstance(node.op, Op) and node.op.role == "activation" else output
                name = node.name if current is inputs[0] else _behind(node)
                largest = current.abs().movedim(1, 0).flatten(1).amax(1)
                context.ranges[name] = torch.maximum(context.ranges.get(name, largest), largest)
                rows = self._rows(torch.relu(output))
                if node.name not in found:
                    found[node.name] = Quantile(self.percentile, samples * rows.shape[1] // len(output))
                found[node.name].add(rows)

        context.observe(graph, see)
        silent = {name: int((quantile.result() <= 0).sum()) for name, quantile in found.items()}
        if self.granularity != "layer" and any(silent.values()):
            where = ", ".join(f"{name} {count}" for name, count in silent.items() if count)
            context.remark(
                f"on the calibration data the threshold statistic is 0, so that the layer's largest threshold serves, "
                f"for these {self.granularity}s: {where}"
            )
        thresholds = {name: self._threshold(graph[name], quantile.result()) for name, quantile in found.items()}
        return _with_neurons(
            graph, thresholds, lambda op, theta: IntegrateAndFire(op, theta, self.beta * theta, self.reset)
        )

    def _fires(self, graph: Graph, node: Node) -> bool:
        return (isinstance(node.op, Op) and node.op.role == "activation") or (
            self.spiking_output and node.name == graph.output.name
        )

    def _rows(self, output: Tensor) -> Tensor:
        """(rows, values): one row for each threshold."""
        if self.granularity == "layer":
            return output.reshape(1, -1)
        if self.granularity == "channel":
            return output.movedim(1, 0).flatten(1)
        return output.flatten(1).T

    def _threshold(self, node: Node, values: Tensor) -> Tensor:
        largest = values.max()
        if not float(largest) > 0:
            raise DataError(
                f"{node.name} never fires on the calibration data (its {self.percentile:g} percentile is 0), so its "
                "threshold would be 0; give more or other calibration data, raise the percentile, or remove the layer"
            )
        silent = values <= 0
        values = torch.where(silent, largest, values)
        if self.granularity == "layer":
            return values[0]
        return values.reshape(node.shape if self.granularity == "neuron" else (-1, *(1,) * (len(node.shape) - 1)))


def _behind(node: Node) -> str:
    """The name of the neuron behind the last layer."""
    return f"{node.name}.neuron"


def _with_neurons(
    graph: Graph, thresholds: dict[str, Tensor], neuron: Callable[[Op, Tensor], IntegrateAndFire]
) -> Graph:
    """Neurons in place of activations; a spiking output is a neuron of its own behind the last layer."""

    def change(node: Node) -> Node | None:
        if node.name in thresholds and isinstance(node.op, Op) and node.op.role == "activation":
            return dataclasses.replace(node, op=neuron(node.op, thresholds[node.name]))
        return None

    spiking, last = graph.rewrite(change), graph.output
    if last.name in thresholds and isinstance(last.op, Op) and last.op.role != "activation":
        cell = neuron(last.op, thresholds[last.name])
        spiking = Graph((*spiking.nodes, Node(_behind(last), cell, (last.name,))))
    return spiking
