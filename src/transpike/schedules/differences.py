"""Steps that carry differences."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule


@dataclass(frozen=True)
class Differences(Schedule):
    """Every layer runs in every step, as streaming does, but what arrives in step t moves an estimate by 1/t of it.

    Bias and constant input come once, in the first step, and so does all that a settled network has to say. Needs
    neurons that code differences (the recipe ``dcgs``). One run answers at every t, each answer is ready at once.
    Source: Huang et al. 2025 (DCGS, ICML), differential coding.
    """

    mode: ClassVar[Mode] = "differences"

    def lag(self, timesteps: int) -> int:
        return 0

    def share(self, own: int, timesteps: int) -> float:
        return float(own == 1)
