"""Recipes of sigma-delta neurons, which represent any function of one value."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.neurons.sigma_delta import SpikeRule
from transpike.passes import (
    EncodeWires,
    FoldLayerNorm,
    MagnitudeThresholds,
    NeuronsForFunctions,
    ProductsOfWires,
    RecogniseFunctions,
    ReplaceNeurons,
    UseSigmaDelta,
)
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.recipes._base import PercentileThresholded, setting
from transpike.schedules import Differences


@dataclass(frozen=True)
class StreamingSigmaDelta(PercentileThresholded):
    """Sigma-delta neurons: a spike corrects, by its whole value, what the next layers know of a function's value.

    A neuron represents any function of one value: SiLU, GELU, Mish, leaky and parametric ReLU, ELU and its kin, the
    hard forms, sigmoid, tanh. It sends at most one of n = ``threshold_count`` signed thresholds per step; the largest
    is a percentile of the absolute activations, which limits how fast a neuron follows, not what it can reach. Weights
    and products that would receive real numbers (from sums, other weights, analogue operators) get a neuron in front.
    In a product of two wires, such as a gate, each spike adds the state of the other side. Maximum pooling sends whole
    levels that add up to the maximum of what its inputs' levels add up to. Other operators (normalisation) remain
    analogue and send differences; they are kept without asking. Biases and constant input are added once; a settled
    network is silent.
    Source: Yoon 2016 (TNNLS), sigma-delta modulation by neurons, **from memory**, with the thresholds and the rule of
    Huang et al. 2025 (DCGS, ICML).
    Differs from the paper: the neuron has several thresholds, no leak, and a function of its estimate.
    Checked: what an operator's messages add up to is its function of what it received; the error is at most ¾ of the
    smallest threshold, or |y| 3^−t; a settled network is silent (tests/recipes/test_sigma_delta.py).
    """

    name: ClassVar[str] = "sigma-delta"
    keeps_operators: ClassVar[bool] = True
    rule: ClassVar[SpikeRule] = "one"

    timesteps: int = setting(4, "Time steps.")
    pooling: PoolingRule = setting("differences", "Rule for maximum pooling in time.")
    schedule: Schedule = setting(Differences(gain="unit"), "Schedule: differences with unit gain.")
    threshold_count: int = setting(8, "Number of thresholds per neuron.")

    @property
    def recognitions(self) -> tuple[Pass, ...]:
        return (*super().recognitions, RecogniseFunctions())

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        encode = EncodeWires(pooled=self.granularity != "neuron")
        return (FoldLayerNorm(), ProductsOfWires(), NeuronsForFunctions(), encode)

    @property
    def thresholds(self) -> Pass:
        return MagnitudeThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseSigmaDelta(self.threshold_count, self.rule)


@dataclass(frozen=True)
class BurstDigits(StreamingSigmaDelta):
    """Sigma-delta neurons that send all signed binary digits of a value in one step: a quantised network.

    At T = 1, the default, every activation is rounded to one of 2^n levels of either sign and sent as a burst. It is
    the network that a settled ``sigma-delta`` equals up to one level: compare the operations of the two.
    Source: transpike's own, as the comparison for sigma-delta.
    Differs from the paper: there is none.
    Checked: its values are within one level of the settled sigma-delta neuron's (tests/recipes/test_sigma_delta.py).
    """

    name: ClassVar[str] = "burst-digits"
    rule: ClassVar[SpikeRule] = "all"
    timesteps: int = setting(1, "Time steps; more only correct earlier layers' bursts.")
