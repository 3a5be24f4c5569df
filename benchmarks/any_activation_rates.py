"""Rate codes for functions of one value, with which any_activation.py compares sigma-delta neurons.

A rate code sends a value again in every step; the mean over all steps is the value. No published recipe of the library
has one for smooth functions: this is the code in its simplest form, with at most one spike of either sign per step.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Mode, Neuron, State
from transpike.core.op import Op
from transpike.core.pass_ import Pass
from transpike.neurons import IntegrateAndFire, SigmaDelta
from transpike.neurons._threshold import ThresholdNeuron
from transpike.neurons.multi_threshold import nearest_threshold
from transpike.passes import EncodeWires, MagnitudeThresholds, NeuronsForFunctions, ReplaceNeurons
from transpike.recipes._base import PercentileThresholded, setting


@dataclass(frozen=True, eq=False)
class RateOfFunction(ThresholdNeuron):
    """``Q += x;  s = Q(t f(Q / t) − S);  S += s``: the mean S / t of what is sent follows f of the mean current Q / t.

    Thresholds and the choice of one of them are those of SigmaDelta; one threshold is a ternary spike.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("bits", 128, signed=True)
    modes: ClassVar[tuple[Mode, ...]] = ("steps",)
    threshold_count: int = 1

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        return SigmaDelta.stands_for(activation)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("bits", 2 ** (self.threshold_count - 1), signed=True)

    def init(self, *inputs: Tensor) -> State:
        return torch.zeros_like(inputs[0]), torch.zeros_like(inputs[0])

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        charge, sent = state[0] + inputs[0], state[1]
        wanted = t * self.source.run(charge / t) / self.threshold
        levels = nearest_threshold(wanted - sent, self.threshold_count)
        return (charge, sent + levels), levels

    def describe(self) -> str:
        return f"{self.threshold_count} thresholds, one a step, rate of a function"


@dataclass(frozen=True)
class UseRates(ReplaceNeurons):
    threshold_count: int = 1

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        factor = 2.0 ** (1 - self.threshold_count)
        return RateOfFunction(old.source, old.threshold * factor, old.initial * factor, self.threshold_count)


@dataclass(frozen=True)
class Rates(PercentileThresholded):
    """A rate code of ``threshold_count`` thresholds; the largest one is a percentile, as for sigma-delta."""

    name: ClassVar[str] = "rates"
    keeps_operators: ClassVar[bool] = True
    timesteps: int = setting(64, "Time steps.")
    threshold_count: int = setting(1, "Number of thresholds per neuron.")

    @property
    def checks(self) -> tuple[Pass, ...]:
        return (NeuronsForFunctions(), EncodeWires())

    @property
    def thresholds(self) -> Pass:
        return MagnitudeThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseRates(self.threshold_count)


def rate_codes() -> list[Rates]:
    """Ternary spikes, and the thresholds of sigma-delta with several limits: a rate is at most the largest threshold."""
    return [Rates(64, percentile=p, threshold_count=n) for n, p in ((1, 99.5), (8, 99.5), (8, 99.9), (8, 100.0))]
