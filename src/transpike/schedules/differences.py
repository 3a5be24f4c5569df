"""Time steps that carry differences."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule


@dataclass(frozen=True)
class Differences(Schedule):
    """Every layer runs in every step, as when streaming, but an input in step t changes an estimate by 1/t of it.

    Bias and constant input are added once, in the first step. Needs neurons with a differential code (the recipe
    ``dcgs``). One run gives an output at every t, without latency.
    Source: Huang et al. 2025 (DCGS, ICML), differential coding.
    """

    mode: ClassVar[Mode] = "differences"

    def lag(self, timesteps: int) -> int:
        return 0

    def share(self, own: int, timesteps: int) -> float:
        return float(own == 1)
