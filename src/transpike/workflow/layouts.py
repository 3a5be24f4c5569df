"""Where the tensors of an exported program have their batch, read off their symbolic sizes.

Windows of images, heads of attention and sequences are often merged with the batch into one axis, or put before it. A
graph holds such values with the batch first (``core.call.Layout``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from transpike.core.call import Comparison, Layout, Refused, Wire
from transpike.core.node import Node
from transpike.core.op import Part
from transpike.ops.shape import Permute, with_axes, with_shape

Sizes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Held:
    """A call on tensors with the batch first, and how torch has its outputs; a ``wire`` where nothing is to compute.

    ``last`` makes the output of what the call computes, whose shapes are ``inner``, if they are not the same.
    """

    name: str
    arguments: dict[str, Any]
    layouts: tuple[Layout, ...]
    shapes: tuple[Sizes, ...]
    wire: Wire | None = None
    last: Callable[[Part], Part] | None = None
    inner: tuple[Sizes, ...] | None = None


def multiple(size: Any) -> int | None:
    """How many times a size is that of the batch; None for a number. Raises Refused for other functions of it."""
    if not isinstance(size, torch.SymInt):
        return None
    expression = size.node.expr
    if expression.is_Integer or any(str(symbol).startswith("u") for symbol in expression.free_symbols):
        return None  # a size that depends on values is an unbacked symbol
    factor = expression.subs(dict.fromkeys(expression.free_symbols, 1))
    if len(expression.free_symbols) != 1 or expression != factor * next(iter(expression.free_symbols)):
        raise Refused(
            f"it works across the batch axis: for a batch of B samples its output has {_of_b(expression)} rows"
        )
    return int(factor)


def _of_b(expression: Any) -> str:
    text = str(expression)
    for symbol in expression.free_symbols:
        text = text.replace(str(symbol), "B")
    return text


def batch_axis(value: Tensor) -> tuple[int, int] | None:
    """(axis, multiple) of the batch in a tensor of an exported program; None if no size depends on it.

    Raises Refused if several axes do.
    """
    found = [(axis, times) for axis, size in enumerate(value.shape) if (times := multiple(size)) is not None]
    if len(found) > 1:
        raise Refused("it works across the batch axis: it relates every sample to every other")
    return found[0] if found else None


def sizes_of(value: Tensor) -> Sizes:
    """Torch's shape for a batch of 1. Raises RuntimeError where a size depends on values."""
    return tuple(multiple(size) or int(size) for size in value.shape)


def unknown(name: str, value: Tensor) -> Wire:
    """A wire for what has been refused, so that the calls after it can be read."""
    try:
        axis, times = batch_axis(value) or (0, 1)
        layout = Layout(axis, 1, times)
        return Wire(f"?{name}", layout.held(sizes_of(value)), layout=layout)
    except (Refused, RuntimeError):
        return Wire(f"?{name}", tuple(1 if isinstance(size, torch.SymInt) else int(size) for size in value.shape[1:]))


def is_unknown(arguments: Any) -> bool:
    """True if something among the arguments has been refused."""
    return any(wire.name.startswith("?") for wire in wires_of(arguments))


def is_batch_first(arguments: dict[str, Any], outputs: Sequence[Tensor]) -> bool:
    """True if all inputs and outputs have the batch as their first axis, and nothing is folded into it.

    Raises Refused for an output that relates samples to each other.
    """
    wires = wires_of(arguments)
    if any(wire.layout != Layout() for wire in wires):
        return False
    return not wires or all(batch_axis(value) in (None, (0, 1)) for value in outputs)


def wires_of(arguments: Any) -> list[Wire]:
    """The wires among arguments, and those that comparisons read."""
    leaves = [leaf.wire if isinstance(leaf, Comparison) else leaf for leaf in pytree.tree_leaves(arguments)]
    return [leaf for leaf in leaves if isinstance(leaf, Wire)]


