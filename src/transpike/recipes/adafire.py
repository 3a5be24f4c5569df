"""AdaFire: burst sizes by the sensitivity of the output."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.errors import SettingError
from transpike.passes import (
    CalibrateBias,
    Granularity,
    InitialPotential,
    PercentileThresholds,
    ReplaceNeurons,
    SearchBursts,
    SearchThresholds,
)
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class AdaFire(RateCoded):
    """Up to Γ_l spikes per step in layer l, chosen by the sensitivity of the output to that layer's staircase.

    The spike budget is ``budget`` times the spikes of Γ = 4 in all layers; thresholds have the least squared error,
    v(0) = θ/2, biases are corrected. ``compress`` < 1 then raises thresholds, layer by layer, until that share of
    spikes remains (the paper's sensitivity spike compression); 1 leaves it out.
    Source: Wang et al. 2025 (AdaFire, AAAI), "Adaptive-firing neurons", from its code.
    Differs from the paper: v(0) = θ/2 instead of θ/2T per step, which is equal in sum. Its code assigns the
    compressed thresholds to the layers in reverse order; here each layer gets its own.
    Checked: the search finds the best choice of a small table within the budget, and a larger budget never increases
    the damage; of two layers, only one of which affects the output, that layer gets the bursts, and its damage is the
    symmetric divergence computed by hand (tests/recipes/test_adafire.py).
    """

    name: ClassVar[str] = "adafire"
    timesteps: int = setting(8, "Time steps.")
    granularity: Granularity = setting("layer", "One threshold per layer: the method has no other.")
    gamma: int = setting(8, "Maximum number of spikes per burst and time step.")
    budget: float = setting(1.0, "Spike budget, as a multiple of the spikes with bursts of up to four.")
    compress: float = setting(1.0, "Share of spikes that remains after raising thresholds; 1 is off.")
    samples: int = setting(64, "Calibration inputs for the search and the bias correction.")

    def __post_init__(self) -> None:
        if self.granularity != "layer":
            raise SettingError(f"AdaFire searches per layer: granularity must be 'layer', not {self.granularity!r}")
        if isinstance(self.compress, bool) or not isinstance(self.compress, (int, float)) or not 0 < self.compress <= 1:
            raise SettingError(
                f"compress must be in (0, 1], not {self.compress!r}: it is the share of remaining spikes"
            )
        if self.residual == "shared":
            raise SettingError("AdaFire searches each layer's threshold separately: residual must be 'currents'")
        super().__post_init__()

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def thresholds(self) -> Pass:
        return PercentileThresholds(self.granularity, self.readout.spiking_output, percentile=100.0)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(0.5),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return SearchBursts(self.gamma, self.budget, self.samples)

    @property
    def corrections(self) -> tuple[Pass, ...]:
        fewer = () if self.compress == 1 else (SearchThresholds(self.compress, self.samples),)
        return (*fewer, CalibrateBias(self.samples))
