"""Operators that move values: reshape, transpose, slices, joins, padding, reductions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.models.onnx_file.values import Call, Node, Steps, Unknown, Value, positive, tensor_of

REDUCTIONS: dict[str, Any] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}
LONGEST = 2**20  # positions of an axis that Tile makes
LAST = 2**31 - 1  # larger ends of slices mean "to the end"


def reshape(steps: Steps, node: Node) -> Value:
    """Reshape of each sample."""
    x, wanted = node.value(0), node.integers(1, "shape")
    assert wanted is not None
    if not node.number("allowzero", 0):
        wanted = [x.shape[k] if size == 0 else size for k, size in enumerate(wanted)]
    return steps.reshaped(x, _resolved(x.shape, wanted))


def _resolved(shape: Sequence[int], wanted: Sequence[int]) -> list[int]:
    count = int(np.prod(shape, dtype=np.int64))
    known = int(np.prod([size for size in wanted if size != -1], dtype=np.int64))
    found = [count // max(known, 1) if size == -1 else size for size in wanted]
    if int(np.prod(found, dtype=np.int64)) != count:
        raise Unknown(
            f"{list(shape)} of one sample cannot become {list(wanted)}: the file was made for another batch size; "
            "export it with an open batch axis, or with a batch of 1"
        )
    return found


def flatten(steps: Steps, node: Node) -> Value:
    """Flatten of each sample."""
    x, axis = node.value(0), node.number("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    parts = x.shape[:axis], x.shape[axis:]
    return steps.reshaped(x, [int(np.prod(part, dtype=np.int64)) for part in parts])


def transpose(steps: Steps, node: Node) -> Value:
    """Transpose; without a step where only the batch axis moves."""
    x = node.value(0)
    order = list(node.number("perm", range(len(x.shape))[::-1]))
    inner = [x.inner(axis) for axis in order if axis != x.axis]
    axis = None if x.axis is None else order.index(x.axis)
    if inner == sorted(inner):
        return Value(x.name, x.tensor, axis)
    return steps.run(Call(torch.permute, [0, *inner]), [x], axis)


def squeeze(steps: Steps, node: Node) -> Value:
    """Squeeze."""
    x, axes = node.value(0), node.integers(1, "axes")
    axes = [k for k, size in enumerate(x.shape) if size == 1] if axes is None else axes
    axes = [positive(axis, len(x.shape)) for axis in axes]
    return steps.reshaped(x, [size for k, size in enumerate(x.shape) if k not in axes])


def unsqueeze(steps: Steps, node: Node) -> Value:
    """Unsqueeze."""
    x, axes = node.value(0), node.integers(1, "axes") or []
    count = len(x.shape) + len(axes)
    rest, wanted = iter(x.shape), []
    places = {positive(axis, count) for axis in axes}
    for k in range(count):
        wanted.append(1 if k in places else next(rest))
    return steps.reshaped(x, wanted)


def slices(steps: Steps, node: Node) -> Value:
    """Slice."""
    x = node.value(0)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None:
        raise Unknown("its starts or ends are missing")
    axes, strides = node.integers(3, "axes") or list(range(len(starts))), node.integers(4, "steps") or [1] * len(starts)
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        axis = positive(axis, len(x.shape))
        size = x.shape[axis]
        taken = range(size)[slice(start, None if end >= LAST else end if end > -LAST else None, stride)]
        if len(taken) == size and stride == 1:
            continue
        if axis == x.axis:
            x = steps.whole(x)
        if not len(taken):
            raise Unknown(f"it selects nothing on axis {axis}")
        if stride > 0:
            x = steps.run(Call(_sliced, x.inner(axis), taken.start, taken[-1] + 1, stride), [x], x.axis)
        else:
            x = _indexed(steps, x, axis, list(taken))
    return x


def _sliced(x: Tensor, axis: int, start: int, end: int, stride: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(start, end, stride),)]


def _indexed(steps: Steps, x: Value, axis: int, index: list[int]) -> Value:
    return steps.run(Call(_selected, x.inner(axis), tuple(index)), [x], x.axis)


def _selected(x: Tensor, axis: int, index: tuple[int, ...]) -> Tensor:
    return torch.index_select(x, axis, torch.tensor(index))


def tile(steps: Steps, node: Node) -> Value:
    """Tile: every position of an axis repeatedly."""
    x, repeats = node.value(0), node.integers(1, "repeats") or []
    for axis, times in enumerate(repeats):
        if times == 1:
            continue
        if times < 1 or x.shape[axis] * times > LONGEST:
            raise Unknown(f"it repeats axis {axis} {times} times")
        if axis == x.axis:
            x = steps.whole(x)
        x = _indexed(steps, x, axis, list(range(x.shape[axis])) * times)
    return x


def split(steps: Steps, node: Node) -> list[Value]:
    """Split."""
    x, sizes = node.value(0), node.integers(1, "split")
    axis, count = positive(node.number("axis", 0), len(x.shape)), len(node.outputs)
    if axis == x.axis:
        x = steps.whole(x)
    size = x.shape[axis]
    if sizes is None:
        each = -(-size // count)
        sizes = [min(each, size - k * each) for k in range(count)]
    return steps.run_all(Call(torch.split, sizes, x.inner(axis)), [x], [x.axis] * count)


def gather(steps: Steps, node: Node) -> Value:
    """Gather at constant positions, or rows of a table at integers of the input."""
    index = node[1]
    if isinstance(index, Value):
        table = node.required(0)
        if node.number("axis", 0) or table.ndim != 2:
            raise Unknown("its positions depend on the data, but it is not a look-up of rows in a table")
        if index.tensor.is_floating_point():
            raise Unknown("its positions are real numbers that depend on the data")
        layer = nn.Embedding(*table.shape)
        layer.weight = nn.Parameter(tensor_of(table).float())
        return steps.run(layer, [index], index.axis)
    x, wanted = node.value(0), node.required(1)
    axis = positive(node.number("axis", 0), len(x.shape))
    size = x.shape[axis]
    flat = [int(v) + size if v < 0 else int(v) for v in wanted.ravel()]
    if any(not 0 <= v < size for v in flat):
        raise Unknown(f"it takes position {max(flat)} of an axis of size {size}")
    shape = [*x.shape[:axis], *wanted.shape, *x.shape[axis + 1 :]]
    if flat == list(range(size)):
        return steps.reshaped(x, shape)
    if axis == x.axis:
        x = steps.whole(x)
    if len(flat) == 1 and wanted.ndim == 0:
        left = None if x.axis is None else x.axis - (axis < x.axis)
        return steps.run(Call(torch.select, x.inner(axis), flat[0]), [x], left)
    return steps.reshaped(_indexed(steps, x, axis, flat), shape)


def join(steps: Steps, node: Node) -> Value:
    """Concat, also with constants."""
    given = [node[k] for k in range(len(node.inputs))]
    first = next(one for one in given if isinstance(one, Value))
    axis = positive(node.attributes["axis"], len(first.shape))
    values = [one if isinstance(one, Value) else _constant_value(steps, first, np.asarray(one)) for one in given]
    if any(one.axis != first.axis for one in values) or axis == first.axis:
        values = [steps.whole(one) for one in values]
    return steps.run(Call(_joined, axis=values[0].inner(axis)), values, values[0].axis)


def _constant_value(steps: Steps, like: Value, constant: np.ndarray) -> Value:
    """A constant as a value: the same for every sample."""
    return steps.run(_Repeated(tensor_of(constant)), [like], None)


class _Repeated(nn.Module):
    """A constant for every sample of a batch."""

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        constant: Tensor = self.constant  # type: ignore[assignment]
        return constant[None].expand(x.shape[0], *constant.shape)


def _joined(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


def pad(steps: Steps, node: Node) -> Value:
    """Pad."""
    x, pads = node.value(0), node.integers(1, "pads")
    if pads is None:
        raise Unknown("its pads are missing")
    fill = node.constant(2) if node.version >= 11 else np.asarray(node.number("value", 0.0))
    axes = node.integers(3, "axes") or list(range(len(x.shape)))
    sides = {positive(axis, len(x.shape)): (pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes)}
    sides = {axis: pair for axis, pair in sides.items() if pair != (0, 0)}
    if not sides:
        return x
    if x.axis in sides:
        x = steps.whole(x)
    mode = node.number("mode", b"constant").decode()
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    value = 0.0 if fill is None or not np.asarray(fill).size else float(np.asarray(fill).ravel()[0])
    inner = {x.inner(axis): pair for axis, pair in sides.items()}
    flat = [side for k in range(x.tensor.ndim - 1, min(inner) - 1, -1) for side in inner.get(k, (0, 0))]
    if mode == "constant":
        return steps.run(Call(F.pad, flat, value=value), [x], x.axis)
    if min(inner) < 2:
        raise Unknown(f"it pads the batch or the channels by {mode}")
    return steps.run(Call(F.pad, flat, mode=names[mode]), [x], x.axis)


def reduce(steps: Steps, node: Node) -> Value:
    """ReduceMean, ReduceSum, ReduceMax and ReduceMin."""
    x, axes = node.value(0), node.integers(1, "axes")
    if not axes and node.number("noop_with_empty_axes", 0):
        return x
    axes = sorted(positive(axis, len(x.shape)) for axis in axes or range(len(x.shape)))
    keeps = bool(node.number("keepdims", 1))
    inner = tuple(x.inner(axis) for axis in axes if axis != x.axis)
    function, wanted = REDUCTIONS[node.kind], [1 if k in axes else size for k, size in enumerate(x.shape)]
    if inner:
        x = steps.run(Call(function, dim=inner, keepdim=True), [x], x.axis)
    return steps.reshaped(x, wanted if keeps else [size for k, size in enumerate(wanted) if k not in axes])


def expand(steps: Steps, node: Node) -> Value:
    """Expand."""
    x, wanted = node.value(0), node.integers(1, "shape")
    assert wanted is not None
    x = steps.with_axes(x, len(wanted))
    shape = list(np.broadcast_shapes(x.shape, tuple(wanted)))
    if shape == list(x.shape):
        return x
    if x.axis is not None and shape[x.axis] != 1:
        x = steps.whole(x)
    rest = [size for k, size in enumerate(shape) if k != x.axis]
    return steps.run(Call(_expanded, tuple(rest)), [x], x.axis)


def _expanded(x: Tensor, rest: tuple[int, ...]) -> Tensor:
    return x.expand(x.shape[0], *rest)


def depth_to_space(steps: Steps, node: Node) -> Value:
    """DepthToSpace in torch's order."""
    if node.number("mode", b"DCR") != b"CRD":
        raise Unknown("its mode is DCR; torch has CRD (pixel_shuffle)")
    return steps.run(nn.PixelShuffle(node.attributes["blocksize"]), [steps.batch_first(node.value(0))], 0)


OPERATORS = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Slice": slices,
    "Split": split,
    "Tile": tile,
    "Gather": gather,
    "Concat": join,
    "Pad": pad,
    **dict.fromkeys(REDUCTIONS, reduce),
    "Expand": expand,
    "DepthToSpace": depth_to_space,
}
