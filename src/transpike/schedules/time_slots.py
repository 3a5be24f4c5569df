"""Time slots: one window per layer, in which a neuron fires at most once."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Mode
from transpike.core.schedule import Schedule
from transpike.errors import SettingError


@dataclass(frozen=True)
class TimeSlots(Schedule):
    """A neuron integrates T slots, and may fire in the T slots that begin H = ``wait_steps`` after its first slot.

    ``wait_steps`` None is the whole window, H = T: every neuron has its complete input before it fires, and the network
    equals its source with the activation φ, in closed form. Fewer wait steps are early firing (T2FSNN): lower latency,
    but input after a neuron's spike is lost. 0: neurons fire during integration. Bias and analogue input are added
    once, in a layer's first slot. With n neurons on the longest path ``total_steps = n H + T``: 15 H + T for T2FSNN's
    VGG-16, as in its code (1280 at H = T = 80, 680 at H = 40). Windows are pipelined: the next sample may follow after
    T slots, or after 2 T where one membrane both integrates and fires.
    Source: Park et al. 2020 (T2FSNN, DAC), from its code; CAT's latency is that of H = T.
    """

    mode: ClassVar[Mode] = "slots"
    wait_steps: int | None = None

    def __post_init__(self) -> None:
        if self.wait_steps is not None and (
            isinstance(self.wait_steps, bool) or not isinstance(self.wait_steps, int) or self.wait_steps < 0
        ):
            raise SettingError(
                f"wait_steps must be an integer number of slots, at least 0, or None, not {self.wait_steps!r}"
            )

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
        """Only ``timesteps``: a window of another length is another code."""
        return (timesteps,)

    @property
    def whole_windows(self) -> bool:
        """True where every neuron receives its whole input before it fires."""
        return self.wait_steps is None
