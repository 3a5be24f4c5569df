"""The counts of integrate-and-fire neurons after a whole window, in one pass of the native library."""

import ctypes
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from transpike.engines.native import library as _native


@dataclass(frozen=True, eq=False)
class Staircase:
    """``clip(⌊(Q + offset) / θ⌋, 0, most)`` of charges Q (batch, *shape) on the exact grid: float64 as in torch.

    ``offset`` and ``threshold`` broadcast to (1, *shape).
    """

    shape: tuple[int, ...]
    offset: Tensor
    threshold: Tensor
    most: int
    rows: dict[bool, tuple[int, bool, Tensor, Tensor]]
    """(period, shared, offsets, thresholds) of charges with channels last in memory, and of others."""

    @classmethod
    def of(cls, shape: tuple[int, ...], offset: Tensor, threshold: Tensor, most: int) -> "Staircase":
        whole = (1, *shape)
        return cls(shape, offset.double().expand(whole), threshold.double().expand(whole), most, {})

    def __call__(self, library: ctypes.CDLL, charge: Tensor) -> Tensor | None:
        """In float32, in the memory order of ``charge``; None for orders that are not known here."""
        last = charge.ndim == 4 and not charge.is_contiguous()
        if not charge.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format):
            return None
        if last not in self.rows:
            self.rows[last] = self._in_order(last)
        period, shared, offset, threshold = self.rows[last]
        levels = torch.empty_like(charge, dtype=torch.float32)
        columns = self.shape[0] if last or len(self.shape) == 1 else prod(self.shape[1:])
        call = _native.Staircase(
            offset=offset.data_ptr(), threshold=threshold.data_ptr(), levels=levels.data_ptr(), columns=columns,
            rows=charge.numel() // columns, period=period, shared=shared, most=self.most,
            threads=torch.get_num_threads(),
        )  # fmt: skip
        if charge.dtype == torch.float64:
            call.wide = charge.data_ptr()
        elif charge.dtype == torch.float32:
            call.narrow = charge.data_ptr()
        else:
            return None
        library.tp_run_staircase(ctypes.byref(call))
        return levels

    def _in_order(self, last: bool) -> tuple[int, bool, Tensor, Tensor]:
        values = [self.offset, self.threshold]
        if len(self.shape) == 1:
            return 1, False, values[0].contiguous(), values[1].contiguous()
        by_channel = [value.flatten(2) for value in values]
        uniform = all(bool((value == value[..., :1]).all()) for value in by_channel)
        if last:
            values = [value.movedim(1, -1) for value in values]
            if uniform:
                values = [value[0].reshape(-1, self.shape[0])[:1] for value in values]
            return 1 if uniform else prod(self.shape[1:]), False, values[0].contiguous(), values[1].contiguous()
        if uniform:
            values = [value[0, :, 0] for value in by_channel]
        return self.shape[0], uniform, values[0].contiguous(), values[1].contiguous()
