"""Spikes kept for the backward pass as bits."""

import weakref
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

_open: ContextVar["PackSpikes | None"] = ContextVar("packing", default=None)


def mark(spikes: Tensor) -> Tensor:
    """Promise that a tensor holds 0 and 1 only; the same tensor comes back."""
    packing = _open.get()
    if packing is not None:
        packing.marks[_key(spikes)] = weakref.ref(spikes)
    return spikes


class PackSpikes(torch.autograd.graph.saved_tensors_hooks):
    """Within it, what autograd keeps of masks and of marked spikes takes one bit an element; gradients stay the same.

    ``packed`` and ``plain`` count the bytes that are kept in bits and otherwise, ``unpacked`` what the former would
    have taken; leaves that are trained are not counted, for they are there anyway. ``active=False`` only counts.
    """

    def __init__(self, active: bool = True) -> None:
        super().__init__(self._pack, _unpack)
        self.active = active
        self.marks: dict[tuple[int, int], weakref.ref[Tensor]] = {}
        self.packed = self.plain = self.unpacked = 0

    def __enter__(self) -> "PackSpikes":  # type: ignore[override]
        self._before = _open.set(self)
        super().__enter__()
        return self

    def __exit__(self, *what: Any) -> None:
        super().__exit__(*what)
        _open.reset(self._before)
        self.marks.clear()

    def _pack(self, tensor: Tensor) -> Any:
        size = tensor.numel() * tensor.element_size()
        mark = self.marks.get(_key(tensor))
        # the memory of a marked tensor that has died may be another's by now
        spiking = tensor.dtype == torch.bool or (mark is not None and mark() is not None)
        if self.active and spiking and tensor.numel() >= 64 and tensor.device.type == "cpu":
            order = _dense(tensor)
            packed = np.packbits(tensor.detach().permute(order).to(torch.uint8).contiguous().numpy().reshape(-1))
            self.packed += packed.nbytes
            self.unpacked += size
            return packed, tensor.shape, tensor.dtype, order
        if not (tensor.is_leaf and tensor.requires_grad):
            self.plain += size
        return tensor


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    packed, shape, dtype, order = kept
    inner = [shape[axis] for axis in order]
    bits = np.unpackbits(packed, count=int(np.prod(inner))).reshape(inner)
    back = [order.index(axis) for axis in range(len(order))]
    return torch.from_numpy(bits).to(dtype).permute(back)


def _dense(tensor: Tensor) -> list[int]:
    """The axes from the slowest to the fastest, so that the layout in memory comes back as it was."""
    return sorted(range(tensor.ndim), key=lambda axis: (-int(tensor.stride()[axis]), axis))


def _key(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()
