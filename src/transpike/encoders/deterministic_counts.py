"""The input as evenly spaced spikes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import TERNARY, Alphabet
from transpike.core.encoder import Encoder


@dataclass(frozen=True)
class DeterministicCounts(Encoder):
    """``s_t = sign(x) (⌊p t⌋ − ⌊p (t−1)⌋)`` with ``p = |x| / largest``: ⌊p T⌋ spikes after T steps (SpKeras).

    Inputs beyond the calibrated range fire every step. Signed input gives signed spikes: the alphabet is ternary.
    """

    name: ClassVar[str] = "counts"
    alphabet: ClassVar[Alphabet] = TERNARY

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        share = self.shares(x)
        return ((share * t).floor() - (share * (t - 1)).floor()).to(x.dtype) * torch.sign(x)

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        return (self.shares(x) * timesteps).floor().to(x.dtype) * torch.sign(x)
