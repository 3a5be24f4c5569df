"""Two layers of weights in a row become one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.core.graph import Graph, Node
from transpike.core.naming import listed
from transpike.core.op import Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import Add, Conv, Linear

DEAREST = 8  # times the multiplications of the layers apart; a narrow layer between wide ones is not merged


@dataclass(frozen=True)
class MergeWeights(Pass):
    """``W₂ (W₁ x + b₁) + b₂ = (W₂ W₁) x + (W₂ b₁ + b₂)`` where no activation lies between two layers of weights.

    The second layer is a linear layer or a 1×1 convolution without groups and padding, the first one of the same kind,
    a convolution of any kernel included. After a sum every term is merged by itself: ``W₂ (W₁ x + y)`` becomes
    ``(W₂ W₁) x + W₂ y``. A layer of which one term cannot be merged remains as it is, and so does one that would cost
    more than ``DEAREST`` times the multiplications: a bottleneck costs c_in · c_out for each position, and c (c_in +
    c_out) in two layers. A remark names the layers.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        table: dict[str, Node] = {}
        merged: list[str] = []
        for node in graph:
            parts = _parts(table, node)
            if not parts:
                table[node.name] = node
                continue
            merged.append(node.name)
            names = [node.name] if len(parts) == 1 else [f"{node.name}.merged{i}" for i in range(len(parts))]
            for name, (wire, op) in zip(names, parts, strict=True):
                table[name] = Node(name, op, (wire,), node.path, (), node.shape)
            if len(parts) > 1:
                total = Add(coefficients=(1.0,) * len(parts))
                table[node.name] = Node(node.name, total, tuple(names), node.path, (), node.shape)
        if not merged:
            return graph
        context.remark(f"merged with the weights before them, between which no activation lies: {listed(merged)}")
        return _without_unread(list(table.values()), graph.output.name)


def _parts(table: Mapping[str, Node], node: Node) -> list[tuple[str, Synapse]]:
    """The wires that the merged layer reads and its weights for each of them; empty if nothing can be merged."""
    second = node.op
    if not isinstance(second, Synapse) or not _mixes(second):
        return []
    terms = _terms(table, node.inputs[0])
    merged = [_merged(second, first, factor) for _, first, factor in terms]
    if all(first is None for _, first, _ in terms) or None in merged:
        return []
    found = [(wire, op) for (wire, _, _), op in zip(terms, merged, strict=True) if op is not None]
    entering = table[node.inputs[0]].shape
    apart = second.macs((entering,), node.shape) or 0
    apart += sum(first.macs((table[wire].shape,), entering) or 0 for wire, first, _ in terms if first is not None)
    if sum(op.macs((table[wire].shape,), node.shape) or 0 for wire, op in found) > DEAREST * apart:
        return []
    wire, op = found[0]
    return [(wire, dataclasses.replace(op, bias=_bias(second, terms))), *found[1:]]


Term = tuple[str, Synapse | None, float]
"""The wire that is read, the layer of weights after it if there is one, and the factor of its output."""


def _terms(table: Mapping[str, Node], wire: str, factor: float = 1.0) -> list[Term]:
    node = table[wire]
    if is_plain(node.op, Add) and all(table[name].shape == node.shape for name in node.inputs):
        assert isinstance(node.op, Add)
        pairs = zip(node.inputs, node.op.coefficients, strict=True)
        return [term for name, own in pairs for term in _terms(table, name, factor * own)]
    if is_plain(node.op, (Conv, Linear)):
        return [(node.inputs[0], node.op, factor)]
    return [(wire, None, factor)]


def _mixes(op: object) -> bool:
    """True for a layer that reads one position: a linear layer, or a 1×1 convolution."""
    if is_plain(op, Linear):
        return True
    if not is_plain(op, Conv):
        return False
    assert isinstance(op, Conv)
    single = all(size == 1 for size in op.weight.shape[2:])
    return single and not op.transposed and op.groups == 1 and not any(op.padding)


def _merged(second: Synapse, first: Synapse | None, factor: float) -> Synapse | None:
    """``factor · second ∘ first`` without a bias; None if it is not one layer."""
    if first is None:
        return dataclasses.replace(second, weight=second.weight * factor, bias=None)
    outer, inner = second.weight.double() * factor, first.weight.double()
    if isinstance(second, Linear):
        if not isinstance(first, Linear):
            return None
        return dataclasses.replace(second, weight=(outer @ inner).to(second.weight), bias=None)
    if not isinstance(first, Conv) or first.transposed or first.groups != 1 or not isinstance(second, Conv):
        return None
    weight = torch.einsum("oc,ci...->oi...", outer.flatten(1), inner)
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    return dataclasses.replace(first, weight=weight.to(second.weight), bias=None, stride=stride)


def _bias(second: Synapse, terms: list[Term]) -> torch.Tensor | None:
    """The bias of the merged sum."""
    total = None if second.bias is None else second.bias.double()
    for _, first, factor in terms:
        if first is not None and first.bias is not None:
            shift = factor * second.weight.double().flatten(1) @ first.bias.double()
            total = shift if total is None else total + shift
    return None if total is None else total.to(second.weight)


def _without_unread(nodes: list[Node], output: str) -> Graph:
    read, kept = {output}, list[Node]()
    for node in reversed(nodes):
        if node.name in read or not node.inputs:
            kept.append(node)
            read.update(node.inputs)
    return Graph(tuple(reversed(kept)))
