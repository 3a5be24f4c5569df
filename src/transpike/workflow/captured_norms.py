"""Quotients of a wire and its own length, which a program has in four parts, as one operator."""

from dataclasses import replace

from transpike.core.graph import Graph, Node
from transpike.core.plain import is_plain
from transpike.ops.analogue import AnalogueOp
from transpike.ops.normalise import Normalise
from transpike.ops.pick import Pick

WIRE = ("input", 0)


def with_norms(graph: Graph) -> Graph:
    """The graph, in which ``x / max(‖x‖, ε)`` along one axis is a ``Normalise``."""

    def change(node: Node) -> Node | None:
        op = _normalise(node, graph) if _is(node, "div.Tensor") and len(node.inputs) == 2 else None
        return None if op is None else replace(node, op=op, inputs=node.inputs[:1], origin=())

    return graph.rewrite(change)


def _normalise(node: Node, graph: Graph) -> Normalise | None:
    divided, length = node.inputs
    if node.op.arguments != (WIRE, ("input", 1)):  # type: ignore[union-attr]
        return None
    below = graph[length]
    while is_plain(below.op, Pick) and not any(below.op.positions):
        below = graph[below.inputs[0]]
    epsilon = 0.0
    if _is(below, "clamp_min.default") or _is(below, "clamp.default"):
        wire, epsilon, *most = below.op.arguments  # type: ignore[union-attr]
        if wire != WIRE or not isinstance(epsilon, (int, float)) or most not in ([], [None]):
            return None
        below = graph[below.inputs[0]]
    if not (_is(below, "linalg_vector_norm.default") or _is(below, "norm.ScalarOpt_dim")) or below.inputs != (divided,):
        return None
    wire, order, axes, *keeps = below.op.arguments  # type: ignore[union-attr]
    if wire != WIRE or order != 2 or len(axes or ()) != 1 or keeps[:1] != [True] or any(keeps[1:]) or below.op.options:  # type: ignore[union-attr]
        return None
    return Normalise(axes[0] % (len(node.shape) + 1), float(epsilon))


def _is(node: Node, operator: str) -> bool:
    return type(node.op) is AnalogueOp and node.op.operator == f"aten.{operator}"
