"""The features of a wire where wiring has split them over several axes, as attention does with its heads."""

from math import prod

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.ops import Scale
from transpike.ops.wiring import Selection


def feature_axes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Name → the axes of the node's output along which its features differ; the batch is axis 0.

    One axis (``Graph.channel_axes``), except after wiring that moves features only: (tokens, heads · d) reshaped to
    (tokens, heads, d) has features on two axes. Found by moving the numbers of the features. Where positions share an
    axis with features (a pixel shuffle), the one axis counts.
    """
    found: dict[str, tuple[int, ...]] = {}
    numbers: dict[str, Tensor] = {}
    for node in graph:
        axis = graph.channel_axes[node.name]
        moved = _moved(graph, node, numbers)
        axes = () if moved is None else _varying(moved)
        if moved is not None and len(axes) > 1 and prod(node.shape[a - 1] for a in axes) == moved.unique().numel():
            numbers[node.name], found[node.name] = moved, axes
            continue
        if moved is None or axes != (axis,):
            moved = _numbered(node, axis)
        if moved is not None:
            numbers[node.name] = moved
        found[node.name] = (axis,)
    return found


def _moved(graph: Graph, node: Node, numbers: dict[str, Tensor]) -> Tensor | None:
    """The numbers of the features after an op that moves them or leaves them where they are; None for other ops."""
    if len(node.inputs) != 1 or node.inputs[0] not in numbers or not isinstance(node.op, Op):
        return None
    before = numbers[node.inputs[0]]
    if is_plain(node.op, Selection):
        return node.op.run(before)
    stays = node.op.role == "activation" or is_plain(node.op, Scale)
    return before if stays and graph[node.inputs[0]].shape == node.shape else None


def _numbered(node: Node, axis: int) -> Tensor | None:
    """The numbers 1, 2 … along ``axis``, (1, *shape); None for outputs without axes."""
    if not node.shape:
        return None
    axis = min(axis, len(node.shape))
    sizes = [node.shape[axis - 1] if k == axis else 1 for k in range(len(node.shape) + 1)]
    return torch.arange(1.0, node.shape[axis - 1] + 1).reshape(sizes).expand(1, *node.shape)


def _varying(numbers: Tensor) -> tuple[int, ...]:
    """The axes along which the numbers differ."""
    return tuple(a for a in range(1, numbers.ndim) if not bool((numbers == numbers.narrow(a, 0, 1)).all()))
