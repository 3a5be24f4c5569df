"""Robust normalisation."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.recipe import ThresholdScale
from transpike.passes import Granularity, PercentileThresholds
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.recipes._base import PercentileCoded, setting


@dataclass(frozen=True)
class Rueckauer(PercentileCoded):
    """``W ← (λ_{n−1}/λ_n) W, b ← b/λ_n, θ = 1`` with λ the 99.9 percentile of a layer's non-zero activations.

    Soft reset, v(0) = 0, constant input current, maximum pooling gated by the leading unit, biases kept.
    Source: Rueckauer, Lungu, Hu, Pfeiffer, Liu 2017, Front. Neurosci. 11:682, sections 2.2.1 to 2.2.4; snn_toolbox.
    Differs from the paper: the softmax readout is the accumulated membrane; concatenated inputs need no
    separately scaled blocks, because W is not rewritten.
    Checked: count = clip(⌊T z/θ⌋, 0, T) for constant z, without half a threshold; the percentile ignores zeros; after
    T steps counts are on average half a spike below ECC's (tests/recipes/test_rueckauer.py).
    """

    threshold_scale: ClassVar[ThresholdScale] = "unit"

    name: ClassVar[str] = "rueckauer"
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    pooling: PoolingRule = setting("gated", "Rule for maximum pooling in time.")
    beta: float | None = setting(0.0, "Initial potential as a share of the threshold.")

    @property
    def thresholds(self) -> Pass:
        spiking = self.readout.spiking_output
        return PercentileThresholds(self.granularity, spiking, percentile=self.percentile, of="non-zero")
