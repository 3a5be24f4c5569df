"""What the rules for maximum pooling share, and what the cells that hold spikes back share."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell, Neuron
from transpike.core.op import Op
from transpike.ops import Identity
from transpike.ops.maxpool import MaxPool


@dataclass(frozen=True, eq=False)
class MaximumInTime(Cell):
    """Base of the three: levels of one worth stay levels, and a whole window's counts are simply pooled."""

    alphabet: ClassVar[Alphabet] = GRADED
    takes_levels: ClassVar[bool] = True
    channel_axis: ClassVar[int] = MaxPool.channel_axis
    pool: MaxPool

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self.pool.run(charges[0])

    def amplitude(self, *inputs: Tensor | None) -> Tensor | None:
        return None if inputs[0] is None else self.pool.run(inputs[0])

    def bound(self, *inputs: Tensor) -> Tensor:
        return self.pool.run(inputs[0])

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Relay(Neuron):
    """Base of cells that repeat later what they hear: levels stay levels, and in sum nothing changes."""

    relays: ClassVar[bool] = True
    takes_levels: ClassVar[bool] = True
    source: Op = Identity()

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return charges[0]

    def amplitude(self, *inputs: Tensor | None) -> Tensor | None:
        return inputs[0]

    def bound(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return inputs[0]
