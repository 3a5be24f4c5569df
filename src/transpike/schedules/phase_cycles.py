"""Phase cycles: layers integrate and fire in alternate cycles."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.graph import Node
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class PhaseCycles(Schedule):
    """Layer n integrates in the cycles n, n+2, n+4 … of ``period`` K steps and fires in the cycles between.

    T counts the steps in which a layer integrates, in whole cycles: T/K rounds. The first output is ready after
    ``(n + 1) K`` steps, n being the number of neurons on the longest path; each further round takes 2 K steps:
    ``total_steps = (n + 1) K + 2 (T − K)``. Bias and analogue input are added once per cycle, in its first step. Every
    wire must take one cycle, which ``passes.MatchDelays`` ensures.
    """

    mode: ClassVar[Mode] = "cycles"
    period: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.period, bool) or not isinstance(self.period, int) or self.period < 1:
            raise SettingError(f"period must be an integer number of steps, at least 1, not {self.period!r}")

    def lag(self, timesteps: int) -> int:
        return self.period

    def duration(self, node: Node, timesteps: int) -> int:
        return self.period + 2 * (self.rounds(timesteps) - 1) * self.period

    def check(self, timesteps: int) -> int:
        return self.rounds(super().check(timesteps)) * self.period

    def rounds(self, timesteps: int) -> int:
        """Number of cycles in which a layer integrates; raises SettingError if T is not a multiple of the period."""
        if timesteps % self.period:
            raise SettingError(
                f"{timesteps} steps are not whole cycles of {self.period}; use a multiple of {self.period}, "
                "or another period"
            )
        return timesteps // self.period

    def share(self, own: int, timesteps: int) -> float:
        cycles, phase = divmod(own - 1, self.period)
        return float(own >= 1 and cycles % 2 == 0 and phase == 0 and cycles // 2 < timesteps // self.period)

    def fires(self, own: int, timesteps: int) -> bool:
        return own <= 2 * timesteps

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """Every integer number of cycles."""
        return tuple(range(self.period, self.rounds(timesteps) * self.period + 1, self.period))
