"""The axis of a wire that holds its features, and values per feature.

Axes are counted with the batch as axis 0. A convolution has its features on axis 1, a fully connected layer on the last
axis for any rank of its input; wiring passes the axis on. So a threshold per channel of (batch, tokens, features) is
one threshold per feature. The axis is not stored: it is derived from the graph. Stored values per channel have size 1
on every other axis, so that they broadcast against (batch, *shape) and their shape identifies the axis.
"""

from collections.abc import Sequence

from torch import Tensor


def resolved(axis: int, rank: int) -> int:
    """``axis`` (negative: from the end) of a wire with ``rank`` axes after the batch, as a number from 1 to rank."""
    return max(1, axis % (rank + 1))


def passed_on(axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """The feature axis after an op that does not move axes.

    The axis of the first input that has the output's shape, else of the first with its rank. If there is none: the
    last axis if the first input has its features there, else axis 1.
    """
    for fits in (lambda one: one == shape, lambda one: len(one) == len(shape)):
        for axis, one in zip(axes, shapes, strict=True):
            if fits(one):
                return min(axis, max(1, len(shape)))
    last = bool(shapes) and len(shapes[0]) > 1 and axes[0] == len(shapes[0])
    return max(1, len(shape)) if last else 1


def reshaped(axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """The axis that holds the elements of ``axis`` of (batch, *before) after a row-major reshape to (batch, *after).

    If axes are merged, the merged axis; if one axis is split, the last of the new axes that is longer than 1.
    """
    inside, outside, i, j = 1, 1, 0, 0  # sizes of the parts of both shapes with the same elements
    while i < len(before) or j < len(after):
        first, start = i, j
        if i < len(before):
            inside, i = inside * before[i], i + 1
        if j < len(after):
            outside, j = outside * after[j], j + 1
        while inside != outside and (i < len(before) or j < len(after)):
            if j == len(after) or (inside < outside and i < len(before)):
                inside, i = inside * before[i], i + 1
            else:
                outside, j = outside * after[j], j + 1
        if first < axis <= i:
            long = [k for k in range(start, j) if after[k] > 1]
            whole = [k for k in long if after[k] == before[axis - 1]]
            return (whole or long or [min(j, len(after)) - 1])[-1] + 1 if after else 1
    return 1


def rows(value: Tensor, axis: int) -> Tensor:
    """(batch, *shape) → (channels, all other elements)."""
    value = value if axis < value.ndim else value[:, None]  # one number for each sample
    return value.movedim(axis, 0).flatten(1)


def shaped(value: Tensor, axis: int, rank: int) -> Tensor:
    """One value per channel in a form that broadcasts against (batch, *shape): (channels, 1, …), (1, channels) …

    ``rank`` is the length of shape; ``axis`` counts the batch as axis 0, which the result does not have.
    """
    return value.reshape(*(1,) * (axis - 1), -1, *(1,) * (rank - axis))


def extreme(value: Tensor, axis: int, *, largest: bool) -> Tensor:
    """The largest (or smallest) value of each channel of (1, *shape), with size 1 on every other axis."""
    others = [a for a in range(1, value.ndim) if a != axis]
    if not others:
        return value
    return value.amax(others, keepdim=True) if largest else value.amin(others, keepdim=True)
