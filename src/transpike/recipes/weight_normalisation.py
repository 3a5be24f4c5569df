"""Data-based weight normalisation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.core.recipe import ThresholdScale
from transpike.passes import Granularity
from transpike.recipes._base import PercentileCoded


@dataclass(frozen=True)
class WeightNormalisation(PercentileCoded):
    """``W ← (λ_{n−1}/λ_n) W,  b ← b/λ_n,  θ = 1``: ECC's current normalisation at κ = 1.

    λ_n is the largest activation of layer n on training data; hard reset, v(0) = 0.
    Source: Diehl et al. 2015, IJCNN, section III.D (data-based normalisation).
    Differs from the paper: biases are kept; the default input is a constant current (``encoder=Poisson()`` for theirs).
    Checked: W and b of a network computed by hand; no training sample is clipped, as the 99th percentile does; the
    hard reset fires every ⌈θ/z⌉ steps, unlike a soft reset (tests/recipes/test_normalisation.py).
    """

    threshold_scale: ClassVar[ThresholdScale] = "unit"

    name: ClassVar[str] = "weight-normalisation"
    percentile: float = 100.0
    granularity: Granularity = "layer"
    reset: Literal["soft", "hard"] = "hard"
