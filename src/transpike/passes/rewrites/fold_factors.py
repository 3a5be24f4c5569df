"""The factor of attention, 1/√d, as a part of the weights that compute queries or keys."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.channels import resolved, rows
from transpike.core.graph import Graph, Node
from transpike.core.op import Op, Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import Add, Conv, Linear, Scale
from transpike.ops.wiring import Selection
from transpike.passes.rewrites._base import is_matrix_product


@dataclass(frozen=True)
class FoldFactors(Pass):
    """``c · (q kᵀ) = (c q) kᵀ``, with ``c q = (c W) x + c b``: one number before or after a matrix product of two
    wires is multiplied into the weights of one of them.

    Between the weights and the product there may be wiring, sums, and multiplications by constants, like those of
    rotary positions. The weights are changed for the channels of this wire only, where others read them too.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        for node in graph:
            if _is_factor(node):
                graph = _folded(graph, node)
        return graph


def _is_factor(node: Node) -> bool:
    op = node.op
    if not is_plain(op, Scale):
        return False
    assert isinstance(op, Scale)
    return op.bias is None and op.weight.numel() == 1


def _folded(graph: Graph, node: Node) -> Graph:
    """The graph without the factor ``node``; the graph itself if no weights can take it."""
    source = node.inputs[0]
    if is_matrix_product(graph, graph[source]) and graph.readers[source] == (node.name,):
        wires = [(wire, source) for wire in graph[source].inputs[:2]]
    elif _enters_product(graph, node.name):
        wires = [(source, node.name)]
    else:
        return graph
    factor = node.op.weight.double().reshape(())  # type: ignore[union-attr]
    for wire, reader in wires:
        weights = _weights(graph, wire)
        if weights is None or graph.readers[wire] != (reader,):
            continue
        channels = _own_channels(graph, weights, wire, reader)
        if channels is not None:
            return _without(graph, node.name, _scaled(graph[weights], torch.where(channels, factor, 1.0)))
    return graph


def _without(graph: Graph, factor: str, weights: Node) -> Graph:
    def change(node: Node) -> Node | str | None:
        if node.name == factor:
            return node.inputs[0]
        return weights if node.name == weights.name else None

    return graph.rewrite(change)


def _enters_product(graph: Graph, name: str) -> bool:
    """Whether a wire is moved into matrix products only."""
    return bool(graph.readers[name]) and all(
        is_matrix_product(graph, graph[reader])
        or (isinstance(graph[reader].op, Selection) and _enters_product(graph, reader))
        for reader in graph.readers[name]
    )


def _is_homogeneous(op: object) -> bool:
    """True for linear layers without bias that a factor passes through, and that are not weights to change."""
    if is_plain(op, Scale):
        assert isinstance(op, Scale)
        return op.bias is None
    return isinstance(op, Selection) or is_plain(op, Add)


def _weights(graph: Graph, wire: str) -> str | None:
    """The layer of weights from which alone a wire comes, by homogeneous layers; None for several, or for others."""
    found, stack, seen = set[str](), [wire], {wire}
    while stack:
        node = graph[stack.pop()]
        if is_plain(node.op, (Linear, Conv)):
            found.add(node.name)
        elif node.inputs and _is_homogeneous(node.op):
            stack += [name for name in node.inputs if name not in seen]
            seen.update(node.inputs)
        else:
            return None
    return found.pop() if len(found) == 1 else None


def _own_channels(graph: Graph, weights: str, wire: str, reader: str) -> Tensor | None:
    """(channels,) of the layer of weights that reach the wire; None if something else reads one of them."""
    node = graph[weights]
    values = {weights: torch.zeros((1, *node.shape), dtype=torch.float64, requires_grad=True)}
    ours, others = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    with torch.inference_mode(False), torch.enable_grad():
        for one in graph:
            before = [name for name in one.inputs if name in values]
            if len(before) == len(one.inputs) and before and _is_homogeneous(one.op) and one.name != reader:
                assert isinstance(one.op, Op)
                values[one.name] = one.op.paths().to(dtype=torch.float64).linear(*(values[name] for name in one.inputs))
                continue
            for name in before:
                if (name, one.name) == (wire, reader):
                    ours = ours + values[name].sum()
                else:
                    others = others + values[name].sum()
        if graph.output.name in values:
            others = others + values[graph.output.name].sum()
        axis = resolved(node.op.channel_axis or 1, len(node.shape))
        reached = [_reached(total, values[weights], axis) for total in (ours, others)]
    return None if bool((reached[0] & reached[1]).any()) else reached[0]


def _reached(total: Tensor, leaf: Tensor, axis: int) -> Tensor:
    """(channels,): whether a sum depends on them."""
    if not total.requires_grad:
        return torch.zeros(leaf.shape[axis], dtype=torch.bool)
    (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True)
    return rows(gradient != 0, axis).any(1)


def _scaled(node: Node, factor: Tensor) -> Node:
    op = node.op
    assert isinstance(op, Synapse)
    wide = op.to(dtype=torch.float64)
    assert isinstance(wide, Synapse)
    return dataclasses.replace(node, op=wide.scale_outputs(factor).to(dtype=op.weight.dtype), origin=())
