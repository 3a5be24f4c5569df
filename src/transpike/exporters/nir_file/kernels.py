"""Terms of the integer form as plain convolutions: one kernel for each pair of source and layer.

NIR importers agree about convolutions over whole channels and about little else. So pools, means, slices, padding,
flattening and scales become part of the kernel. A kernel is found axis by axis and then checked at every position.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from transpike.exporters.nir_file.layout import channels_first
from transpike.lowering.whole import Integers, Layer, Term
from transpike.lowering.whole_terms import charge_shape

REARRANGED = "its input is repeated, reversed, cut or mixed in a way that no convolution with zeros at its edges has"


class NotAConvolution(Exception):
    """The reason why a term has no form as a convolution; the caller adds names and the remedy."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """``weight`` (outputs, inputs, *taps); tap i of output o reads position ``stride·o + start + i`` of the source.

    A position outside the source counts as zero. ``stride`` is None on an axis with one output.
    """

    weight: Integers
    start: tuple[int, ...]
    stride: tuple[int | None, ...]


def kernel_of(term: Term, source: tuple[int, ...], axis: int, layer: Layer, dimensions: int) -> Kernel:
    """The kernel of one term; ``source`` and ``axis`` are the shape and the axis of channels of what it reads.

    Raises NotAConvolution.
    """
    outputs = channels_first(layer.shape, layer.axis, dimensions)
    inputs = channels_first(source, axis, dimensions)
    places = _places(term, source, axis, dimensions)
    if term.kind == "scale":
        return _scaled(term, places, inputs, outputs, layer)
    if term.kind == "linear" and len(term.shape) == 1:
        return _full(term.weight, places, inputs, outputs)
    if charge_shape(term) != layer.shape:
        raise NotAConvolution(f"its charge of {charge_shape(term)} is rearranged to {layer.shape} before the neurons")
    weight = term.weight
    if term.kind == "linear":
        _check_axis(layer, len(layer.shape) - 1)
        places = np.moveaxis(places, -2, 0)
        space = len(term.shape) - 1
        weight = weight.reshape(*weight.shape, *(1,) * space)
        moves = ((1,) * space, (0,) * space, (1,) * space)
    else:
        _check_axis(layer, 0)
        weight = _ungrouped(weight, term.groups)
        moves = (term.stride, term.padding, term.dilation)
    channel, tables = _separated(places)
    kernel = _spread_channels(weight, channel, inputs[0])
    for _ in range(dimensions + 2 - kernel.ndim):
        kernel = kernel[..., None]
    starts, strides = [], []
    for k in range(dimensions):
        taps: list[int | None] = [0]
        stride: int | None = None
        if k < len(tables):
            step, padding, dilation = (int(move[k]) for move in moves)
            count = weight.shape[2 + k]
            taps, stride = _axis(tables[k], step, padding, dilation, count, outputs[1 + k], inputs[1 + k])
        kernel, start = _on_axis(kernel, 2 + k, taps)
        starts.append(start)
        strides.append(stride)
    return Kernel(kernel, tuple(starts), tuple(strides))


def merged(kernels: Iterable[Kernel]) -> Kernel:
    """The sum of kernels from one source to one layer. Raises NotAConvolution if their strides differ."""
    first, *others = kernels
    for other in others:
        if any(None not in (a, b) and a != b for a, b in zip(first.stride, other.stride, strict=True)):
            raise NotAConvolution(f"two ways from the same source have the strides {first.stride} and {other.stride}")
        ends = [
            max(a + n, b + m)
            for a, n, b, m in zip(first.start, first.weight.shape[2:], other.start, other.weight.shape[2:], strict=True)
        ]
        start = tuple(min(a, b) for a, b in zip(first.start, other.start, strict=True))
        total = sum(_widened(one, start, ends) for one in (first, other))
        stride = tuple(a if a is not None else b for a, b in zip(first.stride, other.stride, strict=True))
        first = Kernel(np.asarray(total), start, stride)
    return first


def _widened(kernel: Kernel, start: tuple[int, ...], ends: list[int]) -> Integers:
    sizes = kernel.weight.shape[2:]
    amounts = [(a - s, e - a - n) for a, s, e, n in zip(kernel.start, start, ends, sizes, strict=True)]
    return np.pad(kernel.weight, [(0, 0), (0, 0), *amounts])


def _places(term: Term, source: tuple[int, ...], axis: int, dimensions: int) -> Integers:
    """For each position of the term's input its (channel, *space) in the source, −1 for a zero: (*shape, 1 + axes)."""
    shape = term.shape or source
    index = np.arange(prod(source)).reshape(shape) if term.index is None else term.index.reshape(shape)
    where = np.stack(np.unravel_index(np.maximum(index, 0), source), -1)
    where = np.moveaxis(where, -1, 0)
    order = [axis % len(source), *(k for k in range(len(source)) if k != axis % len(source))]
    where = np.stack([where[k] for k in order] + [np.zeros_like(index)] * (1 + dimensions - len(source)), -1)
    return np.where((index >= 0)[..., None], where, -1)


