"""The input as bits, the highest first."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.encoder import Encoder
from transpike.errors import SettingError


@dataclass(frozen=True)
class PhaseBits(Encoder):
    """``n = min(⌊|x| 2^K / largest⌋, 2^K − 1)`` in K = ``period`` steps: a spike per bit, scaled by 2^{−k} in step k.

    Signed inputs give signed spikes. The scale of a level is ``largest 2^−K``; every cycle repeats the same bits. For
    phase cycles only (BSNN). Source: Kim et al. 2018, Neurocomputing 311:373 (phase coding of pixels).
    """

    alphabet: ClassVar[Alphabet] = Alphabet("phase", 128, signed=True)
    period: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.period, bool) or not isinstance(self.period, int) or not 1 <= self.period <= 8:
            raise SettingError(f"period must be an integer number of bits from 1 to 8, not {self.period!r}")

    def _value(self, x: Tensor) -> Tensor:
        return (self.shares(x) * 2**self.period).floor().clamp(max=2**self.period - 1)

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        place = 2.0 ** (self.period - 1 - (t - 1) % self.period)
        bit = torch.floor(self._value(x) / place) % 2
        return (bit * place).to(x.dtype) * torch.sign(x)

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        cycles, phases = divmod(timesteps, self.period)
        value, place = self._value(x), 2.0 ** (self.period - phases)  # of the last bit sent in an incomplete cycle
        return (value * cycles + torch.floor(value / place) * place).to(x.dtype) * torch.sign(x)

    @property
    def spike_scale(self) -> float | None:
        return None if self.largest is None else self.largest * 2.0**-self.period
