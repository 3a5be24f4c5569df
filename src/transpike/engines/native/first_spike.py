"""The native table of first-spike levels."""

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.codes.first_spike import raised
from transpike.codes.time_code import TimeCode
from transpike.engines.native import library as _native

SHIFTS = (16, 14, 12)  # bits of a float that are cut off: fewer give a longer table
SMALL = 2**14  # elements below which one thread is used


@dataclass(frozen=True, eq=False)
class Table:
    """Ascending slot thresholds and levels; ``first`` gives, by a float's high bits, where the search begins."""

    library: ctypes.CDLL
    slot_thresholds: Tensor
    levels: Tensor
    first: Tensor
    low: int
    shift: int

    def __call__(self, charge: Tensor, owned: bool = False) -> Tensor:
        dense = charge.is_contiguous() or (charge.ndim == 4 and charge.is_contiguous(memory_format=torch.channels_last))
        charge = charge if dense else charge.contiguous()
        out = charge if owned else torch.empty_like(charge)  # with the same layout
        threads = 1 if charge.numel() < SMALL else torch.get_num_threads()
        self.library.tp_first_spikes(
            charge.data_ptr(), charge.numel(), self.slot_thresholds.data_ptr(), self.levels.data_ptr(),
            len(self.levels) - 1, self.first.data_ptr(), self.low, len(self.first), self.shift, threads, out.data_ptr(),
        )  # fmt: skip
        return out


def table(code: TimeCode, threshold: Tensor) -> Table | None:
    """The table of a layer with one threshold; None without the library, or if thresholds are too close together."""
    library = _native.load()[0]
    if library is None:
        return None
    slot_thresholds = raised(code.slot_thresholds * threshold.double(), torch.float32).flip(0).contiguous()
    if not float(slot_thresholds[0]) > 0:
        return None
    bits = slot_thresholds.view(torch.int32).long()
    for shift in SHIFTS:
        low, high = int(bits[0] >> shift) - 1, int(bits[-1] >> shift) + 1
        starts = torch.arange(low, high + 1) << shift
        first = torch.searchsorted(bits, starts, right=True)
        if int((first[1:] - first[:-1]).max()) <= 1:
            break
    else:
        return None
    levels = torch.cat([torch.zeros(1, dtype=torch.float64), code.levels.flip(0)]).float()
    endless = torch.cat([slot_thresholds, torch.tensor([math.nan])])  # no charge reaches NaN, not even infinity
    return Table(library, endless, levels, first.int().contiguous(), low, shift)
