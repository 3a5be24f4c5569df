"""Thresholds and worths that balance the expected error."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.passes import Granularity, PercentileScaleThresholds
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class DattaBeerel(RateCoded):
    """``θ = α μ`` and spikes worth ``β θ``: α a percentile of the currents, β a scale, so that each layer's expected
    error at T steps is below 1 % of the mean activation; of such pairs the one of least squared error, which is our own
    choice; v(0) = 0.

    μ is the clip that a layer was trained with (``activations.TrainableClip``), or its largest activation.
    Source: Datta and Beerel 2021 (DATE), "Can deep neural networks be converted to ultra low-latency spiking neural
    networks?", algorithm 1, **from memory**; the authors' public code is of later work.
    Differs from the paper: its fine-tuning with leaky neurons is not part of the recipe (``transpike finetune``).
    Checked: the mean error of a constant current's staircase is below 1 % of the mean activation, where α = β = 1
    loses half a step (tests/recipes/test_datta_beerel.py).
    """

    name: ClassVar[str] = "datta-beerel"
    timesteps: int = setting(8, "Steps that the network is made for.")
    granularity: Granularity = setting("layer", "One threshold a layer: the method knows no other.")
    samples: int = setting(128, "Calibration inputs that are looked at.")

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def thresholds(self) -> Pass:
        spiking = self.readout.spiking_output
        return PercentileScaleThresholds(self.granularity, spiking, samples=self.samples)
