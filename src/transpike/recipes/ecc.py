"""Explicit current control."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.recipe import ThresholdScale
from transpike.recipes._base import LinearWires, PercentileCoded, linear_wires


@dataclass(frozen=True)
class ECC(PercentileCoded):
    """Explicit current control: current normalisation (CN), CMB and thresholding for residual elimination (TRE).

    CN:  ``W ← κ (λ_{n−1}/λ_n) W,  b ← (κ/λ_n) b,  θ = κ`` with one κ for all layers.
    CMB: batch normalisation folded with the layer's own ε and running statistics.
    TRE: a residual of at least (1−β) θ after the last step gives one more spike, equivalent to ``v(0) = β θ``.

    Source: Wu, Yi, Huang, Front. Neurosci. 2022, 16:759900 (arXiv 2103.00944) and its code SpKeras.
    Differs from the paper: thresholds are the 99.9 percentile per channel on training data, not the maximum per layer
    (``ECC.paper()``); average pooling is a linear synapse without a separate neuron; a residual add feeds one neuron
    with both currents; time is simulated step by step unless ``schedule`` is layer-synchronous, as in SpKeras. κ is a
    power of two (128 for the paper's 100), so that spike trains stay bit-identical. Checked: a residual of (1−β) θ
    gives one more spike, and without TRE the mean error of every layer is more than twice as large; folding with
    another ε is detected; in windows the counts equal SpKeras's, streaming they do not (tests/recipes/test_ecc.py).
    """

    threshold_scale: ClassVar[ThresholdScale] = 128.0

    name: ClassVar[str] = "ecc"
    linear_wires: LinearWires = linear_wires("merge")

    @classmethod
    def paper(cls, **settings: object) -> "ECC":
        """The paper's statistics: the maximum of each layer."""
        return cls(**{"percentile": 100.0, "granularity": "layer", **settings})  # type: ignore[arg-type]
