"""The input as a constant current."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.encoder import Encoder


@dataclass(frozen=True)
class ConstantCurrent(Encoder):
    """Every step brings x itself: the first layer multiplies, the rest accumulates (Rueckauer et al. 2017, 2.2.1)."""

    is_constant: ClassVar[bool] = True

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        return x

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        return x * timesteps
