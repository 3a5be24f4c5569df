"""What neurons with one threshold share: their checks, their start, and the closed form of a window."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from transpike.core.cell import Neuron, State
from transpike.core.op import check_finite
from transpike.core.spike import stairs
from transpike.errors import SettingError


@dataclass(frozen=True, eq=False)
class ThresholdNeuron(Neuron):
    """``threshold`` θ and ``initial`` v(0) are (), (channels, 1, …) or *shape, in units of charge.

    ``worth`` is the charge that a spike brings to the next layers where that is not θ: thresholds that were trained
    after the weights behind them, or lowered by a slack, keep their spikes' worth. Same shapes; None is θ.
    """

    threshold: Tensor
    initial: Tensor
    worth: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_finite("neuron", threshold=self.threshold, initial=self.initial, worth=self.worth)
        if self.threshold.device.type != "meta" and not bool((self.threshold > 0).all()):
            raise SettingError(
                "a threshold must be positive: where it was calibrated, its layer is dead on that data; use more data"
            )

    def init(self, *inputs: Tensor) -> State:
        return self.initial.to(inputs[0]).expand_as(inputs[0]).clone()

    def potential(self, state: State) -> Tensor:
        return state[0] if isinstance(state, tuple) else state

    def listen(self, state: State, *inputs: Tensor) -> State:
        if isinstance(state, tuple):
            return (state[0] + inputs[0], *state[1:])
        return state + inputs[0]

    def staircase(self, charge: Tensor, most: int) -> Tensor:
        """``clip(⌊(Q + v(0)) / θ⌋, 0, most)``."""
        return stairs((charge + self.initial) / self.threshold, most)

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        """Hears the window, then fires for a window without input."""
        silence, total = torch.zeros_like(charges[0]), torch.zeros_like(charges[0])
        state = self.listen(self.init(charges[0]), charges[0])
        for t in range(timesteps):
            state, sent = self.step(state, silence, t=t + 1)
            total = total + sent
        return total

    @property
    def peak(self) -> Tensor | None:
        unit, worth = self.unit, self.amplitude()
        if unit is None or worth is None:
            return None
        if unit.code is not None:
            return worth * float(unit.code.levels[0])
        return worth * float(2**unit.period - 1 if unit.period else unit.levels)

    def amplitude(self, *inputs: Tensor | None) -> Tensor | None:
        return self.threshold if self.worth is None else self.worth
