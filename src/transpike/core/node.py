"""One layer in its place in a network, and the shape of what it gives."""

import dataclasses
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.op import Op, Role, check_finite
from transpike.errors import UnsupportedModel

Shape = tuple[int, ...]

_FINITE: "weakref.WeakSet[Op | Cell]" = weakref.WeakSet()
"""Ops whose tensors have been checked: ops are frozen and compare by identity."""

_SHAPES: "weakref.WeakKeyDictionary[Op | Cell, dict[tuple[Shape, ...], Shape]]" = weakref.WeakKeyDictionary()
"""Op → shapes of its inputs → shape of its output, as found by running it. An entry goes when its op goes."""


@dataclass(frozen=True, eq=False)
class Input(Op):
    """Where the network's input enters; ``shape`` is without the batch."""

    role: ClassVar[Role] = "wiring"
    shape: tuple[int, ...]

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Node:
    """One layer in its place: ``inputs`` are names of earlier nodes, ``path`` is the module it came from.

    ``origin`` maps the op's tensor fields to the names they have in the source model's state_dict; ``shape`` (without
    the batch) is filled in by the graph, which runs the op on a meta tensor. A shape given by hand is not believed.
    """

    name: str
    op: Op | Cell
    inputs: tuple[str, ...] = ()
    path: str = ""
    origin: tuple[tuple[str, str], ...] = ()
    shape: tuple[int, ...] = ()

    def keys(self) -> dict[str, str]:
        """Tensor field → the name under which ``Graph.parameters`` lists it."""
        names = dict(self.origin)
        return {field: names.get(field, f"{self.name}.{field}") for field in self.op.tensors()}


def checked(node: Node, inputs: Sequence[Shape]) -> Node:
    """The node with its true shape, for inputs of these shapes; the node itself where it has that shape.

    Both checks run once for each op: an op that is used again in another graph is the same function.
    Raises SettingError for NaN or infinite weights, UnsupportedModel where the inputs do not fit.
    """
    if node.op not in _FINITE:
        check_finite(node.path or node.name, **node.op.tensors())
        _FINITE.add(node.op)
    if isinstance(node.op, Input):
        shape = tuple(node.op.shape)
    else:
        known, key = _SHAPES.setdefault(node.op, {}), tuple(inputs)
        if key not in known:
            known[key] = shape_on_meta(node, inputs)
        shape = known[key]
    return node if node.shape == shape else dataclasses.replace(node, shape=shape)


def moved(node: Node, *, device: torch.device | str | None, dtype: torch.dtype | None) -> Node:
    """The node with its tensors on another device or of another dtype, which changes no shape."""
    op = node.op.to(device=device, dtype=dtype)
    if op is not node.op and node.op in _SHAPES:
        _SHAPES[op] = dict(_SHAPES[node.op])
    return dataclasses.replace(node, op=op)


def shape_on_meta(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Run the node's op on a batch of two meta tensors: the shape of its output, without the batch.

    Raises UnsupportedModel where the inputs do not fit, or where the op mixes the samples of a batch.
    """
    values = [torch.empty((2, *shape), device="meta") for shape in inputs]
    op = node.op.to(device="meta", dtype=torch.float32)
    where = f"{node.name} ({node.path})" if node.path else node.name
    try:
        output = op.step(op.init(*values), *values, t=1)[1] if isinstance(op, Cell) else op.run(*values)
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = list(inputs)
        raise UnsupportedModel(f"{where}: {op.describe()} does not fit inputs of shape {shapes}: {error}") from error
    if output.ndim == 0 or output.shape[0] != 2:
        raise UnsupportedModel(f"{where}: {op.describe()} mixes the samples of a batch; keep the batch as first axis")
    return tuple(output.shape[1:])


def channel_axes(nodes: Iterable[Node]) -> dict[str, int]:
    """Name → the axis of the node's output that holds its features, from 1 on.

    The input has them where the first layer with weights wants them: axis 1 if that fits, else the last axis, else
    another one; axis 1 where none fits. Where several inputs of a sum or a concatenation disagree, the first input of
    the output's rank decides.
    """
    nodes = tuple(nodes)
    rank = len(nodes[0].shape)
    for start in dict.fromkeys((1, max(1, rank), *range(2, rank))):
        axes, suits = _followed(nodes, start)
        if suits:
            return axes
    return _followed(nodes, 1)[0]


def _followed(nodes: Sequence[Node], start: int) -> tuple[dict[str, int], bool]:
    """The axes if the input's features are on axis ``start``, and whether that suits the first layer with weights."""
    axes: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    suits: bool | None = None
    for node in nodes:
        shapes[node.name] = node.shape
        if not node.inputs:
            axes[node.name] = start
            continue
        before = [axes[name] for name in node.inputs]
        entering = [shapes[name] for name in node.inputs]
        if suits is None and getattr(node.op, "role", "") == "synapse":
            wanted = node.op.declared_axis(len(entering[0]))
            suits = None if wanted is None else wanted == before[0]
        axes[node.name] = node.op.channel_axis_after(before, entering, node.shape)
    return axes, suits is not False
