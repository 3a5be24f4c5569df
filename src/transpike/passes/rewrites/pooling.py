"""Maximum pooling and other non-linear layers in a spiking network."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

from transpike.core.cell import Cell, Gain
from transpike.core.graph import Graph, Node
from transpike.core.naming import listed
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import (
    CurrentMaximum,
    DifferentialOperator,
    GatedMaximum,
    LateralInhibition,
    Masked,
    MaximumOfEstimates,
    OrMaximum,
    RateProduct,
    SpikeProduct,
    TemporalDifference,
)
from transpike.ops import AdaptiveMaxPool, Mask, MaxPool, Product
from transpike.ops.wiring import Selection

PoolingRule = Literal["lateral-inhibition", "before-neuron", "gated", "gated-exponential", "or", "differences"]
_MAXIMA = (MaxPool, AdaptiveMaxPool)
_CELLS: dict[str, Callable[[MaxPool], Cell]] = {
    "lateral-inhibition": LateralInhibition,
    "before-neuron": CurrentMaximum,
    "gated": GatedMaximum,
    "gated-exponential": partial(GatedMaximum, exponential=True),
    "or": OrMaximum,
}


@dataclass(frozen=True)
class PoolBeforeActivation(Pass):
    """``max(relu(z)) = relu(max(z))``: the pooling moves before the activation, where its input is a current.

    Wiring between the two that only moves elements moves with it. Raises UnsupportedModel where the pooling reads
    spikes of which no current has the same maximum: sums, several layers, or a layer that others read too.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        changed: dict[str, Node] = {}
        for node in reversed(graph.nodes):  # of several poolings in a row the last one takes the others along
            if is_plain(node.op, _MAXIMA) and node.name not in changed:
                places = _between(graph, node)
                ops = [*places[1:], *places[:1]]  # the activation moves after the pooling
                changed |= {
                    place.name: dataclasses.replace(place, op=other.op, path=other.path)
                    for place, other in zip(places, ops, strict=True)
                    if len(places) > 1
                }
        return graph.rewrite(lambda node: changed.get(node.name))


def _between(graph: Graph, pool: Node) -> list[Node]:
    """The activation before a pooling, the wiring that moves its elements, and the pooling; [] if it reads currents.

    Raises UnsupportedModel if it reads spikes that cannot become currents.
    """
    places, why = [pool], ""
    while places[0].inputs and not why:
        before = graph[places[0].inputs[0]]
        places.insert(0, before)
        activation = getattr(before.op, "role", "") == "activation"
        moves = len(before.inputs) == 1 and is_plain(before.op, (Selection, *_MAXIMA))
        if not _reads_spikes(graph, before):
            return []
        if not activation and not moves:
            why = "which adds or joins spikes"
        elif len(graph.readers[before.name]) > 1:
            why = "which other layers read too"
        elif activation and len(places) > 2 and any(value.numel() > 1 for value in before.op.tensors().values()):
            why = "whose channels are moved in between"
        elif activation:
            return places
    raise UnsupportedModel(f"{pool.name} cannot move before {places[0].name}, {why}; use pooling='lateral-inhibition'")


def _reads_spikes(graph: Graph, node: Node) -> bool:
    """True if wiring or a pooling leads from an activation to this node."""
    role, passes = getattr(node.op, "role", ""), is_plain(node.op, _MAXIMA)
    return role == "activation" or (
        (role == "wiring" or passes) and any(_reads_spikes(graph, graph[name]) for name in node.inputs)
    )


@dataclass(frozen=True)
class PoolInTime(Pass):
    """Every maximum pooling becomes a cell by ``rule``; other non-linear operators become temporal differences.

    ``period`` is the length of phase cycles, which support only lateral inhibition; after ``pre_simulation_steps``
    steps all cells restart. "differences" is for neurons that send differences of this ``gain``: products of spikes are
    exact, and with "unit" so is the maximum of integer levels; with "reciprocal" pooling stays analogue. Remarks name
    the analogue layers. Raises SettingError for an unknown or unsupported rule.
    """

    rule: PoolingRule = "lateral-inhibition"
    period: int = 0
    pre_simulation_steps: int = 0
    gain: Gain = "reciprocal"

    def __post_init__(self) -> None:
        if self.period and self.rule != "lateral-inhibition":
            raise SettingError(f"phase cycles support only pooling='lateral-inhibition', not {self.rule!r}")
        if not isinstance(self.rule, str) or self.rule not in get_args(PoolingRule):
            raise SettingError(f"pooling must be one of {', '.join(get_args(PoolingRule))}, not {self.rule!r}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        shapes = {node.name: node.shape for node in graph}
        analogue: dict[str, list[str]] = {}

        def change(node: Node) -> Node | None:
            op = node.op
            if isinstance(op, Cell) or op.is_linear or op.is_look_up or node.name in graph.static:
                return None
            if is_plain(op, AdaptiveMaxPool):
                op = _fixed(op, shapes[node.inputs[0]], node.name)
            if isinstance(op, Product) and self.rule == "differences":
                return dataclasses.replace(node, op=SpikeProduct(op, self.gain))
            if isinstance(op, Product) and not self.period and not self.pre_simulation_steps:
                return dataclasses.replace(node, op=RateProduct(op))
            if is_plain(op, Mask) and self.rule == "differences":
                return dataclasses.replace(node, op=Masked(op, self.gain))
            if is_plain(op, MaxPool) and self.rule != "differences":
                cell = LateralInhibition(op, self.period) if self.period else _CELLS[self.rule](op)
                return dataclasses.replace(node, op=self._restarted(cell))
            if is_plain(op, MaxPool) and self.gain == "unit":
                return dataclasses.replace(node, op=MaximumOfEstimates(op))
            analogue.setdefault(op.describe().removesuffix(" (analogue)"), []).append(node.name)
            if self.rule == "differences":
                return dataclasses.replace(node, op=DifferentialOperator(op, self.gain), origin=())
            return dataclasses.replace(node, op=self._restarted(TemporalDifference(op)), origin=())

        changed = graph.rewrite(change)
        for kind, names in analogue.items():
            context.remark(f"analogue, with real numbers as messages: {kind} ({listed(names)})")
        return changed

    def _restarted(self, cell: Cell) -> Cell:
        """The cell, restarted after the pre-simulation where it has memory."""
        if isinstance(cell, (LateralInhibition, GatedMaximum, TemporalDifference)) and self.pre_simulation_steps:
            return dataclasses.replace(cell, pre_simulation_steps=self.pre_simulation_steps)
        return cell


def _fixed(op: AdaptiveMaxPool, shape: tuple[int, ...], name: str) -> MaxPool:
    """The pooling with fixed windows that equals an adaptive pooling whose sizes divide evenly."""
    sizes = shape[1:]
    if any(size % out for size, out in zip(sizes, op.size, strict=True)):
        raise UnsupportedModel(
            f"{name}: adaptive max-pooling of {sizes} to {op.size} has windows of different sizes; "
            "use an input whose size is a multiple, or nn.MaxPool2d"
        )
    kernel = tuple(size // out for size, out in zip(sizes, op.size, strict=True))
    zeros, ones = (0,) * len(kernel), (1,) * len(kernel)
    return MaxPool(kernel=kernel, stride=kernel, padding=zeros, dilation=ones)
