"""Bursts where the answer minds."""

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
    """Up to Γ_l spikes a step in layer l, chosen by how much the answer minds that layer's staircase, within
    ``budget`` times the spikes of Γ = 4 everywhere; thresholds of least squared error, v(0) = θ/2, biases corrected.

    ``compress`` < 1 then raises thresholds, layer by layer, until spikes are down to that share (the paper's
    sensitivity spike compression); 1 leaves it out.
    Source: Wang et al. 2025 (AdaFire, AAAI), "Adaptive-firing neurons", from its code.
    Differs from the paper: v(0) = θ/2 in the place of θ/2T a step, the same in sum. Its code hands the compressed
    thresholds to the layers in reverse order; here each layer gets its own.
    Checked: of all choices of a small table the search's is the best within the budget, and more budget never does more
    damage; on two layers of which one alone matters to the answer, that one gets the bursts, its damage the symmetric
    divergence worked out by hand (tests/recipes/test_adafire.py).
    """

    name: ClassVar[str] = "adafire"
    timesteps: int = setting(8, "Steps that the network is made for.")
    granularity: Granularity = setting("layer", "One threshold a layer: the method knows no other.")
    gamma: int = setting(8, "Most spikes of a burst in a step.")
    budget: float = setting(1.0, "Spikes allowed, as a share of those of bursts of up to four.")
    compress: float = setting(1.0, "Spikes that thresholds may be raised to, as a share of those before; 1 is all.")
    samples: int = setting(64, "Calibration inputs on which damage is measured and biases are corrected.")

    def __post_init__(self) -> None:
        if self.granularity != "layer":
            raise SettingError(f"AdaFire chooses for layers: granularity must be 'layer', not {self.granularity!r}")
        if isinstance(self.compress, bool) or not isinstance(self.compress, (int, float)) or not 0 < self.compress <= 1:
            raise SettingError(f"compress must be in (0, 1], not {self.compress!r}: the share of spikes that stay")
        if self.residual == "shared":
            raise SettingError("AdaFire searches each layer's threshold for itself: residual must be 'currents'")
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
