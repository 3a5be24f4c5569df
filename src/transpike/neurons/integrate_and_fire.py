"""The integrate-and-fire neuron, with or without leak."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from transpike.core.alphabet import BINARY, Alphabet
from transpike.core.cell import NeuronSpec, State
from transpike.core.spike import fire
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron


@dataclass(frozen=True, eq=False)
class IntegrateAndFire(ThresholdNeuron):
    """``m = k v + x;  s = 1 if m ≥ θ else 0;  v = m − θ s`` (soft reset) or ``v = m (1 − s)`` (hard reset).

    Shapes: x and s are (batch, *shape); ``threshold`` θ and ``initial`` v(0) broadcast to *shape, in units of charge:
    (), *shape, or one value per channel with size 1 on every other axis. ``leak`` k is 1 without leak, below 1 if the
    potential decays in each step. Raises SettingError for another reset or a leak outside (0, 1].
    Source: Rueckauer et al. 2017, Front. Neurosci. 11:682, eq. 2 and 3.

    >>> cell = IntegrateAndFire(None, torch.tensor(1.0), torch.tensor(0.0))
    >>> cell.window(torch.full((5, 1), 0.4)).flatten().tolist()
    [0.0, 0.0, 1.0, 0.0, 1.0]
    """

    alphabet: ClassVar[Alphabet] = BINARY
    reset: Literal["soft", "hard"] = "soft"
    leak: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reset not in ("soft", "hard"):
            raise SettingError(f"reset must be 'soft' or 'hard', not {self.reset!r}")
        if not 0 < self.leak <= 1:
            raise SettingError(f"leak must be in (0, 1], not {self.leak}: the share of the potential kept in a step")

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        potential = (state if self.leak == 1 else self.leak * state) + inputs[0]
        spikes = fire(potential, self.threshold)
        if self.reset == "soft":
            return potential - spikes * self.threshold, spikes
        return potential * (1 - spikes), spikes

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        """``N = clip(⌊(Q + v(0)) / θ⌋, 0, T)`` for the total charge Q of a window (SpKeras; QCFS eq. 11)."""
        self._keeps_charge()
        return self.staircase(charges[0], timesteps)

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        self._keeps_charge()
        return super().fire_window(*charges, timesteps=timesteps)

    def integrate(self, state: State, *inputs: Tensor) -> State:
        self._keeps_charge()
        return super().integrate(state, *inputs)

    def _keeps_charge(self) -> None:
        if self.reset == "hard":
            raise SettingError("a hard reset loses the window's charge: use reset='soft' or the streaming schedule")
        if self.leak != 1:
            raise SettingError("a leak loses the window's charge: use leak=1 or the streaming schedule")

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, self.reset, self.leak)

    def describe(self) -> str:
        return f"IF {self.reset} reset" + ("" if self.leak == 1 else f", leak {self.leak:g}")
