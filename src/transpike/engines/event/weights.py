"""Weights and values in the layouts of the native kernels (native/transpike.h)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.engines.native.library import UNIT
from transpike.ops import Conv

GATHER, LOOKUP, MASKED, NARROW, NARROW_LOOKUP, GRADED = range(6)
TABLES = (LOOKUP, NARROW_LOOKUP)
BLOCK = 4  # units of channels whose potentials fit into registers
NARROW_PEAK = 2.0**13 - 1  # of a 16-bit weight: the sum of four must fit into 16 bits
LOW = 2.0**13  # added to the narrow weights of the first half of every unit, native/narrow.h
LONGEST_LIST = 65535  # entries have 16 bits
TABLE_ROWS = 259  # 256 are used; three more avoid conflicts between tables in the cache


class UnfitError(Exception):
    """The native kernels cannot run a layer; the text gives the reason."""


def padded(channels: int) -> int:
    """The number of stored channels for this number of channels."""
    return -(-channels // UNIT) * UNIT


def image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of a wire; 1-d signals have one row, vectors one position."""
    if len(shape) > 3:
        raise UnfitError(f"it has {len(shape) - 1} spatial dimensions")
    return (shape[0], *((1,) * (3 - len(shape))), *shape[1:])  # type: ignore[return-value]


def pair(values: tuple[int, ...] | torch.Size, missing: int) -> tuple[int, int]:
    """(vertical, horizontal); a single dimension is horizontal."""
    return (missing, values[0]) if len(values) == 1 else (values[0], values[1])


def blocks_of(channels: int, groups: list[int]) -> tuple[list[int], list[int]]:
    """First channels and units of the blocks: at most ``BLOCK`` units, none across the border of two groups."""
    total = padded(channels)
    borders = {0, total}
    for count in groups:
        borders |= set(range(0, channels, channels // count)) if count > 1 else set()
    starts, units = [], []
    for first, last in pairwise(sorted(borders)):
        for start in range(first, last, BLOCK * UNIT):
            starts.append(start)
            units.append(min(BLOCK, (last - start) // UNIT))
    return starts, units


def ungrouped(op: Synapse, groups: int, inputs: int, channels: int) -> Tensor:
    """Weights as (out, in of one of ``groups``, y, x); narrower groups are joined, padded with zeros."""
    weight = op.weight.reshape(op.weight.shape[0], op.weight.shape[1], *pair(op.weight.shape[2:] or (1,), 1))
    own = op.groups if is_plain(op, Conv) else 1
    if own == groups:
        return weight
    wide = weight.new_zeros((channels, inputs // groups, *weight.shape[2:]))
    for g in range(own):
        outs = slice(g * (channels // own), (g + 1) * (channels // own))
        first = g * (inputs // own) % (inputs // groups)
        wide[outs, first : first + inputs // own] = weight[outs]
    return wide


def narrow_units(dense: Tensor) -> Tensor | None:
    """The unit of each output's weights, if all of them are integer multiples of it with at most 13 bits; else None."""
    peaks = dense.abs().flatten(1).amax(1).clamp(min=2.0**-100)
    units = torch.exp2(torch.ceil(torch.log2(peaks / NARROW_PEAK)))
    whole = dense / units[:, None, None, None]
    return units if bool((whole == whole.round()).all()) else None


def sums_are_narrow(whole: Tensor) -> bool:
    """True if every sum of weights of one tap of a look-up kernel fits into 16 bits."""
    return max(float(sign.clamp(min=0).sum(1).max()) for sign in (whole, -whole)) < 4 * LOW


def block_weights(dense: Tensor, kind: int, groups: int, start: int, units: int, total: int) -> Tensor:
    """The weights of one block in its kernel's layout: rows of ``units`` · 16 outputs."""
    dense = F.pad(dense, (0, 0, 0, 0, 0, padded(dense.shape[1]) - dense.shape[1], 0, total - dense.shape[0]))
    part = dense[start : start + units * UNIT]
    if kind not in TABLES:  # [kx][ky][in], and one row of zeros
        table = part.permute(3, 2, 1, 0).reshape(-1, units * UNIT)
        table = F.pad(table, (0, 0, 0, 1))
        return _as_words(table, units, LOW) if kind == NARROW else table
    halves = part.permute(2, 3, 1, 0).reshape(*part.shape[2:], 2, 8, units * UNIT).double()  # [ky][kx][half][in]
    bits = (torch.arange(256)[:, None] >> torch.arange(8) & 1).double()
    table = F.pad(bits @ halves, (0, 0, 0, TABLE_ROWS - 256))
    return _as_words(table, units, 2 * LOW) if kind == NARROW_LOOKUP else table


def _as_words(table: Tensor, units: int, low: float) -> Tensor:
    """Words of 32 bits, as 16-bit numbers: output k of a unit, plus ``low``, and 2¹⁶ times its output k + 8."""
    first, second = table.double().reshape(-1, units, 2, UNIT // 2).unbind(2)
    return (first + low + 2.0**16 * second).to(torch.int32).view(torch.int16)


def rows(value: Tensor, shape: tuple[int, ...], fill: float) -> Tensor:
    """(1 or positions, padded channels) in float32 of what broadcasts to (1, *shape)."""
    channels, height, width = image(shape)
    value = value.float()
    if value.ndim > len(shape):
        value = value[0]
    per_channel = value.numel() == 1 or (value.numel() == channels and value.shape[0] == channels)
    if per_channel and value.ndim in (0, len(shape)):
        flat = value.reshape(1, -1).expand(1, channels)
    else:
        flat = value.expand(shape).reshape(channels, height * width).t()
    return F.pad(flat, (0, padded(channels) - channels), value=fill).contiguous()


def most_listed(width: int, kernel: tuple[int, int]) -> int:
    """The most channels of which a list can hold a row of windows; a multiple of ``UNIT``."""
    return (LONGEST_LIST - 1) // ((width + kernel[1]) * kernel[0]) // UNIT * UNIT
