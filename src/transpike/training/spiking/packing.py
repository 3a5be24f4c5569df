"""Spikes stored as bits for the backward pass."""

import weakref
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

_open: ContextVar["PackSpikes | None"] = ContextVar("packing", default=None)


def mark(spikes: Tensor) -> Tensor:
    """Marks a tensor as containing only 0 and 1; returns the same tensor."""
    packing = _open.get()
    if packing is not None:
        packing.marks[_key(spikes)] = weakref.ref(spikes)
    return spikes


class PackSpikes(torch.autograd.graph.saved_tensors_hooks):
    """Context in which autograd stores masks and marked spikes with one bit per element; gradients do not change.

    ``packed`` counts the bytes stored as bits, ``plain`` the other stored bytes, ``unpacked`` the bytes that the packed
    tensors would need otherwise; trained parameters are not counted. ``active=False`` only counts.
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
        # the memory of a deleted marked tensor may belong to another tensor
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
    """The axes from the slowest to the fastest, so that unpacking restores the memory layout."""
    return sorted(range(tensor.ndim), key=lambda axis: (-int(tensor.stride()[axis]), axis))


def _key(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()
