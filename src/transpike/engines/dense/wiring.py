"""Wiring between sigma-delta neurons and the weights that read them, on 16-bit levels: pools, means and selections."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.graph import Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.engines.native.delta import Sent
from transpike.lowering.lowered import Lowered
from transpike.ops import AvgPool, Cat, Mean, Resample, Reshape
from transpike.ops.shape import Nearest, Pad, Permute, Slice

SELECTIONS = (Cat, Nearest, Permute, Reshape, Slice)


def passes_levels(lowered: Lowered, node: Node, shape: tuple[int, ...]) -> bool:
    """True for sums and selections of levels that ``wired`` can do. ``shape`` is that of the first input."""
    op, axis = node.op, lowered.axes[node.inputs[0]] if node.inputs else 0
    if is_plain(op, AvgPool):
        return not op.divide and axis == 1 and len(op.kernel) == len(shape) - 1
    if is_plain(op, Mean):
        return not op.divide and axis not in op.axes
    if is_plain(op, Resample):
        maps = _maps(op)
        return axis == 1 and len(maps) == len(shape) - 1 and all(bool((one == one.round()).all()) for one in maps)
    return is_plain(op, SELECTIONS) or (is_plain(op, Pad) and op.mode == "constant")


def wired(op: Op, inputs: Sequence[Sent], axis: int, shape: tuple[int, ...]) -> Sent:
    """What the wiring makes of levels: (batch, …, time, features), the features being on ``axis`` of ``shape``.

    ``events`` are those of the inputs: where they are 0, nothing is sent.
    """
    first = inputs[0]
    events = torch.stack([one.events for one in inputs]).sum(0)
    if isinstance(op, AvgPool):
        levels = _pooled(op, first.levels, shape[1:])
    elif isinstance(op, Resample):
        levels = first.levels
        for place, matrix in enumerate(_maps(op)):
            levels = _mapped(matrix, levels, place + 1)
    else:
        steps = first.levels.shape[-2]
        channels = shape[axis - 1]
        space = [*shape[: axis - 1], *shape[axis:]]
        levels = torch.empty((len(first.levels), *space, steps, channels), dtype=torch.int16)
        for k in range(steps):
            if bool(events[k].any()):
                now = [one.levels.select(-2, k).movedim(-1, one.axis) for one in inputs]
                levels[..., k, :] = op.run(*now).movedim(axis, -1)
            else:
                levels[..., k, :] = 0
    return Sent(levels, axis, torch.zeros((4, len(events)), dtype=torch.float64), events)


def _pooled(op: AvgPool, levels: Tensor, space: tuple[int, ...]) -> Tensor:
    """The sums of the windows of (batch, *space before, time, features)."""
    amounts = []  # zeros around the levels, the last axis first
    for axis in reversed(range(len(space))):
        reach = (space[axis] - 1) * op.stride[axis] + op.kernel[axis]
        before = op.padding[axis]
        amounts += [before, max(0, reach - before - levels.shape[axis + 1])]
    padded = F.pad(levels, (0, 0, 0, 0, *amounts)) if any(amounts) else levels
    total: Tensor | None = None
    for place in torch.cartesian_prod(*(torch.arange(size) for size in op.kernel)).reshape(-1, len(space)).tolist():
        parts = [
            slice(start, start + (size - 1) * stride + 1, stride)
            for start, size, stride in zip(place, space, op.stride, strict=True)
        ]
        here = padded[(slice(None), *parts)]
        total = here.clone(memory_format=torch.contiguous_format) if total is None else total.add_(here)
    assert total is not None
    return total


def _maps(op: Resample) -> list[Tensor]:
    return [op.columns] if op.rows is None else [op.rows, op.columns]


def _mapped(matrix: Tensor, levels: Tensor, axis: int) -> Tensor:
    """A matrix of integers times an axis of levels; what is sent at the end fits, and sums on the way may wrap."""
    shape = (*levels.shape[:axis], len(matrix), *levels.shape[axis + 1 :])
    out = torch.zeros(shape, dtype=torch.int16)
    for i, row in enumerate(matrix):
        for j in row.nonzero().flatten().tolist():
            out.select(axis, i).add_(levels.select(axis, j), alpha=int(row[j]))
    return out
