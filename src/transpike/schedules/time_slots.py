"""A window of slots for each layer, in which a neuron fires once at most."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class TimeSlots(Schedule):
    """A neuron hears a window of T slots, and may fire in the T slots that begin H = ``wait_steps`` after it began to listen.

    ``wait_steps`` None is the whole window, H = T: no spike leaves before its cause is complete, and the network is its
    source with the activation φ, in closed form. A shorter one is early firing (T2FSNN): the latency falls, and what
    arrives after a neuron's spike is lost. 0: neurons fire as they hear. Bias and analogue input come once, in a
    layer's first slot. With n neurons on the longest path
    ``total_steps = n H + T``: 15 H + T for T2FSNN's VGG-16, as in its code (1280 at H = T = 80, 680 at
    H = 40). Windows are pipelined: the next sample may follow after T slots, or after 2 T where one membrane serves
    both listening and firing.
    Source: Park et al. 2020 (T2FSNN, DAC), from its code; CAT's latency is that of H = T.
    """

    mode: ClassVar[Mode] = "slots"
    wait_steps: int | None = None

    def __post_init__(self) -> None:
        if self.wait_steps is not None and (
            isinstance(self.wait_steps, bool) or not isinstance(self.wait_steps, int) or self.wait_steps < 0
        ):
            raise SettingError(f"hold must be a whole number of slots from 0 on, or None, not {self.wait_steps!r}")

    def lag(self, timesteps: int) -> int:
        """H, at most T."""
        return timesteps if self.wait_steps is None else min(self.wait_steps, timesteps)

    def share(self, own: int, timesteps: int) -> float:
        return float(own == 1)

    def fires(self, own: int, timesteps: int) -> bool:
        return self.lag(timesteps) < own <= self.lag(timesteps) + timesteps

    def slot(self, own: int, timesteps: int) -> int:
        return own - self.lag(timesteps)

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """``timesteps`` alone: a window of other length is another code."""
        return (timesteps,)

    @property
    def whole_windows(self) -> bool:
        """True where every neuron hears all of its input before it fires."""
        return self.wait_steps is None
