"""Maximum pooling and other non-linear layers in a spiking network."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import (
    CurrentMaximum,
    DifferentialOperator,
    GatedMaximum,
    LateralInhibition,
    OrMaximum,
    TemporalDifference,
)
from transpike.ops import AdaptiveMaxPool, MaxPool

PoolingRule = Literal["lateral-inhibition", "before-neuron", "gated", "gated-exponential", "or", "differences"]
_CELLS: dict[str, Callable[[MaxPool], Cell]] = {
    "lateral-inhibition": LateralInhibition,
    "before-neuron": CurrentMaximum,
    "gated": GatedMaximum,
    "gated-exponential": partial(GatedMaximum, exponential=True),
    "or": OrMaximum,
    "differences": DifferentialOperator,
}


@dataclass(frozen=True)
class PoolBeforeActivation(Pass):
    """``max(relu(z)) = relu(max(z))``: the pooling moves before the activation, where its input is a current."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        consumers, table = graph.consumers(), {node.name: node for node in graph}
        swaps: dict[str, Node] = {}
        for node in graph:
            before = table[node.inputs[0]] if node.inputs else node
            if is_plain(node.op, MaxPool) and isinstance(before.op, Op) and before.op.role == "activation":
                if len(consumers[before.name]) > 1:
                    raise UnsupportedModel(
                        f"{node.name} cannot move before {before.name}, which other layers read too; "
                        "use pooling='lateral-inhibition'"
                    )
                swaps[node.name], swaps[before.name] = before, node

        def change(node: Node) -> Node | None:
            other = swaps.get(node.name)
            return None if other is None else dataclasses.replace(node, op=other.op, path=other.path)

        return graph.rewrite(change)


@dataclass(frozen=True)
class PoolInTime(Pass):
    """Every maximum pooling becomes a cell by ``rule``; other non-linear operators become temporal differences.

    ``period`` is the length of phase cycles, which support only lateral inhibition; after ``pre_simulation_steps``
    steps all cells restart. "differences" is for neurons with a differential code and keeps pooling analogue; a remark
    names each analogue layer. Raises SettingError for an unknown or unsupported rule.
    """

    rule: PoolingRule = "lateral-inhibition"
    period: int = 0
    pre_simulation_steps: int = 0

    def __post_init__(self) -> None:
        if self.period and self.rule != "lateral-inhibition":
            raise SettingError(f"phase cycles support only pooling='lateral-inhibition', not {self.rule!r}")
        if not isinstance(self.rule, str) or self.rule not in _CELLS:
            raise SettingError(f"pooling must be one of {', '.join(_CELLS)}, not {self.rule!r}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        shapes = {node.name: node.shape for node in graph}

        def change(node: Node) -> Node | None:
            op = node.op
            if isinstance(op, Cell) or op.is_linear:
                return None
            if is_plain(op, AdaptiveMaxPool):
                op = _fixed(op, shapes[node.inputs[0]], node.name)
            if is_plain(op, MaxPool):
                cell = LateralInhibition(op, self.period) if self.period else _CELLS[self.rule](op)
                if self.rule != "differences":
                    return dataclasses.replace(node, op=self._restarted(cell))
            context.remark(f"{node.name} ({op.describe()}) stays analogue: its messages are real numbers")
            kept = DifferentialOperator(op) if self.rule == "differences" else self._restarted(TemporalDifference(op))
            return dataclasses.replace(node, op=kept, origin=())

        return graph.rewrite(change)

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
