"""Time steps that carry differences."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Gain, Mode
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class Differences(Schedule):
    """Every layer runs in every step, as when streaming, but messages are differences that change an estimate.

    ``gain`` "reciprocal": a message of step t changes the estimate by 1/t of it, for neurons with a differential code
    (the recipe ``dcgs``). "unit": it changes the estimate by all of it, for sigma-delta neurons (the recipes
    ``sigma-delta`` and ``burst-digits``). Bias and constant input are added once, in the first step. One run gives an
    output at every t, without latency.
    Source: Huang et al. 2025 (DCGS, ICML), differential coding; Yoon 2016 (TNNLS), unit gain, **from
    memory**.
    """

    mode: ClassVar[Mode] = "differences"
    gain: Gain = "reciprocal"

    def __post_init__(self) -> None:
        if self.gain not in ("reciprocal", "unit"):
            raise SettingError(f"gain must be 'reciprocal' or 'unit', not {self.gain!r}")

    def lag(self, timesteps: int) -> int:
        return 0

    def share(self, own: int, timesteps: int) -> float:
        return float(own == 1)
