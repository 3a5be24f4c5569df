"""Calls on tensors whose batch is not their first axis, as calls on tensors whose batch is.

Views that merge the batch with other axes, or move it, are views of each sample; other calls run along the axes that
the batch leaves them. A call that relates samples to each other is refused.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from transpike.core.call import Layout, Refused, Wire
from transpike.core.op import Part
from transpike.ops.analogue import resolve
from transpike.ops.shape import order
from transpike.workflow.frame_rules import FRAMES, frames
from transpike.workflow.layouts import Held, Reading, Sizes, axes, batch_axis, sizes_of, wires_of


def with_batch_first(
    name: str,
    arguments: dict[str, Any],
    outputs: Sequence[Tensor],
    put: Callable[[Part, Sizes], Wire],
) -> Held:
    """The call with the batch first; ``put`` gives the wire of an op that moves elements (its shape without the batch).

    Raises Refused where samples would be related, or where the operator is not known along other axes.
    """
    call, pointwise = Reading(name, arguments, outputs, put), torch.Tag.pointwise in resolve(f"aten.{name}").tags
    rule = _RULES.get(call.short)
    if rule is None or (rule is _along and pointwise):  # max(a, b)
        rule = _pointwise if pointwise else None
    if rule is None:
        raise Refused(f"it is supported with the batch as the first axis only, but {call.wires[0].layout}")
    return rule(call)


def _view(call: Reading) -> Held:
    """A reshape: the elements before the batch remain before it."""
    wire, value = call.x, call.outputs[0]
    axis, times = batch_axis(value) or (0, 0)
    sizes, before = sizes_of(value), prod(wire.sizes[: wire.layout.axis]) * wire.layout.outer
    outer, rest = divmod(before, max(1, prod(sizes[:axis])))
    if rest or not outer or times % outer:
        raise Refused(f"no axis of its output contains whole samples: {wire.layout} of its input")
    layout = Layout(axis, outer, times // outer)
    shape = layout.held(sizes)
    if shape == wire.shape:
        return call.moved(wire, layout)
    return call.held({"self": wire, "size": [-1, *shape]}, (layout,), "view.default")


def _move(call: Reading) -> Held:
    """Axes in another order."""
    wire = call.x
    layouts, rank = call.layouts(wire.layout.outer, wire.layout.inner), len(wire.sizes)
    found = axes(wire.layout, rank)
    dims = [0, *(place for axis in order(call.short, call.arguments, rank) for place in found[axis])]
    if dims == list(range(len(dims))):
        return call.moved(wire, layouts[0])
    return call.held({"self": wire, "dims": dims}, layouts, "permute.default")


def _expand(call: Reading) -> Held:
    wire = call.x
    (layout,) = call.layouts(wire.layout.outer, wire.layout.inner)
    if more := layout.axis - wire.layout.axis:
        wire = call.reshape(wire, (*(1,) * more, *wire.shape))
    size = [-1, *layout.held(sizes_of(call.outputs[0]))]
    return call.held({"self": wire, "size": size}, (layout,), "expand.default")


def _repeat(call: Reading) -> Held:
    """Copies of whole axes; those of the batch's axis are before it."""
    wire, counts = call.x, list(call["repeats" if "repeats" in call.arguments else "dims"])
    rank = max(len(counts), len(wire.sizes))
    counts = [1] * (rank - len(counts)) + counts
    sizes = (*(1,) * (rank - len(wire.sizes)), *wire.sizes)
    axis = wire.layout.axis + rank - len(wire.sizes)
    layout = Layout(axis, wire.layout.outer * counts[axis], wire.layout.inner)
    copies = [*counts[:axis], *_parts(layout, counts[axis], 1), *counts[axis + 1 :]]
    return _copied(call, layout, sizes, "repeat.default", {"repeats": [1, *copies]})


def _interleave(call: Reading) -> Held:
    """Copies of each element along an axis; those of the batch's are after it."""
    wire = call.x
    if call["dim"] is None:
        raise Refused("it repeats over the batch axis; name the axis (dim=…)")
    axis = call["dim"] % len(wire.sizes)
    if axis != wire.layout.axis or call["repeats"] == 1:
        return _along(call)
    layout = Layout(axis, wire.layout.outer, wire.layout.inner * call["repeats"])
    return _copied(call, layout, wire.sizes, call.name, {"repeats": call["repeats"], "dim": axis + len(layout.parts)})


def _copied(call: Reading, layout: Layout, sizes: Sizes, name: str, settings: dict[str, Any]) -> Held:
    """The call on a wire that has every part of ``layout`` as an axis."""
    axis, old = layout.axis, call.x.layout
    shape = (*sizes[:axis], *_parts(layout, old.outer, old.inner), *sizes[axis + 1 :])
    if call.layouts(layout.outer, layout.inner) != (layout,):
        raise Refused("it works across the batch axis")
    return call.held({"self": call.reshape(call.x, shape)} | settings, (layout,), name)


def _parts(layout: Layout, outer: Any, inner: Any) -> list[Any]:
    """The values of the parts that ``layout`` has."""
    return [value for value, size in ((outer, layout.outer), (inner, layout.inner)) if size > 1]


