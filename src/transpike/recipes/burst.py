"""Burst spikes and lateral inhibition pooling."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.recipe import ThresholdScale
from transpike.errors import SettingError
from transpike.passes import Granularity, InitialPotential, ReplaceNeurons, UseNeurons
from transpike.recipes._base import PercentileThresholded, setting


@dataclass(frozen=True)
class BurstLIP(PercentileThresholded):
    """Up to Γ spikes per step send the residual charge of earlier steps; maximum pooling by lateral inhibition.

    ``percentile`` of the activations is the threshold, as in the paper's code (99.9), v(0) = 0.
    Source: Li and Zeng 2022 (IJCAI), "Efficient and accurate conversion of spiking neural network with burst spikes",
    sections 3.2 and 3.3, and the authors' code (Γ = 5).
    Differs from the paper: activations are not scaled before the percentile (its demo divides those above 1 by Γ, one
    of its codes clamps them at 1); pooling works for overlapping windows too.
    Checked: for z in (θ, Γθ] the rate is z, but θ with one spike per step; pooled counts equal the largest count
    (tests/recipes/test_burst.py, tests/laws/test_pooling_laws.py).
    """

    threshold_scale: ClassVar[ThresholdScale] = "unit"

    name: ClassVar[str] = "burst"
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    beta: float = setting(0.0, "Initial potential as a share of the threshold.")
    gamma: int = setting(5, "Maximum number of spikes per time step.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.gamma <= 255:
            raise SettingError(f"gamma must be between 1 and 255, not {self.gamma}")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(self.beta),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("burst", gamma=self.gamma)
