"""The integrate-and-fire neuron."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from transpike.core.alphabet import BINARY, Alphabet
from transpike.core.cell import Neuron, ThresholdUnit
from transpike.core.op import check_finite
from transpike.core.spike import fire
from transpike.errors import SettingError


@dataclass(frozen=True, eq=False)
class IntegrateAndFire(Neuron):
    """``m = v + x;  s = 1 if m ≥ θ else 0;  v = m − θ s`` (soft reset) or ``v = m (1 − s)`` (hard reset).

    Shapes: x and s are (batch, *shape); ``threshold`` θ and ``initial`` v(0) are (), (channels, 1, …) or *shape,
    in units of charge. Source: Rueckauer et al. 2017, Front. Neurosci. 11:682, eq. 2 and 3.

    >>> cell = IntegrateAndFire(None, torch.tensor(1.0), torch.tensor(0.0))
    >>> cell.window(torch.full((5, 1), 0.4)).flatten().tolist()
    [0.0, 0.0, 1.0, 0.0, 1.0]
    """

    alphabet: ClassVar[Alphabet] = BINARY
    threshold: Tensor
    initial: Tensor
    reset: Literal["soft", "hard"] = "soft"

    def __post_init__(self) -> None:
        if self.reset not in ("soft", "hard"):
            raise SettingError(f"reset must be 'soft' or 'hard', not {self.reset!r}")
        check_finite("neuron", threshold=self.threshold, initial=self.initial)
        if self.threshold.device.type != "meta" and not bool((self.threshold > 0).all()):
            raise SettingError("a threshold must be positive; the layer is dead on the calibration data")

    def init(self, *inputs: Tensor) -> Tensor:
        return self.initial.to(inputs[0]).expand_as(inputs[0]).clone()

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        potential = state + inputs[0]
        spikes = fire(potential - self.threshold)
        if self.reset == "soft":
            return potential - spikes * self.threshold, spikes
        return potential * (1 - spikes), spikes

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        """``N = clip(⌊(Q + v(0)) / θ⌋, 0, T)`` for the total charge Q of a window (SpKeras; QCFS eq. 11)."""
        self._needs_soft_reset()
        return torch.floor((charges[0] + self.initial) / self.threshold).clamp(0, timesteps)

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        """Hears the window, then fires for a window without input."""
        self._needs_soft_reset()
        state, total = self.init(charges[0]) + charges[0], torch.zeros_like(charges[0])
        for t in range(timesteps):
            state, spikes = self.step(state, torch.zeros_like(charges[0]), t=t + 1)
            total = total + spikes
        return total

    def _needs_soft_reset(self) -> None:
        if self.reset == "hard":
            raise SettingError("a hard reset forgets the window's charge: use reset='soft' or the streaming schedule")

    def amplitude(self, *inputs: Tensor | None) -> Tensor | None:
        return self.threshold

    @property
    def unit(self) -> ThresholdUnit:
        return ThresholdUnit(self.threshold, self.initial, self.reset)

    def describe(self) -> str:
        return f"IF {self.reset} reset"
