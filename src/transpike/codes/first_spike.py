"""Closed form of time-to-first-spike coding: the level of a neuron that receives its whole input before it fires.

The step-by-step neuron (``neurons.FirstSpike``) and the reference engine must not import this module, because tests
compare this module with them.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from transpike.codes.time_code import TimeCode

SHIFTS = (12, 10, 8)  # bits of a float that are cut off: fewer give a longer table and fewer comparisons in float64
RARE, OFTEN = 0.01, 0.3  # shares of ambiguous table entries: below RARE the table is used, above OFTEN there is none
NEAR = 2.0**-22  # relative: more than the error of one rounding to float32 and one division
FEW = 4096  # elements; below it a binary search is as fast


def first_levels(charge: Tensor, threshold: Tensor | float, code: TimeCode) -> Tensor:
    """The level of the first slot whose threshold ``θ · slot_thresholds[t]`` the charge reaches, 0 if it reaches none.

    ``threshold`` θ broadcasts to the charge; the result has the charge's shape and dtype. Comparisons are made in
    float64. On a CPU the high bits of charge ÷ θ index a table of levels; only charges whose table entry contains a
    threshold are compared. NaN reaches no threshold.
    """
    theta = torch.as_tensor(threshold, dtype=charge.dtype, device=charge.device)
    share = charge / theta
    entries = _entries(code) if share.device.type == "cpu" and share.numel() >= FEW else None
    if entries is None:
        return _searched(charge, share, theta, code)
    channels_last = share.ndim == 4 and share.is_contiguous(memory_format=torch.channels_last)
    order = (0, 2, 3, 1) if channels_last else tuple(range(share.ndim))  # the order in memory
    share = share.permute(order).contiguous().float()
    flat = share.view(-1)
    place = (flat.view(torch.int32) >> entries.shift).sub_(entries.low).clamp_(0, len(entries.levels) - 1)
    odd = not math.isfinite(float(flat.sum()))  # NaN sorts after infinity in the table
    levels = torch.index_select(entries.levels, 0, place, out=flat)
    if odd:
        levels.masked_fill_(charge.permute(order).reshape(-1).isnan(), 0.0)
    doubtful = (levels < 0).nonzero().squeeze(1)
    if len(doubtful):
        where = torch.unravel_index(doubtful, share.shape)
        candidates, thetas = charge.permute(order)[where], theta.expand(charge.shape).permute(order)[where]
        levels[doubtful] = _searched(candidates, candidates / thetas, thetas, code).float()
    back = [order.index(axis) for axis in range(len(order))]
    return share.permute(back).to(charge.dtype)


def raised(slot_thresholds: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest values of ``dtype`` that are ≥ ``slot_thresholds`` (float64); the same charges reach them."""
    near = slot_thresholds.to(dtype)
    return torch.where(near.double() < slot_thresholds, torch.nextafter(near, torch.full_like(near, math.inf)), near)


def _searched(charge: Tensor, share: Tensor, threshold: Tensor, code: TimeCode) -> Tensor:
    """Binary search for ``share`` = charge ÷ threshold, corrected by comparisons in float64 on both sides."""
    slot_thresholds, nothing = (
        code.slot_thresholds.flip(0).to(share.device),
        torch.zeros(1, dtype=torch.float64, device=share.device),
    )
    reached = torch.bucketize(share.contiguous(), slot_thresholds.to(share.dtype), right=True)
    padded = torch.cat([nothing - math.inf, slot_thresholds, nothing + math.nan])  # infinity does not reach NaN
    charge, threshold = charge.double(), threshold.double()
    reached -= (charge < padded[reached] * threshold).long()
    reached += (charge >= padded[reached + 1] * threshold).long()
    reached *= charge.isnan().logical_not()
    return torch.cat([nothing, code.levels.flip(0).to(share.device)]).to(share.dtype)[reached]


@dataclass(frozen=True, eq=False)
class _Entries:
    """Entry e covers the floats whose bits >> ``shift`` equal ``low`` + e: their level, or −1 if it is not unique."""

    levels: Tensor
    low: int
    shift: int


@lru_cache(maxsize=64)
def _entries(code: TimeCode) -> _Entries | None:
    """The coarsest table with few ambiguous entries; None if every table has too many, or levels exceed 2^24."""
    if float(code.levels[0]) > 2**24:  # float32 cannot represent such levels
        return None
    slot_thresholds = code.slot_thresholds.flip(0)
    below, above = slot_thresholds * (1 - NEAR), slot_thresholds * (1 + NEAR)
    levels = torch.cat([torch.zeros(1, dtype=torch.float64), code.levels.flip(0)]).float()
    for shift in SHIFTS:
        ends = torch.stack([below[0], above[-1]]).float().view(torch.int32) >> shift
        low, high = int(ends[0]) - 1, int(ends[1]) + 1  # everything smaller, and everything larger
        least = torch.arange(low, high + 1, dtype=torch.int32) << shift
        most = least + ((1 << shift) - 1)
        surely = torch.searchsorted(above, least.view(torch.float32).double(), right=True)
        perhaps = torch.searchsorted(below, most.view(torch.float32).double(), right=True)
        doubtful = surely != perhaps
        share = float(doubtful.double().mean())
        if share < RARE:
            break
    return None if share > OFTEN else _Entries(levels[surely].masked_fill(doubtful, -1.0), low, shift)
