"""A bias that adds half a threshold."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.passes import BiasShift, Granularity, PercentileThresholds
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class DengGu(RateCoded):
    """``θ`` = the largest activation of a layer, ``b ← b + θ/2T``, soft reset, v(0) = 0.

    Source: Deng and Gu 2021 (ICLR), "Optimal conversion of conventional artificial neural networks to spiking neural
    networks", equations 9 and 13. Differs from the paper: the source network need not be trained with a threshold
    ReLU; where it was, the largest activation is that threshold.
    Checked: after T steps a constant input gives the same count as v(0) = θ/2, and earlier a lower count; the mean
    error is zero, and half a level without the shift (tests/recipes/test_deng_gu.py).
    """

    name: ClassVar[str] = "deng-gu"
    granularity: Granularity = setting("layer", "One threshold per layer or channel.")

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def thresholds(self) -> Pass:
        return PercentileThresholds(self.granularity, self.readout.spiking_output, percentile=100.0)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (BiasShift(),)
