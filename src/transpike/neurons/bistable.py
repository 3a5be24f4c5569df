"""The neurons of BSNN: the bistable one alternates between integrating and firing, the synchronous one delays."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Mode, NeuronSpec, State
from transpike.core.spike import fire, floor_clip
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron
from transpike.neurons.delay import Delay

LONGEST_PERIOD = 16


def _check_period(period: int) -> None:
    if isinstance(period, bool) or not isinstance(period, int) or not 1 <= period <= LONGEST_PERIOD:
        raise SettingError(f"period must be an integer from 1 to {LONGEST_PERIOD}, not {period!r}")


@dataclass(frozen=True, eq=False)
class Bistable(ThresholdNeuron):
    """Alternates between two states of ``period`` K steps. Integrating: ``v += x``, no spike. Firing, without input,
    with ``p = 2^{−k}`` in step k = 1 … K:  ``s = 1 if v ≥ p θ else 0;  v −= p θ s``.

    A spike has the value p θ: the wire carries the level ``2^{K−k}`` with spike scale ``θ 2^{−K}``. The levels of a
    cycle add up to ``n = clip(⌊v 2^K / θ⌋, 0, 2^K − 1)``, the closed form; the rest of v is kept for the next round.
    Shapes as IntegrateAndFire. Source: **reconstructed** from the abstract of Li, Zeng and Zhao 2021 (BSNN, arXiv
    2105.12917, Front. Neurosci. 16:991851); phase weights after Kim et al. 2018 (weighted spikes).

    >>> cell = Bistable(None, torch.tensor(1.0), torch.tensor(0.0), period=2)
    >>> cell.window(torch.tensor([[0.5], [0.25], [0.0], [0.0]])).flatten().tolist()
    [0.0, 0.0, 2.0, 1.0]
    """

    alphabet: ClassVar[Alphabet] = Alphabet("phase", 128)
    modes: ClassVar[tuple[Mode, ...]] = ("cycles",)
    period: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_period(self.period)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("phase", 2 ** (self.period - 1))

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        cycle, phase = divmod(t - 1, self.period)
        if cycle % 2 == 0:
            return state + inputs[0], torch.zeros_like(inputs[0])
        threshold = self.threshold * 2.0 ** -(phase + 1)
        spikes = fire(state, threshold)
        return state - spikes * threshold, spikes * 2.0 ** (self.period - 1 - phase)

    def cycle(self, state: Tensor, *charges: Tensor) -> tuple[Tensor, Tensor]:
        potential, unit = state + charges[0], self.threshold * 2.0**-self.period
        levels = floor_clip(potential / unit, 2**self.period - 1)
        return potential - levels * unit, levels

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        """Not defined: a cycle leaves a remainder that the next one needs; ``cycle`` is the closed form."""
        raise SettingError("bistable neurons answer cycle by cycle: use them with the schedule of phase cycles")

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        return self.counts(*charges, timesteps=timesteps)

    def output_scale(self, *inputs: Tensor | None) -> Tensor:
        spike_scale = super().output_scale(*inputs)
        assert spike_scale is not None
        return spike_scale * 2.0**-self.period

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft", period=self.period)

    def describe(self) -> str:
        return f"bistable, period {self.period}"


@dataclass(frozen=True, eq=False)
class Synchronous(Delay):
    """``out_t = in_{t−K}``: a bistable neuron with weight one and the threshold of its source, which repeats its input
    one cycle of K = ``period`` steps later. On a shortcut it matches the delay of the parallel layers.

    Passes any alphabet; if it delays a current instead of spikes, its messages are real numbers, which reports list as
    analogue. Closed form of a cycle: the identity. Source: reconstructed, as ``Bistable``.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("phase", 128)
    modes: ClassVar[tuple[Mode, ...]] = ("cycles",)
    period: int = 8

    def __post_init__(self) -> None:
        _check_period(self.period)

    def init(self, *inputs: Tensor) -> State:
        return (torch.zeros_like(inputs[0]),) * self.period

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        return (*state[1:], inputs[0].clone()), state[0]

    def describe(self) -> str:
        return f"synchronous, period {self.period}"
