"""Time to first spike without time: the level of a neuron that hears everything before it fires.

The neuron in time (``neurons.FirstSpike``) and the reference engine must not import this module: they are what it is
checked against.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from transpike.core.time_code import TIE, TimeCode

MOST_CHECKED = 1024
NEAR = 2e-6


def first_levels(charge: Tensor, threshold: Tensor | float, code: TimeCode) -> Tensor:
    """The level of the first slot whose threshold ``θ bar(t)`` the charge reaches, 0 for none; same shape and dtype.

    In float32 a logarithm finds the slot where that agrees with the table but for charges within a rounding of a bar;
    in float64, or else, a binary search in the table.
    """
    x = charge / threshold
    formula = _formula(code) if x.dtype == torch.float32 else None
    return _searched(x, code) if formula is None else formula(x)


def exact_levels(charge: Tensor, threshold: Tensor, code: TimeCode) -> Tensor:
    """The same by the table alone, also where the charge is as near to a bar as float32 can tell."""
    if threshold.numel() == 1:
        return _looked_up(charge, raised(code.bars * threshold.double().cpu().reshape(()), charge.dtype), code)
    return _searched(charge.double() / threshold.double(), code).to(charge.dtype)


def raised(bars: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest values of ``dtype`` that are not below ``bars`` (float64): they are reached by the same charges."""
    near = bars.to(dtype)
    return torch.where(near.double() < bars, torch.nextafter(near, torch.full_like(near, math.inf)), near)


def formula_agrees(step: Tensor, threshold: Tensor, code: TimeCode, dtype: torch.dtype) -> bool:
    """True where ``first_levels`` gives the table's levels for all charges that are multiples of ``step``.

    ``step`` and ``threshold`` broadcast to one another. Looks at the multiples on both sides of every bar.
    """
    if _formula(code) is None or code.slots > MOST_CHECKED:
        return False
    step, threshold = torch.broadcast_tensors(step.double(), threshold.double())
    step, threshold = step.reshape(-1, 1), threshold.reshape(-1, 1)
    bars = threshold * code.bars
    above = torch.ceil(bars / step)
    levels = torch.cat([torch.zeros(1, dtype=torch.float64), code.levels.flip(0)])
    for charge in (above * step, (above - 1) * step):
        reached = (charge[:, :, None] >= bars[:, None, :]).sum(-1)
        found = first_levels(charge.to(dtype), threshold.to(dtype), code).double()
        if not torch.equal(found, levels[reached]):
            return False
    return True


def _searched(x: Tensor, code: TimeCode) -> Tensor:
    return _looked_up(x, code.bars.to(x.dtype), code)


def _looked_up(x: Tensor, bars: Tensor, code: TimeCode) -> Tensor:
    levels = torch.cat([torch.zeros(1, dtype=torch.float64), code.levels.flip(0)]).to(x)
    return levels[torch.bucketize(x.contiguous(), bars.flip(0).to(x.device), right=True)]


class _Formula:
    """``−slot = ⌊τ log_b(x) − delay⌋``, and the slot's level worked out again in whole numbers."""

    def __init__(self, code: TimeCode) -> None:
        self.code, self.linear, self.low = code, code.kernel == "linear", code.smallest
        self.late = 0.5 if code.rounding == "nearest" else 0.0
        if not self.linear:
            self.per_octave = code.tau / math.log2(code.base)
            self.offset = self.late - code.delay - self.per_octave * math.log2(1 - TIE)

    def __call__(self, x: Tensor) -> Tensor:
        code = self.code
        if self.linear:
            level = x.mul(code.window).add_(self.late + code.window * TIE).floor_().clamp_(0, code.window)
            return level if code.slots == code.window else level.masked_fill_(level <= code.window - code.slots, 0)
        silent = x < self.low
        level = x.clamp(min=self.low).log2_().mul_(self.per_octave).add_(self.offset).floor_().clamp_(max=0.0)
        level.add_(code.delay).mul_(1 / self.per_octave).exp2_().mul_(1 / code.worth).sub_(1e-3).ceil_()
        return level.masked_fill_(silent, 0)


@lru_cache(maxsize=256)
def _formula(code: TimeCode) -> _Formula | None:
    """The formula of this code where it gives the table's levels on both sides of every bar."""
    form, bars = _Formula(code), code.bars
    x = torch.cat([bars * (1 + NEAR), bars * (1 - NEAR), code.levels * code.worth, torch.tensor([-1.0, 0.0, 9.0])])
    return form if torch.equal(form(x.float()), _searched(x.float(), code)) else None
