"""The kernel of ``fused`` in Triton, which is imported only where currents lie on a GPU."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from transpike.lowering.exact_grid import RANGE_CHECK_EVERY

BLOCK = 1024  # neurons of one program


@triton.jit(do_not_specialize=["steps", "before"])  # which differ from call to call
def _steps(  # every neuron keeps its potential in a register from the first step to the last
    train, current, potential, threshold, bias, limit, found, neurons, sample, steps, before, CONSTANT: tl.constexpr,
    BIASED: tl.constexpr, HARD: tl.constexpr, EXACT: tl.constexpr, EVERY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < neurons
    here = place % sample
    v = tl.load(potential + place, mask=inside, other=0.0)
    theta = tl.load(threshold + here, mask=inside, other=1.0)
    edge = tl.load(limit + here, mask=inside, other=0.0)
    if BIASED:
        constant = tl.load(bias + here, mask=inside, other=0.0)
    if CONSTANT:
        x = tl.load(current + place, mask=inside, other=0.0)
    found_here = tl.zeros((BLOCK,), tl.int32)
    at = train + place
    for k in range(steps):
        if not CONSTANT:
            x = tl.load(at, mask=inside, other=0.0)
        v = v + x
        if BIASED:
            v = v + constant
        if not EXACT:
            found_here += (tl.abs(v - theta) < edge).to(tl.int32)
        fired = v >= theta
        if HARD:  # noqa: SIM108
            v = tl.where(fired, 0.0, v)
        else:
            v = tl.where(fired, v - theta, v)
        tl.store(at, fired.to(tl.float32), mask=inside)
        if EXACT:  # noqa: SIM102 (what a constant decides is decided when the kernel is compiled)
            if (before + k + 1) % EVERY == 0:
                found_here += (tl.abs(v) > edge).to(tl.int32)
        at += neurons
    tl.store(potential + place, v, mask=inside)
    tl.atomic_add(found, tl.sum(found_here, 0))


def scan(
    train: Tensor, current: Tensor | None, potential: Tensor, row: tuple[Tensor, Tensor | None, Tensor], reset: str,
    exact: bool, before: int,
) -> int:  # fmt: skip
    """``transpike.engines.dense.fused.Scan``."""
    neurons, (threshold, bias, limit) = potential.numel(), row
    found = torch.zeros(1, dtype=torch.int32, device=train.device)
    with torch.cuda.device_of(train):  # a kernel starts on the current device
        _steps[(triton.cdiv(neurons, BLOCK),)](
            train, train if current is None else current, potential, threshold,
            threshold if bias is None else bias, limit, found, neurons, len(threshold), train.numel() // neurons,
            before, CONSTANT=current is not None, BIASED=bias is not None, HARD=reset == "hard", EXACT=exact,
            EVERY=RANGE_CHECK_EVERY, BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return int(found)