def _along(call: Reading) -> Held:
    """Operators that work along some axes, take one away, or put one at the end."""
    wire = call.wires[0]
    key = next((name for name in ("dim", "dims", "dimension") if name in call.arguments), "")
    given = call.arguments.get(key)
    if given is None or given == []:
        raise Refused("it works across the batch; name the other axes (dim=…)")
    if call.short == "slice" and given % len(wire.sizes) == wire.layout.axis and _is_whole(call):
        return call.moved(wire, wire.layout)
    found = [call.axis(wire, axis) for axis in ([given] if isinstance(given, int) else given)]
    return call.same(wire.layout, {key: found[0] if isinstance(given, int) else found})


def _is_whole(call: Reading) -> bool:
    return not call["start"] and call["step"] == 1 and (call["end"] is None or call["end"] >= 2**62)


def _join(call: Reading) -> Held:
    """Concatenation of tensors of the same rank."""
    rank = call.outputs[0].ndim
    inputs, layout = call.aligned(("tensors",), rank - (call.short == "stack"))
    layouts = call.layouts(layout.outer, layout.inner)
    axis = call.place(layouts[0], rank, 1 if call.short == "hstack" else call["dim"])
    return call.held(inputs | {"dim": axis}, layouts, "cat.default" if call.short == "hstack" else None)


def _last(call: Reading) -> Held:
    """Operators along the last axes, which must not hold the batch."""
    wire = call.x
    if wire.layout.axis >= len(wire.sizes) - len(call.arguments.get("normalized_shape", (1,))):
        raise Refused(f"it works across the batch axis: {wire.layout}")
    return call.same(wire.layout)


def _index(call: Reading) -> Held:
    """Constant indices of neighbouring axes."""
    wire = call.x
    places = [axis for axis, index in enumerate(call["indices"]) if index is not None]
    if wires_of(call["indices"]):
        raise Refused("its index depends on the network's input")
    if places != list(range(places[0], places[0] + len(places))):
        raise Refused("its indices are not on neighbouring axes; index one axis after the other")
    indices: list[Any] = [None] * (len(wire.shape) + 1)
    for axis in places:
        indices[call.axis(wire, axis)] = call["indices"][axis]
    return call.same(wire.layout, {"indices": indices})


def _pad(call: Reading) -> Held:
    wire, given, amounts = call.x, list(call["pad"]), list[int]()
    for place in range(0, len(given), 2):
        pair, axis = given[place : place + 2], len(wire.sizes) - 1 - place // 2
        if axis == wire.layout.axis and any(pair):
            raise Refused("it pads the batch axis")
        amounts += pair * (len(wire.layout.parts) if axis == wire.layout.axis else 1)
    return call.same(wire.layout, {"pad": amounts})


def _pointwise(call: Reading) -> Held:
    """Operators that work element by element, on tensors that broadcast."""
    tensors = [name for name, value in call.arguments.items() if isinstance(value, Tensor) or wires_of([value])]
    inputs, layout = call.aligned(tensors, call.outputs[0].ndim)
    return call.same(layout, inputs)


def _same(call: Reading) -> Held:
    """Operators on each element alone, which may add an axis at the end."""
    return call.same(call.wires[0].layout)


def _matrices(call: Reading) -> Held:
    """Products of matrices: the batch is before the axes of both, or counts rows that a constant multiplies."""
    first, second = ("mat1", "mat2") if "mat1" in call.arguments else list(call.arguments)[:2]
    left, right, rank = call[first], call[second], call.outputs[0].ndim
    if isinstance(left, Wire) and isinstance(right, Tensor) and right.ndim <= 2:
        if left.layout.axis == len(left.sizes) - 1:
            raise Refused(f"it works across the batch axis: {left.layout}")
        return call.same(left.layout)
    inputs, layout = call.aligned((first, second), rank)
    if layout.axis >= rank - 2:
        raise Refused(f"it works across the batch axis: {layout} of its output")
    layouts = call.layouts(layout.outer, layout.inner)
    return call.held({"self": inputs[first], "other": inputs[second]}, layouts, "matmul.default")


def _attention(call: Reading) -> Held:
    """Attention of heads, whose batch is before the tokens."""
    rank = call.outputs[0].ndim
    inputs, layout = call.aligned(("query", "key", "value", "attn_mask"), rank)
    if layout.axis >= rank - 2:
        raise Refused(f"it works across the batch axis: {layout}")
    return call.same(layout, inputs)


_GROUPS: dict[Callable[[Reading], Held], str] = {
    _view: "flatten view reshape unflatten _unsafe_view squeeze unsqueeze view_as reshape_as",
    _move: "permute transpose movedim moveaxis swapaxes swapdims t mT numpy_T",
    _expand: "expand expand_as broadcast_to",
    _repeat: "repeat tile",
    _interleave: "repeat_interleave",
    _along: (
        "softmax _softmax _safe_softmax log_softmax _log_softmax slice narrow select unbind split split_with_sizes "
        "chunk tensor_split roll flip mean sum amax amin max min index_select unfold glu cumsum linalg_vector_norm "
        "norm var std logsumexp"
    ),
    _join: "cat concat concatenate stack hstack",
    _last: "linear layer_norm rms_norm",
    _index: "index",
    _pad: "pad constant_pad_nd",
    _same: (
        "contiguous clone alias detach to type_as _to_copy lift_fresh_copy dropout feature_dropout embedding one_hot"
    ),
    _pointwise: "where masked_fill hardswish _prelu_kernel",
    _matrices: "matmul bmm mm addmm",
    _attention: "scaled_dot_product_attention",
    frames: " ".join(FRAMES),
}
_RULES = {name: rule for rule, names in _GROUPS.items() for name in names.split()}
