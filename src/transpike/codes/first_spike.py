"""Time to first spike without time: the level of a neuron that hears everything before it fires.

The neuron in time (``neurons.FirstSpike``) and the reference engine must not import this module: they are what it is
checked against.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from transpike.codes.time_code import TimeCode

SHIFTS = (12, 10, 8)  # of a float's bits: the fewer are cut off, the longer the list and the fewer the second looks
RARE, OFTEN = 0.01, 0.3  # shares of the list's entries that need a second look: few enough; too many for a list
NEAR = 2.0**-22  # relative: more than rounding to float32 and one division there lose
FEW = 4096  # elements below which a search is as fast


def first_levels(charge: Tensor, threshold: Tensor | float, code: TimeCode) -> Tensor:
    """The level of the first slot whose threshold ``θ bar(t)`` the charge reaches, 0 for none; same shape and dtype.

    ``threshold`` broadcasts to the charge. What decides is the comparison in float64. On a CPU the highest bits of
    charge ÷ threshold are looked up in a list, and only a charge whose entry holds a bar is compared. NaN reaches none.
    """
    theta = torch.as_tensor(threshold, dtype=charge.dtype, device=charge.device)
    share = charge / theta
    entries = _entries(code) if share.device.type == "cpu" and share.numel() >= FEW else None
    if entries is None:
        return _searched(charge, share, theta, code)
    channels_last = share.ndim == 4 and share.is_contiguous(memory_format=torch.channels_last)
    order = (0, 2, 3, 1) if channels_last else tuple(range(share.ndim))  # as memory holds them
    share = share.permute(order).contiguous().float()
    flat = share.view(-1)
    place = (flat.view(torch.int32) >> entries.shift).sub_(entries.low).clamp_(0, len(entries.levels) - 1)
    odd = not math.isfinite(float(flat.sum()))  # a NaN, which would stand behind infinity
    levels = torch.index_select(entries.levels, 0, place, out=flat)
    if odd:
        levels.masked_fill_(charge.permute(order).reshape(-1).isnan(), 0.0)
    doubtful = (levels < 0).nonzero().squeeze(1)
    if len(doubtful):
        where = torch.unravel_index(doubtful, share.shape)
        heard, height = charge.permute(order)[where], theta.expand(charge.shape).permute(order)[where]
        levels[doubtful] = _searched(heard, heard / height, height, code).float()
    back = [order.index(axis) for axis in range(len(order))]
    return share.permute(back).to(charge.dtype)


def raised(slot_thresholds: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest values of ``dtype`` that are not below ``slot_thresholds`` (float64): they are reached by the same charges."""
    near = slot_thresholds.to(dtype)
    return torch.where(near.double() < slot_thresholds, torch.nextafter(near, torch.full_like(near, math.inf)), near)


def _searched(charge: Tensor, share: Tensor, threshold: Tensor, code: TimeCode) -> Tensor:
    """Binary search for ``share`` = charge ÷ threshold, put right by what float64 says of the bars on both sides."""
    slot_thresholds, nothing = (
        code.slot_thresholds.flip(0).to(share.device),
        torch.zeros(1, dtype=torch.float64, device=share.device),
    )
    reached = torch.bucketize(share.contiguous(), slot_thresholds.to(share.dtype), right=True)
    padded = torch.cat([nothing - math.inf, slot_thresholds, nothing + math.nan])  # not even infinity reaches the last
    charge, threshold = charge.double(), threshold.double()
    reached -= (charge < padded[reached] * threshold).long()
    reached += (charge >= padded[reached + 1] * threshold).long()
    reached *= charge.isnan().logical_not()
    return torch.cat([nothing, code.levels.flip(0).to(share.device)]).to(share.dtype)[reached]


@dataclass(frozen=True, eq=False)
class _Entries:
    """Entry e holds the floats whose bits >> ``shift`` are ``low`` + e: their level, −1 where they do not share one."""

    levels: Tensor
    low: int
    shift: int


@lru_cache(maxsize=64)
def _entries(code: TimeCode) -> _Entries | None:
    """The coarsest list of which few entries need a second look; None where too many would."""
    slot_thresholds = code.slot_thresholds.flip(0)
    below, above = slot_thresholds * (1 - NEAR), slot_thresholds * (1 + NEAR)
    levels = torch.cat([torch.zeros(1, dtype=torch.float64), code.levels.flip(0)]).float()
    for shift in SHIFTS:
        ends = torch.stack([below[0], above[-1]]).float().view(torch.int32) >> shift
        low, high = int(ends[0]) - 1, int(ends[1]) + 1  # all that is smaller, and all that is larger
        least = torch.arange(low, high + 1, dtype=torch.int32) << shift
        most = least + ((1 << shift) - 1)
        surely = torch.searchsorted(above, least.view(torch.float32).double(), right=True)
        perhaps = torch.searchsorted(below, most.view(torch.float32).double(), right=True)
        doubtful = surely != perhaps
        share = float(doubtful.double().mean())
        if share < RARE:
            break
    return None if share > OFTEN else _Entries(levels[surely].masked_fill(doubtful, -1.0), low, shift)
