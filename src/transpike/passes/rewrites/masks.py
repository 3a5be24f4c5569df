"""Constant masks in front of a softmax, as one operator with it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.ops import MaskedSoftmax
from transpike.ops.analogue import AnalogueOp

HIDDEN = -1e4
"""From this value down (−inf, −1e9, −1e4) a masked place is one whose exponential is 0."""


@dataclass(frozen=True)
class JoinMasks(Pass):
    """``softmax(x.masked_fill(mask, −inf))``, also by ``where`` or a sum, becomes one operator.

    The wire between the two would carry infinite values, or large ones beside which the others are lost.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            axis = _softmax(node)
            if axis is None:
                return None
            wire, mask = node.inputs[0], None
            while (found := _mask(graph[wire].op)) is not None:
                wire, mask = graph[wire].inputs[0], found if mask is None else mask | found
            if mask is None or graph[wire].shape != node.shape:
                return None
            op = MaskedSoftmax(mask.float(), axis % (len(node.shape) + 1))
            return dataclasses.replace(node, op=op, inputs=(wire,), origin=())

        return graph.rewrite(change)


def _softmax(node: Node) -> int | None:
    op = node.op
    if type(op) is not AnalogueOp or op.operator not in ("aten.softmax.int", "aten._softmax.default"):
        return None
    return op.arguments[1]


def _mask(op: object) -> Tensor | None:
    """Where an operator puts a value that a softmax makes 0; True at those places. None for other operators."""
    if type(op) is not AnalogueOp or op.options:
        return None
    values = [op.constants[a[1]] if isinstance(a, tuple) and a[0] == "constant" else a for a in op.arguments]
    name = op.operator.split(".")[1]
    if name == "masked_fill" and _is_wire(values[0]) and isinstance(values[1], Tensor) and _hides(values[2]):
        return values[1]
    if name == "where" and isinstance(values[0], Tensor):
        if _hides(values[1]) and _is_wire(values[2]):
            return values[0]
        if _hides(values[2]) and _is_wire(values[1]):
            return ~values[0]
    return None


def _is_wire(value: Any) -> bool:
    return isinstance(value, tuple) and value[0] == "input"


def _hides(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool((value <= HIDDEN).all())
    return isinstance(value, (int, float)) and value <= HIDDEN
