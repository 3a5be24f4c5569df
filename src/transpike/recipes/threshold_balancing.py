"""Threshold balancing."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.passes import Granularity
from transpike.recipes._base import PercentileCoded


@dataclass(frozen=True)
class ThresholdBalancing(PercentileCoded):
    """``W`` as it is, ``b ← b/λ_{n−1}``, ``θ = λ_n/λ_{n−1}``: ECC's current normalisation at κ = λ_n/λ_{n−1}.

    λ_n is the largest activation of layer n on training data; hard reset, v(0) = 0. With one threshold per
    channel λ_n is the largest of them.
    Source: Sengupta et al. 2019, Front. Neurosci. 13:95, section 3.
    Differs from the paper: λ_n comes from the source network, not from the spiking layers before (that is SpikeNorm).
    Checked: W and θ of a network computed by hand; no training sample is clipped, as the 99th percentile does; the
    hard reset fires every ⌈θ/z⌉ steps, unlike a soft reset (tests/recipes/test_normalisation.py).
    """

    name: ClassVar[str] = "threshold-balancing"
    percentile: float = 100.0
    granularity: Granularity = "layer"
    reset: Literal["soft", "hard"] = "hard"