class Reading:
    """One call, and what its rule asks."""

    def __init__(
        self, name: str, arguments: dict[str, Any], outputs: Sequence[Tensor], put: Callable[[Part, Sizes], Wire]
    ) -> None:
        self.name, self.arguments, self.outputs, self._put = name, arguments, outputs, put
        self.short = name.split(".")[0].rstrip("_")
        self.wires = wires_of(arguments)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def reshape(self, wire: Wire, shape: Sizes) -> Wire:
        """The wire in another shape (without the batch)."""
        return wire if shape == wire.shape else self._put(with_shape(wire, shape), shape)

    def permute(self, wire: Wire, order: Sequence[int]) -> Wire:
        """The wire with its axes in another order; the batch is axis 0."""
        return self._put(with_axes(wire, order), tuple(wire.shape[axis - 1] for axis in order[1:]))

    @property
    def x(self) -> Wire:
        """The first argument. Raises Refused if it does not depend on the network's input."""
        value = next(iter(self.arguments.values()))
        if not isinstance(value, Wire):
            raise Refused("its first argument does not depend on the network's input")
        return value

    def layouts(self, outer: int, inner: int) -> tuple[Layout, ...]:
        """Those of the outputs, into whose batch axis this is folded."""
        found = []
        for value in self.outputs:
            axis, times = batch_axis(value) or (None, 0)
            if axis is None or times != outer * inner:
                raise Refused("it works across the batch axis")
            found.append(Layout(axis, outer, inner))
        return tuple(found)

    def held(self, arguments: dict[str, Any], layouts: tuple[Layout, ...], name: str | None = None) -> Held:
        shapes = tuple(layout.held(sizes_of(value)) for layout, value in zip(layouts, self.outputs, strict=True))
        return Held(name or self.name, _first(arguments), layouts, shapes)

    def same(self, layout: Layout, changed: Mapping[str, Any] | None = None) -> Held:
        """The call with some arguments changed, whose outputs have as much folded into the batch as ``layout``."""
        return self.held({**self.arguments, **(changed or {})}, self.layouts(layout.outer, layout.inner))

    def moved(self, wire: Wire, layout: Layout) -> Held:
        """The wire itself, which torch has in another layout."""
        return replace(self.held({}, (layout,)), wire=wire)

    def axis(self, wire: Wire, axis: int) -> int:
        """The axis of the graph for one of torch. Raises Refused for that of the batch."""
        return self.place(wire.layout, len(wire.sizes), axis)

    def place(self, layout: Layout, rank: int, axis: int) -> int:
        """The axis of the graph for one of torch's ``rank`` axes. Raises Refused for that of the batch."""
        if axis % rank == layout.axis:
            raise Refused("it works across the batch axis" + (f": {layout}" if layout.parts else ""))
        (found,) = axes(layout, rank)[axis % rank]
        return found

    def aligned(self, names: Sequence[str], rank: int) -> tuple[dict[str, Any], Layout]:
        """Arguments that broadcast to ``rank`` axes, and their common layout. Raises Refused if they have none."""
        part = {name: self[name] for name in names}
        found = {replace(w.layout, axis=w.layout.axis + rank - len(w.sizes)) for w in wires_of(part)}
        if len(found) != 1:
            raise Refused("it relates samples to each other: its inputs have the batch on different axes")
        (layout,) = found

        def fit(leaf: Any) -> Any:
            if isinstance(leaf, Comparison):
                return replace(leaf, wire=fit(leaf.wire))
            if isinstance(leaf, Wire) and (more := rank - len(leaf.sizes)):
                return self.reshape(leaf, (*(1,) * more, *leaf.shape))
            return constant_with(leaf, layout, rank) if isinstance(leaf, Tensor) else leaf

        return pytree.tree_map(fit, part), layout


def moved_back(part: Part, nodes: Sequence[Node]) -> str | None:
    """The node that ``part`` would give again: it undoes the order of axes that one of ``nodes`` makes of that node."""
    if isinstance(part, Wire) or not isinstance(part[0], Permute) or not isinstance(part[1][0], Wire):
        return None
    wire = part[1][0].name
    before = next(node for node in reversed(nodes) if node.name == wire)
    undone = isinstance(before.op, Permute) and [before.op.axes[a] for a in part[0].axes] == sorted(before.op.axes)
    return before.inputs[0] if undone else None


def axes(layout: Layout, rank: int) -> list[tuple[int, ...]]:
    """For each of torch's axes those of the graph, the batch being axis 0; for the batch's those of its parts."""
    found, place = [], 1
    for axis in range(rank):
        count = len(layout.parts) if axis == layout.axis else 1
        found.append(tuple(range(place, place + count)))
        place += count
    return found


def constant_with(value: Tensor, layout: Layout, rank: int) -> Tensor:
    """A constant that torch combines with ``rank`` axes in this layout, for values with the batch first."""
    if value.numel() == 1:
        return value
    sizes = (*(1,) * (rank - value.ndim), *value.shape)
    here = sizes[layout.axis]
    if len(sizes) > rank or here not in (1, layout.folded):
        raise Refused("it combines the batch with a separate constant for each sample")
    parts = layout.parts if here > 1 else (1,) * len(layout.parts)
    return value.reshape(1, *sizes[: layout.axis], *parts, *sizes[layout.axis + 1 :])


def _first(arguments: Any) -> Any:
    """The wires among the arguments as those that have the batch first."""

    def first(leaf: Any) -> Any:
        if isinstance(leaf, Comparison):
            return replace(leaf, wire=first(leaf.wire))
        return replace(leaf, layout=Layout()) if isinstance(leaf, Wire) else leaf

    return pytree.tree_map(first, arguments)
