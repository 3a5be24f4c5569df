"""Thresholds and spike scales that balance the expected error."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.passes import Granularity, PercentileScaleThresholds
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class DattaBeerel(RateCoded):
    """``θ = α μ`` and spike scale ``β θ``, α a percentile of the currents, β a factor; v(0) = 0.

    Each layer's expected error at T steps is below 1 % of the mean activation; of such pairs (α, β) the one with the
    least squared error is used, which is our choice. μ is the trained clip of a layer (``activations.TrainableClip``),
    or its largest activation. Source: Datta and Beerel 2021 (DATE), "Can deep neural networks be converted to ultra
    low-latency spiking neural networks?", algorithm 1, **from memory**; the authors' public code is of later work.
    Differs from the paper: its fine-tuning with leaky neurons is not part of the recipe (``transpike finetune``).
    Checked: the mean error of a constant current's staircase is below 1 % of the mean activation, where α = β = 1
    loses half a step (tests/recipes/test_datta_beerel.py).
    """

    name: ClassVar[str] = "datta-beerel"
    timesteps: int = setting(8, "Time steps.")
    granularity: Granularity = setting("layer", "One threshold per layer: the method has no other.")
    samples: int = setting(128, "Number of calibration inputs.")

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def thresholds(self) -> Pass:
        spiking = self.readout.spiking_output
        return PercentileScaleThresholds(self.granularity, spiking, samples=self.samples)
