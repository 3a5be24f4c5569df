"""A layer hears a window, or a part of it, before it fires."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class LayerSynchronous(Schedule):
    """A neuron hears T steps, holds its spikes for the first H = ``wait_steps`` of them, and may fire in the T after those.

    ``wait_steps`` None is the whole window, H = T: layer n listens in window n and fires in window n+1, so that counts are
    a staircase of the charge in closed form, one pass a window, without unevenness error; it is what the authors of
    ECC compute (SpKeras). A shorter hold trades latency for unevenness, and is stepped in time.
    With ``settle`` a neuron fires as it hears, and in T − 1 silent steps more sends one spike of either sign while its
    potential lies outside [0, θ): then its count is right, and it sends that in the T steps after (PASCAL, Ramesh and
    Srinivasan 2025). The closed form is the same, H = 2 T − 1.
    ``total_steps = (neurons on the longest path) · H + T``. Windows are pipelined: the next sample may follow after T.
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
            raise SettingError(f"hold must be a whole number of steps from 0 on, or None, not {self.wait_steps!r}")

    def lag(self, timesteps: int) -> int:
        """H, at most T: a window that has been heard holds nothing back."""
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
