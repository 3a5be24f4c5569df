"""Maximum pooling of the estimates of levels, in integers: what ``MaximumOfEstimates`` computes step by step."""

import itertools

import torch
from torch import Tensor

from transpike.core.graph import Node
from transpike.core.plain import is_plain
from transpike.engines.native.delta import last
from transpike.lowering.lowered import Lowered
from transpike.neurons import MaximumOfEstimates
from transpike.ops import MaxPool

State = tuple[Tensor, Tensor]


def pools_levels(lowered: Lowered, node: Node) -> bool:
    """True for maximum pooling of images or lines whose features come first, and on which no bias arrives."""
    if not is_plain(node.op, MaximumOfEstimates) or not is_plain(node.op.pool, MaxPool):
        return False
    pool, biases = node.op.pool, lowered.biases[node.name]
    alphabet = lowered.alphabets[node.name]
    return (
        alphabet.kind == "bits"
        and alphabet.signed
        and lowered.axes[node.name] == lowered.axes[node.inputs[0]] == 1
        and len(pool.kernel) == len(node.shape) - 1
        and not any(bool(bias.any()) for bias in biases)
    )


def maxima(pool: MaxPool, levels: Tensor, state: State | None, space: tuple[int, ...]) -> tuple[Tensor, Tensor, State]:
    """(changes of the maxima, spikes of each, state after the last step) of ``levels`` as in ``Sent``.

    ``space``: of the output. A state, estimates and maxima, is (batch, *shape) in float64 with the features on axis 1;
    None: that of a new run, which is 0.
    """
    estimates, steps = levels.to(torch.int32), levels.shape[-2]
    if state is not None:
        estimates[..., 0, :] += last(state[0], 1).to(torch.int32)
    for k in range(1, steps):
        estimates[..., k, :] += estimates[..., k - 1, :]
    found = _pooled(pool, estimates, space)
    sent = torch.empty(found.shape, dtype=torch.int16)
    before = torch.zeros((), dtype=torch.int32) if state is None else last(state[1], 1).to(torch.int32)
    for k in range(steps):
        sent[..., k, :] = found[..., k, :] - before
        before = found[..., k, :]
    size = sent.abs()
    whole = torch.arange(int(size.max()) + 1 if size.numel() else 1)
    digits = whole ^ (3 * whole)  # as many ones as there are digits
    ones = sum((digits >> bit & 1) for bit in range(int(whole[-1]).bit_length() + 2))
    after = tuple(value[..., -1, :].double().movedim(-1, 1) for value in (estimates, found))
    return sent, torch.as_tensor(ones).to(torch.uint8)[size.int()], after  # type: ignore[return-value]


def _pooled(pool: MaxPool, values: Tensor, space: tuple[int, ...]) -> Tensor:
    """The largest of each window of (batch, *space before, time, features); what is outside is never the largest."""
    shape = (len(values), *space, *values.shape[-2:])
    found = torch.full(shape, torch.iinfo(values.dtype).min, dtype=values.dtype)
    for taps in itertools.product(*map(range, pool.kernel)):
        read, written = [], []
        for axis, tap in enumerate(taps):
            stride, size = pool.stride[axis], values.shape[axis + 1]
            start = tap * pool.dilation[axis] - pool.padding[axis]
            first, end = max(0, -(start // stride)), min(space[axis], (size - 1 - start) // stride + 1)
            count = max(0, end - first)
            written.append(slice(first, first + count))
            begin = start + first * stride
            read.append(slice(begin, begin + (count - 1) * stride + 1, stride) if count else slice(0, 0))
        own = found[(slice(None), *written)]
        torch.maximum(own, values[(slice(None), *read)], out=own)
    return found
