"""Recipes for networks trained with clips, which become thresholds."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.passes import Granularity, LearnedThresholds
from transpike.recipes._base import LearnedCoded, PercentileCoded, setting


@dataclass(frozen=True)
class OPI(PercentileCoded):
    """``θ`` = the trained clip, ``v(0) = θ/2``: optimal initial potential.

    ``calibrate`` uses the percentile of the activations instead, for a network trained with plain ReLUs.
    Source: Bu, Ding, Yu, Huang 2022 (AAAI), theorem 2; training with a trainable clip after Ho and Chang 2020 (TCL).
    Differs from the paper: nothing in the conversion; training is not part of a recipe.
    Checked: for inputs uniform on [0, θ] the mean error of the rate is zero at v(0) = θ/2 and half a level at
    v(0) = 0; no other share has a smaller mean square error. With ``calibrate`` it equals ECC at the same percentile:
    TRE(½) is v(0) = θ/2 (tests/recipes/test_learned.py).
    """

    name: ClassVar[str] = "opi"
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    calibrate: bool = setting(False, "Use thresholds from activations, for networks without trained clips.")

    @property
    def training_free(self) -> bool:
        return self.calibrate

    @property
    def thresholds(self) -> Pass:
        if self.calibrate:
            return super().thresholds
        return LearnedThresholds(self.granularity)


@dataclass(frozen=True)
class QCFS(LearnedCoded):
    """Thresholds learned by a quantised clip: ``a = λ/L · clip(⌊z L/λ + ½⌋, 0, L)`` becomes θ = λ, v(0) = θ/2.

    Source: Bu, Fang, Ding, Dai, Yu, Huang 2022 (ICLR), equation 15 and theorem 2. Conversion side: train with
    ``activations.QuantisedClip``, whose parameter has the published checkpoints' name ``thresh``; also for
    ``SlipReLU``, ``UniformQuantiser`` and ``RateNorm`` (beta=0), whose papers use the same conversion.
    Differs from the paper: batch normalisation is folded, which is the same function in evaluation mode.
    Checked: layer-synchronous at T = L the spiking network is the source network, bit for bit where the exact grid
    represents its weights (it rounds others, and a value at an edge may change its level); not at v(0) = 0, at another
    T, or streaming (tests/recipes/test_learned.py).
    """

    name: ClassVar[str] = "qcfs"


@dataclass(frozen=True)
class TCL(LearnedCoded):
    """``θ`` = the trained clip λ of each layer, v(0) = 0: the conversion of a trainable clipping layer.

    Train with ``activations.TrainableClip``. Source: Ho and Chang 2021 (TCL, DAC), after QCFS's code, which contains
    its activation. Differs from the paper: weights are not rewritten, which does not change the spikes.
    Checked: a current above λ fires in every step, one of λ/2 in every second step; the mean error is half a level,
    which v(0) = θ/2 removes (OPI) (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "tcl"
    beta: float | None = setting(0.0, "Initial potential as a share of the threshold.")


@dataclass(frozen=True)
class RNL(LearnedCoded):
    """``θ_l = σ(p_l) M_l``, the learned range of a rate norm layer, v(0) = 0, soft reset, constant input.

    Train with ``activations.RateNorm``, whose rate inference loss Ω favours rates that few steps estimate well.
    ``transpike explain`` plots each layer's fit ``K(t) = ‖r − r(t)‖² / ‖r‖²`` next to its estimate ``2 Ω / t``.
    Source: Ding, Yu, Tian, Huang 2021 (RNL, IJCAI), theorem 1. Differs from the paper: nothing in the conversion.
    Checked: the neurons' rates converge to the source's r̂ = clip(z/θ, 0, 1), within half a level for T steps; with
    another θ they do not (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "rnl"
    beta: float | None = setting(0.0, "Initial potential as a share of the threshold.")


@dataclass(frozen=True)
class SlipReLU(LearnedCoded):
    """``θ = λ``, ``v(0) = δ₂ θ`` of the mixed activation ``s λ clip(z/λ + δ₁/L, 0, 1) + (1 − s) staircase``.

    Train with ``activations.SlipReLU``. T = L steps of a constant current give the staircase part; the network was
    trained with the clip part in addition.
    Source: Jiang, Anumasa, De Masi, Xiong, Gu 2023 (SlipReLU, ICML), from its code. Differs from the paper: nothing in
    the conversion.
    Checked: at T = L the rate of a constant current is the staircase with the trained δ₂, not with another; the
    source differs from it by s times the error of the staircase (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "slip-relu"
