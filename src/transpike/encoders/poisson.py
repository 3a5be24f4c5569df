"""The input as random spikes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import TERNARY, Alphabet
from transpike.core.encoder import Encoder, uniform


@dataclass(frozen=True)
class Poisson(Encoder):
    """``s_t = sign(x) [u < |x| / largest]`` with u uniform: a Bernoulli spike each step (Sengupta et al. 2019).

    u is a hash of (seed, sample, element, t): a sample has the same spikes in any batch, chunk or engine.
    Signed input gives signed spikes: the alphabet is ternary.
    """

    alphabet: ClassVar[Alphabet] = TERNARY
    seed: int = 0

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        draw = uniform(self.seed, sample_ids, x[0].numel(), t).reshape(x.shape)
        return (draw < self.shares(x)).to(x.dtype) * torch.sign(x)
