"""The input as a constant current."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.encoder import Encoder
from transpike.errors import DataError


@dataclass(frozen=True)
class ConstantCurrent(Encoder):
    """Every step sends x: the first layer multiplies, the others accumulate (Rueckauer et al. 2017, 2.2.1).

    ``positive`` refuses inputs below 0 with DataError, for networks with neurons at the input.
    """

    name: ClassVar[str] = "constant"
    is_constant: ClassVar[bool] = True
    positive: bool = False

    def check(self, x: Tensor) -> None:
        if self.positive and float(x.min()) < 0:
            raise DataError(
                f"an input of {float(x.min()):.3g} has no spike time; pass inputs of at least 0, or leave the input "
                "analogue"
            )

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        return x

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        return x * timesteps
