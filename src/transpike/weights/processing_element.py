"""Products of logarithmic weights and first spikes with an adder, a look-up table and a shifter."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from transpike.errors import SettingError


@dataclass(frozen=True)
class ProcessingElement:
    """``w κ(t) = ± w_max 2^(−(q/2^z + t/2^k))`` for base 2 and τ = 2^k: in integers, with F = max(z, k),

    ``e = (q << (F − z)) + (t << (F − k));  product = ± ((table[e mod 2^F] << guard) >> (e >> F))``.

    ``table`` holds ``round(2^table_bits · 2^(−f/2^F))``; a product of 1 means ``w_max 2^−(table_bits + guard)``.
    Products are accumulated without conversion: add, look up, shift, add; no multiplier. ``guard`` bits keep the
    precision of small products in the shift. Source: Lew, Lee, Park 2022 (CAT, DAC): logarithmic computation; bit
    widths are ours, because only the abstract was available.

    >>> ProcessingElement(1, 2).table
    (4096, 3444, 2896, 2435)
    """

    weight_bits: int = 1
    time_bits: int = 2
    table_bits: int = 12
    guard: int = 12

    def __post_init__(self) -> None:
        for name, most in (("weight_bits", 6), ("time_bits", 6), ("table_bits", 24), ("guard", 24)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise SettingError(f"{name} must be an integer from 0 to {most}, not {value!r}")

    @property
    def fraction_bits(self) -> int:
        """F."""
        return max(self.weight_bits, self.time_bits)

    @cached_property
    def table(self) -> tuple[int, ...]:
        size = 2**self.fraction_bits
        return tuple(round(2**self.table_bits * 2 ** (-f / size)) for f in range(size))

    @property
    def unit(self) -> float:
        """The value of a product of 1, relative to the largest weight."""
        return 2.0 ** -(self.table_bits + self.guard)

    def product(self, sign: int, exponent: int, slot: int) -> int:
        """The specification: one weight's code and one spike's slot, integers only."""
        f = self.fraction_bits
        e = (exponent << (f - self.weight_bits)) + (slot << (f - self.time_bits))
        return sign * ((self.table[e & (2**f - 1)] << self.guard) >> (e >> f))

    def products(self, signs: Tensor, exponents: Tensor, slot: int) -> Tensor:
        """``product`` for tensors of codes, int64."""
        f = self.fraction_bits
        e = (exponents.long() << (f - self.weight_bits)) + (slot << (f - self.time_bits))
        table = torch.tensor(self.table, dtype=torch.int64, device=exponents.device)
        return signs.long() * ((table[e & (2**f - 1)] << self.guard) >> (e >> f).clamp(max=62))
