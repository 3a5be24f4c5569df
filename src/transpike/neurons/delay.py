"""What cells share that repeat later what they hear."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Neuron
from transpike.core.op import Op
from transpike.ops import Identity


@dataclass(frozen=True, eq=False)
class Delay(Neuron):
    """Base of cells that repeat later what they hear: levels stay levels, and in sum nothing changes."""

    is_delay: ClassVar[bool] = True
    takes_levels: ClassVar[bool] = True
    source: Op = Identity()

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return charges[0]

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return inputs[0]

    def bound(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return inputs[0]
