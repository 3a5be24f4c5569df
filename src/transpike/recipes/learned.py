"""Recipes for networks that were trained to be converted: their clips become thresholds."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.step import Step
from transpike.recipes._base import LearnedCoded, PercentileCoded, setting
from transpike.steps import LearnedThresholds
from transpike.steps._base import Granularity


@dataclass(frozen=True)
class OPI(PercentileCoded):
    """``θ`` = the clip that the network was trained with, ``v(0) = θ/2``: optimal initial potential.

    ``calibrate`` takes the percentile of the activations instead, for a network trained with plain ReLUs.
    Source: Bu, Ding, Yu, Huang 2022 (AAAI), theorem 2; training with a trainable clip after Ho and Chang 2020 (TCL).
    Differs from the paper: nothing in the conversion; training is not part of a recipe.
    Checked: for inputs spread evenly over [0, θ] the mean error of the rate is zero at v(0) = θ/2 and half a step of
    the staircase at v(0) = 0; no other share has a smaller mean square. With ``calibrate`` it is
    ECC at the same percentile: TRE(½) is v(0) = θ/2 (tests/recipes/test_learned.py).
    """

    name: ClassVar[str] = "opi"
    granularity: Granularity = setting("layer", "One threshold for each layer, channel or neuron.")
    calibrate: bool = setting(False, "Thresholds from activations, for a network without trained clips.")

    @property
    def training_free(self) -> bool:
        return self.calibrate

    @property
    def thresholds(self) -> Step:
        if self.calibrate:
            return super().thresholds
        return LearnedThresholds(self.granularity)


@dataclass(frozen=True)
class QCFS(LearnedCoded):
    """Thresholds learned by a quantised clip: ``a = λ/L · clip(⌊z L/λ + ½⌋, 0, L)`` becomes θ = λ, v(0) = θ/2.

    Source: Bu, Fang, Ding, Dai, Yu, Huang 2022 (ICLR), equation 15 and theorem 2. Conversion side: train with
    ``activations.QuantisedClip``, whose parameter has the published checkpoints' name ``thresh``; also for
    ``SlipReLU``, ``UniformQuantiser`` and ``RateNorm`` (beta=0), whose papers convert alike.
    Differs from the paper: batch normalisation is folded, which is the same function in evaluation.
    Checked: layer-synchronous at T = L the spiking network is the source network, bit for bit where the exact grid
    holds its weights (others it rounds, and a value at an edge may change its level); not at v(0) = 0, at another T,
    or streaming (tests/recipes/test_learned.py).
    """

    name: ClassVar[str] = "qcfs"
