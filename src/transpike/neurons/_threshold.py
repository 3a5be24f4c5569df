"""Base of neurons with one threshold: checks, initial state, and the closed form of a window."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from transpike.core.cell import Neuron, State
from transpike.core.op import check_finite
from transpike.core.spike import floor_clip
from transpike.errors import SettingError


@dataclass(frozen=True, eq=False)
class ThresholdNeuron(Neuron):
    """``threshold`` θ and ``initial`` v(0) broadcast to *shape, in units of charge: (), *shape, or one value per
    channel with size 1 on every other axis, (channels, 1, 1) for images and (1, features) for tokens.

    ``spike_scale``: the charge of one spike for the next layers, if it is not θ, for example because thresholds were
    trained after the weights that follow them. Same shapes; None is θ. Raises SettingError for thresholds that are not
    positive and for values that are NaN or infinite.
    """

    threshold: Tensor
    initial: Tensor
    spike_scale: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_finite("neuron", threshold=self.threshold, initial=self.initial, spike_scale=self.spike_scale)
        if self.threshold.device.type != "meta" and not bool((self.threshold > 0).all()):
            raise SettingError(
                "a threshold must be positive: if it was calibrated, the layer is silent on that data; use more data"
            )

    def init(self, *inputs: Tensor) -> State:
        return self.initial.to(inputs[0]).expand_as(inputs[0]).clone()

    def potential(self, state: State) -> Tensor:
        return state[0] if isinstance(state, tuple) else state

    def integrate(self, state: State, *inputs: Tensor) -> State:
        if isinstance(state, tuple):
            return (state[0] + inputs[0], *state[1:])
        return state + inputs[0]

    def staircase(self, charge: Tensor, most: int) -> Tensor:
        """``clip(⌊(Q + v(0)) / θ⌋, 0, most)``."""
        return floor_clip((charge + self.initial) / self.threshold, most)

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        """Integrates the charge of a window, then fires for a window without input."""
        silence, total = torch.zeros_like(charges[0]), torch.zeros_like(charges[0])
        state = self.integrate(self.init(charges[0]), charges[0])
        for t in range(timesteps):
            state, sent = self.step(state, silence, t=t + 1)
            total = total + sent
        return total

    @property
    def peak(self) -> Tensor | None:
        unit, spike_scale = self.unit, self.output_scale()
        if unit is None or spike_scale is None:
            return None
        if unit.code is not None:
            return spike_scale * float(unit.code.levels[0])
        return spike_scale * float(2**unit.period - 1 if unit.period else unit.levels)

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return self.threshold if self.spike_scale is None else self.spike_scale
