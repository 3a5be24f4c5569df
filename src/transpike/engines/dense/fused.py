"""All steps of a layer of integrate-and-fire neurons in one kernel, on GPUs for which Triton is installed."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

Row = tuple[Tensor, Tensor | None, Tensor]
"""(threshold, bias, limit) of a layer: one number for each neuron of a sample, (neurons,), in the order of memory.

``limit``: on the exact grid the largest size of a potential; else the distance from the threshold below which rounding
may decide whether a neuron fires.
"""
Scan = Callable[[Tensor, Tensor | None, Tensor, Row, str, bool, int], int]
"""(currents, constant current, potentials, row, reset, exact, steps before): replaces the currents by spikes, and the
potentials by those after the last step.

Currents (steps · batch, *shape) and potentials (batch, *shape) are float32 and in the same order of memory, without
gaps. If there is a constant current (batch, *shape), what the first argument holds is not read. The operations of
``FoldedRun._scan_unit`` in the same order. Returns how many potentials were beyond the ``limit`` when they were
checked, or so close to the threshold.
"""


@functools.cache
def scan_on(device: str) -> Scan | None:
    """The kernel for this type of device; None on others than GPUs of CUDA or ROCm, and without Triton."""
    if device != "cuda":
        return None
    try:
        from transpike.engines.dense._triton_scan import scan
    except ImportError:
        return None
    return scan


def row(like: Tensor, threshold: Tensor, bias: Tensor | None, limit: Tensor) -> Row:
    """``like`` (samples, *shape) tells shape and order; the others broadcast to it, or to one sample."""
    return _in_order(threshold, like), None if bias is None else _in_order(bias, like), _in_order(limit, like)


def _in_order(value: Tensor, like: Tensor) -> Tensor:
    found = value.to(like).expand(1, *like.shape[1:])
    found = found.movedim(1, -1) if like.ndim == 4 else found
    return found.reshape(-1).contiguous()


def in_order(value: Tensor) -> Tensor:
    """The same numbers without gaps: channels last in memory where the dense engine has them last."""
    layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
    return value.contiguous(memory_format=layout)
