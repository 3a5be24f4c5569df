"""A batch in pieces, so that temporaries are small.

Temporaries of a whole batch can be most of the memory of a run, and the allocator often cannot use the place of a large
tensor again for another one of its size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from transpike.core.op import Op
from transpike.ops import Conv

PIECE = 2**17  # bytes of the largest tensor of a piece: temporaries fit into the cache
UNFOLDED = 2**20  # bytes that a convolution may add to its output


def pieces(samples: int, size: int, most: int | None = None) -> Iterator[slice]:
    """Slices of ``samples`` samples of ``size`` bytes, each of at most ``most`` (PIECE) bytes or one sample."""
    rows = max(1, (PIECE if most is None else most) // max(1, size))
    return (slice(start, min(start + rows, samples)) for start in range(0, samples, rows))


def taken(state: Any, part: slice) -> Any:
    """The samples ``part`` of a cell's state, as new tensors: a cell may answer with parts of the state that it got."""
    if isinstance(state, tuple):
        return tuple(taken(one, part) for one in state)
    return state[part].clone() if isinstance(state, Tensor) else state


def put(whole: Any, part: slice, value: Any, samples: int) -> Any:
    """``whole`` with ``value`` at the samples ``part``: a tensor (batch, …), or a tuple of such states of a cell.

    Changed in place, and made where it is None or has another form, as a state that grows. A piece that is everything
    is returned as it is.
    """
    if isinstance(value, tuple):
        fits = isinstance(whole, tuple) and len(whole) == len(value)
        parts = whole if fits else (None,) * len(value)
        return tuple(put(one, part, new, samples) for one, new in zip(parts, value, strict=True))
    if not isinstance(value, Tensor) or len(value) == samples:
        return value
    if not isinstance(whole, Tensor) or whole.shape[1:] != value.shape[1:] or whole.dtype != value.dtype:
        whole = value.new_empty((samples, *value.shape[1:]))
    whole[part] = value
    return whole


def linear(op: Op, inputs: list[Tensor]) -> Tensor:
    """``op.linear``. On a CPU, torch convolves in float64 by unfolding the inputs: of few samples at a time."""
    if not isinstance(op, Conv) or inputs[0].dtype != torch.float64 or inputs[0].device.type != "cpu":
        return op.linear(*inputs)
    x, kernel = inputs[0], op.weight[0, 0].numel()
    output = None
    most = UNFOLDED * torch.get_num_threads()  # each thread takes whole samples
    for part in pieces(len(x), kernel * x[0].nbytes, most):
        output = put(output, part, op.linear(x[part]), len(x))
    return output if output is not None else op.linear(x)
