"""Masks that a network computes from Boolean values: which numbers their wires can carry."""

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node, PackedInput
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.ops.add import Add
from transpike.ops.analogue import AnalogueOp
from transpike.ops.product import Product
from transpike.ops.scale import Scale
from transpike.ops.shape import Pad
from transpike.ops.wiring import Selection

PREDICATES = frozenset((
    "eq", "ne", "ge", "gt", "le", "lt", "logical_and", "logical_or", "logical_xor", "logical_not", "isnan", "isinf",
))  # fmt: skip
"""Operators of torch, without overload, whose outputs are Boolean values."""
MOST = 16
"""Values of one wire that are distinguished."""
Values = frozenset[float] | None
TRUTH: frozenset[float] = frozenset((0.0, 1.0))


def is_predicate(op: object) -> bool:
    """True for an operator whose outputs are Boolean values."""
    return type(op) is AnalogueOp and op.operator.split(".")[1] in PREDICATES


def possible_values(graph: Graph, name: str) -> Values:
    """The numbers that a wire of a mask can carry, for any Boolean values of the inputs; None if they are not known."""
    known: dict[str, Values] = {}
    for node in graph:
        if node.name in graph.static:
            found = _values(node, [known[one] for one in node.inputs])
            known[node.name] = found if found is None or len(found) <= MOST else None
        if node.name == name:
            break
    return known.get(name)


def largest(graph: Graph, name: str) -> float:
    """The largest size of what a wire of a mask carries; infinite if it is not known."""
    known = possible_values(graph, name)
    if known is not None:
        return max(map(abs, known))
    node = graph[name]
    if isinstance(node.op, Op) and node.op.is_linear and node.inputs:
        sizes = [torch.full((1, *graph[one].shape), largest(graph, one)) for one in node.inputs]
        bias = node.op.run(*map(torch.zeros_like, sizes)).abs()
        return float((node.op.magnitude().linear(*sizes) + bias).max())
    if type(node.op) is AnalogueOp and node.op.operator.split(".")[1] == "clamp":
        bounds = [abs(one) for one in node.op.arguments[1:] if isinstance(one, (int, float))]
        return max(largest(graph, node.inputs[0]), *bounds)
    return float("inf")


def _values(node: Node, before: list[Values]) -> Values:
    op = node.op
    if isinstance(op, PackedInput):
        return TRUTH if op.truth else None
    if type(op) is AnalogueOp:
        return TRUTH if is_predicate(op) else _selected(op, before)
    if any(values is None for values in before):
        return None
    sets = [values for values in before if values is not None]
    if isinstance(op, Selection) and len(sets) == 1:
        return sets[0] | {0.0} if isinstance(op, Pad) else sets[0]
    if is_plain(op, Scale) and op.weight.numel() == 1 and (op.bias is None or op.bias.numel() == 1):
        bias = 0.0 if op.bias is None else float(op.bias)
        return frozenset(float(op.weight) * value + bias for value in sets[0])
    if is_plain(op, Add) and len(sets) == 2:
        first, second = op.coefficients
        return frozenset(first * a + second * b for a in sets[0] for b in sets[1])
    if is_plain(op, Product) and not op.matrices:
        return frozenset(prod(pair) for pair in _pairs(sets))
    return None


def _selected(op: AnalogueOp, before: list[Values]) -> Values:
    """Selections by a mask, products, and moves that no op of transpike captures."""
    name = op.operator.split(".")[1]
    values = [_of_argument(one, op, before) for one in op.arguments]
    chosen = values[1:3] if name == "where" else [values[0], values[2]] if name == "masked_fill" else None
    if chosen is not None:
        return None if any(one is None for one in chosen) else frozenset().union(*(one for one in chosen if one))
    if name == "mul" and all(one is not None for one in values):
        return frozenset(prod(pair) for pair in _pairs([one for one in values if one is not None]))
    return None


def _of_argument(argument: Any, op: AnalogueOp, before: list[Values]) -> Values:
    if isinstance(argument, tuple) and argument[:1] == ("input",):
        return before[argument[1]]
    if isinstance(argument, tuple) and argument[:1] == ("constant",):
        return _of_constant(op.constants[argument[1]])
    return frozenset((float(argument),)) if isinstance(argument, (int, float)) else None


def _of_constant(value: Tensor) -> Values:
    found = value.unique()
    return frozenset(map(float, found)) if len(found) <= MOST else None


def _pairs(sets: list[frozenset[float]]) -> Iterable[tuple[float, float]]:
    return ((a, b) for a in sets[0] for b in sets[1])
