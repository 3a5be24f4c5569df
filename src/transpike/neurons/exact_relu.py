"""The neuron whose spike time exactly represents the value of a ReLU."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Mode, State
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron

ALPHA = 1.0


@dataclass(frozen=True, eq=False)
class ExactReLU(ThresholdNeuron):
    """A spike at ``t = t_max − max(u, 0)`` in continuous time, u the charge over θ: a wire carries ``t_max − t``.

    In the window before its own, and in its own,
    ``v(t) = α (t − t_before) + Σ_j J_j (t − t_j)₊`` with ``J_j = α W_j / (1 − Σ W)``, and it fires when v reaches
    ``ϑ = α (t_max − t_before) + B Σ J − (α + Σ J) b``; α = 1. ``span`` B is the length of its window, ``total``
    Σ W the sum of its weights over θ, which broadcasts to *shape. Valid for Σ W < 1, otherwise v would decrease towards
    the end (SettingError), and for u ≤ B: a larger u fires before all inputs have arrived, which a run reports.
    Inputs without a spike count from the end of their window on: a timer sets the slope. Nothing is rounded: there is
    no exact grid, and every engine works in float64.
    Source: Stanojevic et al. 2023, Neural Networks 168:74 (arXiv 2212.12522), from their code.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("time", 0)
    modes: ClassVar[tuple[Mode, ...]] = ("slots",)
    sends_reals: ClassVar[bool] = True
    span: Tensor = torch.tensor(1.0)
    total: Tensor = torch.tensor(0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.total.device.type != "meta" and not bool((self.total < 1).all()):
            raise SettingError(
                f"the weights of a neuron add up to {float(self.total.max()):.3g} times its threshold, and must stay "
                "below 1, so that its potential rises after all inputs have arrived: raise the threshold"
            )

    def check_steps(self, timesteps: int) -> None:
        if timesteps != 1:
            raise SettingError(f"exact spike times use one window per layer: timesteps=1, not {timesteps}")

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        """The output of a whole window; time is continuous inside it."""
        return state, self._sent(state + inputs[0])

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self._sent(charges[0])

    def _sent(self, charge: Tensor) -> Tensor:
        """Computed from the potential at the start of its window, after all inputs, and its slope from then on."""
        share = charge / self.threshold
        slope = ALPHA / (1 - self.total)  # α + Σ J
        potential = slope * share  # the part of inputs and bias, without that of α
        threshold = ALPHA * self.span + slope * self.span * self.total
        after = (threshold - potential) / slope  # t − t_min
        return torch.where(after < self.span, self.span - after, torch.zeros_like(after))

    def early(self, levels: Tensor) -> int:
        return int((levels > self.span).sum())

    def describe(self) -> str:
        return f"exact spike time, window {float(self.span):.3g}"