def _index(*parts: Any) -> Any:
    """An index of several axes."""
    return parts


def _check_axis(layer: Layer, axis: int) -> None:
    if len(layer.shape) > 1 and layer.axis % len(layer.shape) != axis:
        raise NotAConvolution(f"its channels are on axis {axis}, those of the neurons on axis {layer.axis}")


def _ungrouped(weight: Integers, groups: int) -> Integers:
    """(outputs, inputs, *kernel) of a grouped convolution, with zeros between the groups."""
    if groups == 1:
        return weight
    outputs, inputs = weight.shape[:2]
    full = np.zeros((outputs, inputs * groups, *weight.shape[2:]), np.int64)
    rows = outputs // groups
    for g in range(groups):
        full[g * rows : (g + 1) * rows, g * inputs : (g + 1) * inputs] = weight[g * rows : (g + 1) * rows]
    return full


def _separated(places: Integers) -> tuple[Integers, list[Integers]]:
    """Channel → channel of the source, and for each axis position → position of the source; −1 for a zero.

    Raises NotAConvolution where a channel or an axis depends on the others.
    """
    valid = places[..., 0] >= 0
    space = places.ndim - 2
    if not valid.any():
        return np.full(places.shape[0], -1), [np.full(n, -1) for n in places.shape[1:-1]]
    at = tuple(int(k) for k in np.argwhere(valid)[0])
    channel = places[_index(slice(None), *at[1:], 0)]
    tables = [places[_index(*at[: 1 + k], slice(None), *at[2 + k :], 1 + k)] for k in range(space)]
    expected = np.stack(np.broadcast_arrays(*np.ix_(channel, *tables)), -1)
    rest = places[..., 1 + space :]
    expected = np.where((expected >= 0).all(-1, keepdims=True), expected, -1)
    same = np.array_equal(places[..., : 1 + space], expected) and bool((rest <= 0).all())
    if not same:
        raise NotAConvolution(REARRANGED)
    return channel, tables


def _spread_channels(weight: Integers, channel: Integers, inputs: int) -> Integers:
    """The weights on the channels of the source."""
    full = np.zeros((weight.shape[0], inputs, *weight.shape[2:]), np.int64)
    taken = channel >= 0
    np.add.at(full, _index(slice(None), channel[taken]), weight[:, taken])
    return full


def _axis(
    table: Integers, step: int, padding: int, dilation: int, taps: int, outputs: int, size: int
) -> tuple[list[int | None], int | None]:
    """(offset of each tap, None for one that reads only zeros; stride) on one axis. Raises NotAConvolution."""
    at = step * np.arange(outputs)[:, None] + dilation * np.arange(taps)[None] - padding
    inside = (at >= 0) & (at < len(table))
    position = np.where(inside, table[np.clip(at, 0, len(table) - 1)], -1)
    valid = position >= 0
    stride: int | None = None
    if outputs > 1:
        ends = [(int(rows[0]), int(rows[-1]), i) for i in range(taps) if len(rows := np.flatnonzero(valid[:, i])) > 1]
        if ends:
            a, b, i = max(ends, key=lambda end: end[1] - end[0])
            stride = int((position[b, i] - position[a, i]) / (b - a))
        else:
            stride = step
        if stride < 1:
            raise NotAConvolution(REARRANGED)
    offsets: list[int | None] = []
    reach = np.zeros(outputs, np.int64) if stride is None else stride * np.arange(outputs)
    for i in range(taps):
        rows = np.flatnonzero(valid[:, i])
        offset = int(position[rows[0], i] - reach[rows[0]]) if len(rows) else None
        if offset is not None:
            read = reach + offset
            if not np.array_equal(np.where((read >= 0) & (read < size), read, -1), position[:, i]):
                raise NotAConvolution(REARRANGED)
        offsets.append(offset)
    return offsets, stride


