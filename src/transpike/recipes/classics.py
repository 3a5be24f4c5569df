"""The first conversion methods: manual thresholds, and thresholds from weights alone."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.core.encoder import Encoder
from transpike.core.pass_ import Pass
from transpike.core.recipe import ThresholdScale
from transpike.encoders import Poisson
from transpike.passes import (
    FixedThresholds,
    Granularity,
    ModelBasedThresholds,
    RefuseBiases,
    ReplaceNeurons,
    UseNeurons,
)
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class Cao(RateCoded):
    """One manual threshold, random input spikes, hard reset, v(0) = 0, no biases.

    Source: Cao, Chen, Khosla 2015 (IJCV 113), **from memory**: convolutions and ReLUs without biases, average pooling,
    thresholds found by trial.
    Differs from the paper: maximum pooling is allowed; the output accumulates instead of firing.
    Checked: the threshold is the setting, whatever the data; a constant z fires every ⌈θ/z⌉ steps, which a soft reset
    does not; biases and batch normalisation are refused (tests/recipes/test_classics.py).
    """

    threshold_scale: ClassVar[ThresholdScale] = "unit"

    name: ClassVar[str] = "cao"
    granularity: Granularity = setting("layer", "One threshold for all layers: the method has no other.")
    encoder: Encoder = setting(Poisson(), "Input encoder.")
    threshold: float = setting(1.0, "Threshold of all neurons, in units of the activations.")
    reset: Literal["soft", "hard"] = setting("hard", "Subtract the threshold, or set the potential to 0.")

    @property
    def checks(self) -> tuple[Pass, ...]:
        return (RefuseBiases(),)

    @property
    def thresholds(self) -> Pass:
        return FixedThresholds(self.granularity, self.readout.spiking_output, value=self.threshold)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons(reset=self.reset)


@dataclass(frozen=True)
class DiehlModel(RateCoded):
    """``W ← (λ_{n−1}/λ_n) W, b ← b/λ_n, θ = 1`` with ``λ_n = max Σ max(w, 0) λ_{n−1} + max(b, 0)``.

    λ_n bounds the input of one step. This model-based normalisation uses no activations: it never clips, and rates are
    low. Hard reset, v(0) = 0.
    Source: Diehl et al. 2015, IJCNN, section III.C.
    Differs from the paper: biases are kept; the default input is a constant current (``encoder=Poisson()`` for theirs).
    Checked: no current of one step exceeds a threshold when every neuron fires at once, which data-based thresholds
    allow; W of a network computed by hand (tests/recipes/test_classics.py).
    """

    threshold_scale: ClassVar[ThresholdScale] = "unit"

    name: ClassVar[str] = "diehl-model"
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    reset: Literal["soft", "hard"] = setting("hard", "Subtract the threshold, or set the potential to 0.")

    @property
    def thresholds(self) -> Pass:
        return ModelBasedThresholds(self.granularity, self.readout.spiking_output)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons(reset=self.reset)
