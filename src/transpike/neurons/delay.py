"""Base of cells that repeat their input later."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Neuron
from transpike.core.op import Op
from transpike.ops import Identity


@dataclass(frozen=True, eq=False)
class Delay(Neuron):
    """Base of cells that repeat their input later: levels stay levels, and their sum does not change."""

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
