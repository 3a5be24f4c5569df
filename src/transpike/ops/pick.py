"""Wiring that repeats, reorders or leaves out positions along one axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.op import Captured, Part
from transpike.ops.shape import Identity, Pad, with_axes, with_shape
from transpike.ops.wiring import Selection


@dataclass(frozen=True, eq=False)
class Pick(Selection):
    """``y[…, i, …] = x[…, positions[i], …]`` along ``axis`` (the batch is axis 0)."""

    aten: ClassVar[tuple[str, ...]] = (
        "index_select.default",
        "index.Tensor",
        "flip.default",
        "roll.default",
        "repeat.default",
        "tile.default",
        "repeat_interleave.self_int",
        "expand.default",
        "expand_as.default",
        "broadcast_to.default",
        "unfold.default",
        "im2col.default",
    )
    axis: int = 1
    positions: tuple[int, ...] = (0,)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        part = _CAPTURES[call.operator.split(".")[0]](call, call.wire("self"))
        return (Identity(), (part,)) if isinstance(part, Wire) else part

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].index_select(self.axis, torch.tensor(self.positions, device=inputs[0].device))

    def describe(self) -> str:
        return f"pick {len(self.positions)} positions of axis {self.axis}"


def picked(part: Part, axis: int, positions: Sequence[int], size: int) -> Part:
    """``positions`` of ``axis``, which has ``size`` of them; negative ones count from the end."""
    found = tuple(int(position) % size for position in positions)
    return part if found == tuple(range(size)) else (Pick(axis=axis, positions=found), (part,))


def _index_select(call: Call, x: Wire) -> Part:
    axis, index = call.axis("dim", len(x.shape) + 1), call.constant("index")
    assert index is not None
    return picked(x, axis, index.flatten().tolist(), x.shape[axis - 1])


def _index(call: Call, x: Wire) -> Part:
    """``x[:, …, i, j, …]`` with constant indices on neighbouring axes, which are merged first."""
    given = {axis: index for axis, index in enumerate(call["indices"]) if index is not None}
    if any(not isinstance(index, Tensor) for index in given.values()):
        raise Refused("its index depends on the network's input")
    indices: dict[int, Tensor] = {}
    for axis, index in given.items():
        if index.dtype == torch.bool and index.ndim > 1:
            raise Refused("it selects by a mask of several axes; use an index for each axis, or multiply by the mask")
        indices[axis] = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
    axes = list(indices)
    if 0 in indices:
        raise Refused("it takes a part of the batch")
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise Refused("its indices are not on neighbouring axes; index one axis after the other")
    sizes = [x.shape[axis - 1] for axis in axes]
    flat = torch.zeros((), dtype=torch.long)
    for size, index in zip(sizes, indices.values(), strict=True):
        flat = flat * size + index % size
    merged = (*x.shape[: axes[0] - 1], *flat.shape, *x.shape[axes[-1] :])
    part: Part = x
    if len(axes) > 1:
        part = with_shape(part, (*x.shape[: axes[0] - 1], -1, *x.shape[axes[-1] :]))
    part = picked(part, axes[0], flat.flatten().tolist(), int(torch.tensor(sizes).prod()))
    return part if flat.ndim == 1 else with_shape(part, merged)


def _flip(call: Call, x: Wire) -> Part:
    part: Part = x
    for axis in _axes(call["dims"], x):
        part = picked(part, axis, range(x.shape[axis - 1])[::-1], x.shape[axis - 1])
    return part


def _roll(call: Call, x: Wire) -> Part:
    if not call["dims"]:
        raise Refused("it rolls over the batch axis; name the axes (dims=…)")
    part: Part = x
    for shift, axis in zip(call["shifts"], _axes(call["dims"], x), strict=True):
        size = x.shape[axis - 1]
        part = picked(part, axis, [(position - shift) % size for position in range(size)], size)
    return part


def _repeat(call: Call, x: Wire) -> Part:
    counts = list(call["repeats"] if "repeats" in call.arguments else call["dims"])
    counts = [1] * (len(x.shape) + 1 - len(counts)) + counts
    if len(counts) > len(x.shape) + 1 or counts[0] != 1:
        raise Refused("it repeats the batch axis")
    part: Part = x
    for axis, (count, size) in enumerate(zip(counts[1:], x.shape, strict=True), 1):
        part = picked(part, axis, list(range(size)) * int(count), size)
    return part


def _repeat_interleave(call: Call, x: Wire) -> Part:
    if call["dim"] is None:
        raise Refused("it repeats over the batch axis; name the axis (dim=…)")
    axis = call.axis("dim", len(x.shape) + 1)
    size = x.shape[axis - 1]
    return picked(x, axis, [position for position in range(size) for _ in range(int(call["repeats"]))], size)


def _expand(call: Call, x: Wire) -> Part:
    shape = call.shapes[0]
    if len(shape) != len(x.shape):
        raise Refused("it adds axes before the batch; add them with unsqueeze after it")
    part: Part = x
    for axis, (before, after) in enumerate(zip(x.shape, shape, strict=True), 1):
        if before != after:
            part = picked(part, axis, [0] * after, before)
    return part


def _unfold(call: Call, x: Wire) -> Part:
    """Sliding windows along one axis; the positions in a window become the last axis."""
    axis, size, step = call.axis("dimension", len(x.shape) + 1), call["size"], call["step"]
    count = call.shapes[0][axis - 1]
    positions = [window * step + place for window in range(count) for place in range(size)]
    before, after = x.shape[: axis - 1], x.shape[axis:]
    part = with_shape(picked(x, axis, positions, x.shape[axis - 1]), (*before, count, size, *after))
    rank = len(x.shape) + 2
    return with_axes(part, [*(a for a in range(rank) if a != axis + 1), axis + 1])


def _im2col(call: Call, x: Wire) -> Part:
    """Windows of an image as columns, (channels · kernel, windows): torch.nn.Unfold."""
    if len(x.shape) != 3:
        raise Refused("it takes images (batch, channels, height, width) only")
    kernel, stride, dilation, padding = (
        call.numbers(name, 2) for name in ("kernel_size", "stride", "dilation", "padding")
    )
    channels, part = x.shape[0], x
    shape: list[int] = [channels]
    if any(padding):
        part = (Pad(amounts=(padding[1], padding[1], padding[0], padding[0])), (x,))  # type: ignore[assignment]
    whole: Part = part
    for axis in (0, 1):
        size = x.shape[axis + 1] + 2 * padding[axis]
        windows = (size - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        positions = [k * dilation[axis] + w * stride[axis] for k in range(kernel[axis]) for w in range(windows)]
        whole = picked(whole, axis + 2, positions, size)
        shape += [kernel[axis], windows]
    return with_shape(with_axes(with_shape(whole, shape), (0, 1, 2, 4, 3, 5)), call.shapes[0])


def _axes(dims: Any, x: Wire) -> list[int]:
    axes = [dim % (len(x.shape) + 1) for dim in ([dims] if isinstance(dims, int) else dims)]
    if 0 in axes:
        raise Refused("it works across the batch axis")
    return axes


_CAPTURES = {
    "index_select": _index_select,
    "index": _index,
    "flip": _flip,
    "roll": _roll,
    "repeat": _repeat,
    "tile": _repeat,
    "repeat_interleave": _repeat_interleave,
    "expand": _expand,
    "expand_as": _expand,
    "broadcast_to": _expand,
    "unfold": _unfold,
    "im2col": _im2col,
}
