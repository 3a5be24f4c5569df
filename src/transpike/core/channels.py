"""Which axis of a wire holds its features, and values that there are one of for each feature.

Axes are counted with the batch as axis 0. A convolution has its features on axis 1, a fully connected layer on the last
axis, whatever the rank of its input; wiring passes the axis on. So a threshold per channel of (batch, tokens, features)
is one per feature. Nothing stores the axis: it is derived from the graph. What is stored has one form: a value per
channel has size 1 on every other axis, so that it broadcasts against (batch, *shape) and says itself where it belongs.
"""

from collections.abc import Sequence

from torch import Tensor


def resolved(axis: int, rank: int) -> int:
    """``axis``, which may count from the end, of a wire with ``rank`` axes behind the batch: from 1 to that rank."""
    return max(1, axis % (rank + 1))


def passed_on(axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """The axis behind an op that leaves axes where they are.

    That of the first input of the output's shape, else of its rank; of the last axis, if there is none and the first
    input has its features there, else axis 1.
    """
    for fits in (lambda one: one == shape, lambda one: len(one) == len(shape)):
        for axis, one in zip(axes, shapes, strict=True):
            if fits(one):
                return min(axis, max(1, len(shape)))
    last = bool(shapes) and len(shapes[0]) > 1 and axes[0] == len(shapes[0])
    return max(1, len(shape)) if last else 1


def reshaped(axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Where the elements along ``axis`` of (batch, *before) lie after a row-major reshape to (batch, *after).

    Axes that are merged become the merged axis; of axes into which one is split, the last that is longer than 1.
    """
    inside, outside, i, j = 1, 1, 0, 0  # sizes of the parts of both shapes that hold the same elements
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
    """(batch, *shape) → (channels, everything else)."""
    return value.movedim(axis, 0).flatten(1)


def shaped(value: Tensor, axis: int, rank: int) -> Tensor:
    """One value a channel → what broadcasts against (batch, *shape): (channels, 1, …), (1, channels) …

    ``rank`` is the length of shape; ``axis`` counts the batch, which the result does not have.
    """
    return value.reshape(*(1,) * (axis - 1), -1, *(1,) * (rank - axis))


def extreme(value: Tensor, axis: int, *, largest: bool) -> Tensor:
    """The largest (or least) value of each channel, of (1, *shape), with size 1 on every other axis."""
    others = [a for a in range(1, value.ndim) if a != axis]
    if not others:
        return value
    return value.amax(others, keepdim=True) if largest else value.amin(others, keepdim=True)
