"""Windows: a layer integrates its window, or a part of it, before it fires."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class LayerSynchronous(Schedule):
    """A neuron integrates T steps, waits H = ``wait_steps`` steps from the first on, and may fire in the T steps after.

    ``wait_steps`` None is the whole window, H = T: layer n integrates in window n and fires in window n+1. Counts are
    then a staircase of the charge in closed form, one pass per window, without unevenness error, as in SpKeras, the
    code of the authors of ECC. Fewer wait steps reduce latency, add unevenness, and are simulated step by step.
    With ``settle`` a neuron fires during integration, and in T − 1 further silent steps sends one spike of either sign
    while its potential lies outside [0, θ). Its count is then exact, and it sends that count in the following T steps
    (PASCAL, Ramesh and Srinivasan 2025). The closed form is the same, H = 2 T − 1.
    ``total_steps = (neurons on the longest path) · H + T``. Windows are pipelined: the next sample may follow after T
    steps.
    """

    mode: ClassVar[Mode] = "windows"
    wait_steps: int | None = None
    settle: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.settle, bool) or (self.settle and self.wait_steps is not None):
            raise SettingError(
                f"settle must be True or False, and needs a whole window (wait_steps=None), not {self.settle!r} with "
                f"wait_steps={self.wait_steps!r}"
            )
        if self.wait_steps is not None and (
            isinstance(self.wait_steps, bool) or not isinstance(self.wait_steps, int) or self.wait_steps < 0
        ):
            raise SettingError(
                f"wait_steps must be an integer number of steps, at least 0, or None, not {self.wait_steps!r}"
            )

    def lag(self, timesteps: int) -> int:
        """H, at most T; 2 T − 1 with ``settle``."""
        if self.settle:
            return 2 * timesteps - 1
        return timesteps if self.wait_steps is None else min(self.wait_steps, timesteps)

    def share(self, own: int, timesteps: int) -> float:
        return float(1 <= own <= timesteps)

    def fires(self, own: int, timesteps: int) -> bool:
        return self.lag(timesteps) < own <= self.lag(timesteps) + timesteps

    def slot(self, own: int, timesteps: int) -> int:
        return own - self.lag(timesteps)

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """Powers of two, and ``timesteps`` itself."""
        return tuple(sorted({2**k for k in range(timesteps.bit_length()) if 2**k <= timesteps} | {timesteps}))
