"""The recipe of ECMT: rate-coded transformers without training."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.passes import (
    EncodeWires,
    FoldLayerNorm,
    MagnitudeThresholds,
    ProductsOfWires,
    Rectify,
    ReplaceNeurons,
    UseMultiThresholds,
)
from transpike.recipes._base import PercentileThresholded, setting


@dataclass(frozen=True)
class ECMT(PercentileThresholded):
    """Expectation compensation and neurons with n = ``threshold_count`` thresholds of either sign, in rate code.

    Operators f that are not linear (softmax, norms, GELU) and products of two wires send what their mean output lacks:
    ``out_t = t f(S_t / t) − (t−1) f(S_{t−1} / (t−1))``, S the sum of the inputs, so that the mean of the outputs is
    f of the mean inputs at every t. Neurons encode what weights and products read: at most one of the thresholds θ,
    θ/2 … θ/2^{n−1} of either sign per step, with soft reset; neurons of ReLUs send no negative sums. Operators are kept
    without asking.
    Source: Huang et al. 2024 (ECMT, MM), "Towards high-performance spiking transformers from ANN to SNN conversion",
    equations from a survey of its code.
    Differs from the paper: θ is a percentile of the absolute values of a feature or head, where its code has one
    threshold per layer and multiplies some by hand; weights of norms are folded into the next layers.
    Checked: the mean of an operator's and of a product's messages is exact at every step, and wrong without the
    compensation; the mean of a neuron's spikes is within half a lowest threshold over T of its input; the error of a
    transformer falls as steps are added (tests/recipes/test_transformers.py).
    """

    name: ClassVar[str] = "ecmt"
    keeps_operators: ClassVar[bool] = True

    percentile: float = setting(100.0, "Percentile of absolute values used as highest threshold; 100 is the maximum.")
    timesteps: int = setting(8, "Time steps.")
    threshold_count: int = setting(8, "Number of thresholds per neuron.")

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        return (FoldLayerNorm(), ProductsOfWires(), Rectify(), EncodeWires())

    @property
    def thresholds(self) -> Pass:
        return MagnitudeThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseMultiThresholds(self.threshold_count, "one")