def _on_axis(kernel: Integers, axis: int, offsets: list[int | None]) -> tuple[Integers, int]:
    """(the kernel with its taps at their offsets, the smallest offset)."""
    used = [(i, offset) for i, offset in enumerate(offsets) if offset is not None]
    if not used:
        return np.zeros_like(kernel.take([0], axis)), 0
    start, end = min(offset for _, offset in used), max(offset for _, offset in used)
    shape = list(kernel.shape)
    shape[axis] = end - start + 1
    full = np.moveaxis(np.zeros(shape, np.int64), axis, 0)
    for i, offset in used:
        full[offset - start] += kernel.take(i, axis)
    return np.moveaxis(full, 0, axis), start


def _full(weight: Integers, places: Integers, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Kernel:
    """A matrix as a kernel as large as the source. Raises NotAConvolution if the layer has more than channels."""
    if prod(outputs[1:]) > 1:
        raise NotAConvolution("it is one matrix, but the neurons are not in one line")
    full = np.zeros((len(weight), *inputs), np.int64)
    taken = places[:, 0] >= 0
    np.add.at(full, _index(slice(None), *places[taken].T), weight[:, taken])
    return Kernel(full, (0,) * (len(inputs) - 1), (None,) * (len(inputs) - 1))


def _scaled(term: Term, places: Integers, inputs: tuple[int, ...], outputs: tuple[int, ...], layer: Layer) -> Kernel:
    """One weight for each channel, on the diagonal. Raises NotAConvolution if weights differ within a channel."""
    shape = term.shape or layer.shape
    if tuple(shape) != tuple(layer.shape):
        raise NotAConvolution(f"it scales {shape} for neurons of {layer.shape}")
    if len(shape) == 1:
        return _full(np.diag(np.broadcast_to(term.weight, shape)), places, inputs, outputs)
    axis, space = layer.axis % len(shape), len(shape) - 1
    rows = np.moveaxis(np.broadcast_to(term.weight, shape), axis, 0).reshape(outputs[0], -1)
    if not (rows == rows[:, :1]).all():
        raise NotAConvolution("its weights differ within a channel")
    channel, tables = _separated(np.moveaxis(places, axis, 0))
    kernel = np.zeros((outputs[0], inputs[0], *(1,) * (len(inputs) - 1)), np.int64)
    for o in np.flatnonzero(channel >= 0):
        kernel[o, channel[o]] = rows[o, 0]
    starts, strides = [], []
    for k in range(len(inputs) - 1):
        taps: list[int | None] = [0]
        stride: int | None = None
        if k < space:
            taps, stride = _axis(tables[k], 1, 0, 1, 1, outputs[1 + k], inputs[1 + k])
        kernel, start = _on_axis(kernel, 2 + k, taps)
        starts.append(start)
        strides.append(stride)
    return Kernel(kernel, tuple(starts), tuple(strides))


@dataclass(frozen=True)
class Fitted:
    """Settings of a convolution on one axis that do what a kernel says; zeros ``before`` and ``after`` its taps."""

    stride: int
    padding: int
    before: int
    after: int


def fitted(start: int, taps: int, stride: int | None, size: int, outputs: int, wanted: int) -> Fitted | None:
    """The settings for a kernel of ``wanted`` taps from a source of ``size`` to exactly ``outputs`` positions, or None.

    The padding is the same on both sides; zeros in the kernel make up for the difference.
    """
    for before in range(max(0, start), wanted - taps + 1):
        padding = before - start
        room = size + 2 * padding - wanted
        step = stride if stride is not None else max(1, room + 1)
        if step * (outputs - 1) <= room < step * outputs:
            return Fitted(step, padding, before, wanted - taps - before)
    return None
