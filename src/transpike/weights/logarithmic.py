"""Logarithmic quantisation: weights whose products with first spikes are shifts."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transpike.errors import SettingError

FINEST = 3
SHRINK = torch.arange(0, 25, dtype=torch.float64) / 16  # candidate full scales, in octaves below max|W|


@dataclass(frozen=True, eq=False)
class LogarithmicWeights:
    """``w = sign · full_scale · 2^(−exponents / 2^fraction_bits)``; sign 0 is the code for zero.

    ``signs`` and ``exponents`` are integers in the weight's shape, ``full_scale`` () or one per output channel.
    """

    signs: Tensor
    exponents: Tensor
    full_scale: Tensor
    fraction_bits: int
    bits: int

    @property
    def values(self) -> Tensor:
        """The weights of the codes, float64."""
        scale = self.full_scale.reshape(-1, *(1,) * (self.signs.ndim - 1)) if self.full_scale.ndim else self.full_scale
        return self.signs * scale * torch.exp2(-self.exponents.double() / 2**self.fraction_bits)


def logarithmic(
    weight: Tensor, bits: int, fraction_bits: int | None = None, granularity: Literal["layer", "channel"] = "layer"
) -> LogarithmicWeights:
    """The nearest codes in the logarithm: a sign bit, an exponent q = 0 … 2^(bits−1) − 2, and a code for zero.

    The base is ``2^(−1/2^z)`` with z = ``fraction_bits``; None selects the z of 0 to 3 with the least squared error.
    Weights below half the smallest value become zero. The full scale is one per layer, the best of 25 between max|W|
    and 1.5 octaves below it, or one per output channel (axis 0), the better of the two powers of two around the
    channel's largest weight, which needs no multiplier. Source: Lew et al. 2022 (CAT, DAC): logarithmic weights of 5
    bits; the base and the choice of z are ours, because only the abstract was available.
    Raises SettingError for fewer than 3 bits, and for weights that are not finite.
    """
    whole = isinstance(bits, int) and not isinstance(bits, bool)
    if not whole or not 3 <= bits <= 12:
        raise SettingError(f"logarithmic weights have 3 to 12 bits, not {bits!r}")
    if fraction_bits is not None and (isinstance(fraction_bits, bool) or fraction_bits not in range(FINEST + 1)):
        raise SettingError(f"fraction bits must be 0 to {FINEST} or None, not {fraction_bits!r}")
    if granularity not in ("layer", "channel"):
        raise SettingError(f"granularity must be 'layer' or 'channel', not {granularity!r}")
    if not weight.numel() or not weight.ndim:
        raise SettingError(f"logarithmic weights need numbers in rows, not a weight of shape {tuple(weight.shape)}")
    if not bool(weight.isfinite().all()):
        raise SettingError("a weight is NaN or infinite, which has no logarithmic code")
    rows = weight.detach().double().reshape(weight.shape[0], -1) if granularity == "channel" else None
    rows = weight.detach().double().reshape(1, -1) if rows is None else rows
    largest = rows.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    if granularity == "layer":
        candidates = largest * torch.exp2(-SHRINK)
    else:
        above = torch.exp2(torch.ceil(torch.log2(largest)))
        candidates = torch.cat([above, above / 2], 1)
    best: tuple[float, LogarithmicWeights] | None = None
    for z in range(FINEST + 1) if fraction_bits is None else (fraction_bits,):
        scale, errors = _best_scale(rows, candidates, bits, z)
        if best is None or float(errors.sum()) < best[0]:
            signs, exponents = _codes(rows, scale, bits, z)
            full = scale.flatten() if granularity == "channel" else scale.reshape(())
            codes = LogarithmicWeights(signs.reshape(weight.shape), exponents.reshape(weight.shape), full, z, bits)
            best = float(errors.sum()), codes
    assert best is not None
    return best[1]


def _codes(rows: Tensor, scale: Tensor, bits: int, z: int) -> tuple[Tensor, Tensor]:
    last = 2 ** (bits - 1) - 2
    share = rows.abs() / scale
    exponents = torch.round(-torch.log2(share.clamp(min=1e-300)) * 2**z).clamp(0, last)
    zero = share < 0.5 * math.pow(2, -last / 2**z)
    return torch.where(zero, 0.0, torch.sign(rows)).to(torch.int8), exponents.masked_fill(zero, 0).to(torch.int16)


def _best_scale(rows: Tensor, candidates: Tensor, bits: int, z: int) -> tuple[Tensor, Tensor]:
    """The full scale of each row with the least squared error, and that error."""
    errors = []
    for column in candidates.split(1, 1):
        signs, exponents = _codes(rows, column, bits, z)
        value = signs * column * torch.exp2(-exponents.double() / 2**z)
        errors.append((rows - value).square().sum(1, keepdim=True))
    found = torch.cat(errors, 1)
    least = found.argmin(1, keepdim=True)
    return candidates.expand(len(rows), -1).gather(1, least), found.gather(1, least)
