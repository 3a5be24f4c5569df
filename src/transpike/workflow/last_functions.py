"""Softmax, sigmoid and their like behind the last layer: where they are, and the network without them."""

import torch
from torch import Tensor, fx

from transpike.core import registry
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.ops.analogue import AnalogueOp
from transpike.ops.wiring import Selection
from transpike.workflow.captured_values import operator_name

LAST = frozenset((
    "softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default", "sigmoid.default",
    "sigmoid_.default", "tanh.default", "tanh_.default", "hardsigmoid.default", "softplus.default",
    "log_sigmoid.default",
))  # fmt: skip
"""Functions that may follow the last layer: they are computed once, on the accumulated answer."""


def last_functions(answer: fx.Node) -> frozenset[fx.Node]:
    """The calls of ``LAST`` behind which nothing follows but other such calls and wiring, up to the answer."""
    moves = {name for kind in registry.families["op"].classes() if issubclass(kind, Selection) for name in kind.aten}
    found, node = set(), answer
    while node.op == "call_function" and (operator_name(node) in LAST or operator_name(node) in moves):
        if operator_name(node) in LAST and not _over_batch(node):
            found.add(node)
        before = [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
        if len(before) != 1 or len(before[0].users) != 1:
            break
        node = before[0]
    return frozenset(found)


def _over_batch(node: fx.Node) -> bool:
    """True for a softmax over the batch axis."""
    rank = node.meta["val"].ndim
    return "softmax" in operator_name(node) and node.args[1] % rank == 0


def split_answer(graph: Graph) -> tuple[Graph, tuple[Op, ...]]:
    """The network up to its last layer, and the functions behind it; none if it ends with a layer."""
    nodes, start = graph.nodes, len(graph.nodes)
    for place in range(len(nodes) - 1, 1, -1):
        node = nodes[place]
        follows = node.inputs == (nodes[place - 1].name,) and len(graph.readers[nodes[place - 1].name]) == 1
        if not follows or not (_is_last(node) or is_plain(node.op, Selection)):
            break
        start = place if _is_last(node) else start
    if start == len(nodes):
        return graph, ()
    return Graph(nodes[:start]), tuple(node.op for node in nodes[start:] if isinstance(node.op, Op))


def _is_last(node: Node) -> bool:
    """True for a function of ``LAST`` that computes each sample alone."""
    if not is_plain(node.op, AnalogueOp) or node.op.operator.removeprefix("aten.") not in LAST:
        return False
    probe = torch.linspace(-1, 1, 2 * max(1, torch.Size(node.shape).numel())).reshape(2, *node.shape)
    return torch.equal(node.op.run(probe)[:1], node.op.run(probe[:1]))


def remark(functions: tuple[Op, ...]) -> str:
    """What the report says of the functions behind the last layer."""
    names = " and ".join(op.operator.split(".")[1] for op in functions if isinstance(op, AnalogueOp))
    return f"{names} behind the last layer: computed once for each answer, on the accumulated output, without spikes"
