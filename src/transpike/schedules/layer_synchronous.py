"""A layer hears a window, or a part of it, before it fires."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class LayerSynchronous(Schedule):
    """A neuron hears T steps, holds its spikes for the first H = ``hold`` of them, and may fire in the T after those.

    ``hold`` None is the whole window, H = T: layer n listens in window n and fires in window n+1, so that counts are
    a staircase of the charge in closed form, one pass a window, without unevenness error; it is what the authors of
    ECC compute (SpKeras). A shorter hold trades latency for unevenness, and is stepped in time.
    ``total_steps = (neurons on the longest path) · H + T``. Windows are pipelined: the next sample may follow after T.
    """

    mode: ClassVar[Mode] = "windows"
    one_run: ClassVar[bool] = False
    hold: int | None = None

    def __post_init__(self) -> None:
        if self.hold is not None and (isinstance(self.hold, bool) or not isinstance(self.hold, int) or self.hold < 0):
            raise SettingError(f"hold must be a whole number of steps from 0 on, or None, not {self.hold!r}")

    def lag(self, timesteps: int) -> int:
        """H, at most T: a window that has been heard holds nothing back."""
        return timesteps if self.hold is None else min(self.hold, timesteps)

    def share(self, own: int, timesteps: int) -> float:
        return float(1 <= own <= timesteps)

    def fires(self, own: int, timesteps: int) -> bool:
        return self.lag(timesteps) < own <= self.lag(timesteps) + timesteps

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """Powers of two, and ``timesteps`` itself."""
        return tuple(sorted({2**k for k in range(timesteps.bit_length()) if 2**k <= timesteps} | {timesteps}))
