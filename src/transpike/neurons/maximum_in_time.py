"""Base of the rules for maximum pooling in time."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell
from transpike.ops.maxpool import MaxPool


@dataclass(frozen=True, eq=False)
class MaximumInTime(Cell):
    """Base of maximum pooling: levels with one spike scale stay levels, and counts of a whole window are pooled."""

    alphabet: ClassVar[Alphabet] = GRADED
    takes_levels: ClassVar[bool] = True
    channel_axis: ClassVar[int] = MaxPool.channel_axis
    pool: MaxPool

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self.pool.run(charges[0])

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return None if inputs[0] is None else self.pool.run(inputs[0])

    def bound(self, *inputs: Tensor) -> Tensor:
        return self.pool.run(inputs[0])

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return inputs[0]
