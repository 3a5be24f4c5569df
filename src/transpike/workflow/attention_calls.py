"""Attention that a model calls as one operator of torch, as the products and the softmax that it computes."""

from typing import Any

import torch
from torch import Tensor, fx

from transpike.workflow.captured_values import bound

aten = torch.ops.aten
ATTENTION = "scaled_dot_product_attention.default"
TARGET = aten.scaled_dot_product_attention.default


def write_out(graph: fx.Graph) -> None:
    """Change every ``scaled_dot_product_attention`` of batch-first tensors to ``softmax(q kᵀ · scale + mask) v``.

    A row of a mask of Boolean values that hides everything gives 0, as in torch. Calls with dropout are left as they
    are.
    """
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is TARGET:
            given = bound(TARGET, node.args, node.kwargs)
            values = [_value(given[name]) for name in ("query", "key", "value")]
            if given["dropout_p"] == 0 and all(value is not None and value.ndim > 2 for value in values):
                _write(graph, node, given)


def _write(graph: fx.Graph, old: fx.Node, given: dict[str, Any]) -> None:
    query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))

    def call(target: Any, *args: Any) -> fx.Node:
        new = graph.call_function(target, args)
        new.meta = old.meta | {"val": target(*(_value(one) if isinstance(one, fx.Node) else one for one in args))}
        return new

    with graph.inserting_before(old):
        if given["enable_gqa"]:
            groups = _value(query).shape[-3] // _value(key).shape[-3]
            key, value = (call(aten.repeat_interleave.self_int, one, groups, -3) for one in (key, value))
        scale = given["scale"]
        scale = float(_value(query).shape[-1]) ** -0.5 if scale is None else float(scale)
        if scale != 1:
            query = call(aten.mul.Tensor, query, scale)
        scores = call(aten.matmul.default, query, call(aten.transpose.int, key, -2, -1))
        if given["is_causal"]:
            rows, columns = (int(size) for size in _value(scores).shape[-2:])
            future = call(aten.triu.default, call(aten.ones.default, [rows, columns]), 1)
            scores = call(aten.masked_fill.Scalar, scores, call(aten.gt.Scalar, future, 0), -torch.inf)
        if mask is not None and _value(mask).dtype == torch.bool:
            scores = call(aten.masked_fill.Scalar, scores, call(aten.logical_not.default, mask), -torch.inf)
            weights = call(aten._safe_softmax.default, scores, -1)
        else:
            scores = scores if mask is None else call(aten.add.Tensor, scores, mask)
            weights = call(aten.softmax.int, scores, -1)
        answer = call(aten.matmul.default, weights, value)
    old.replace_all_uses_with(answer)
    graph.erase_node(old)


def _value(node: Any) -> Any:
    """What a node gives, without elements: shapes and types."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value if isinstance(value, Tensor) else None
