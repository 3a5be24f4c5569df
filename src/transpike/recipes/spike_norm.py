"""Thresholds from simulated spiking layers: Spike-Norm, and RMP with a soft reset."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike import passes
from transpike.core.encoder import Encoder
from transpike.core.pass_ import Pass
from transpike.encoders import Poisson
from transpike.errors import SettingError
from transpike.passes import Granularity, PercentileThresholds, ReplaceNeurons, UseNeurons
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class SpikeNorm(RateCoded):
    """``θ_l = max over time and neurons of the current of layer l`` while the layers before it spike; hard reset.

    Random input spikes with sign, v(0) = 0, the last layer accumulates.
    Source: Sengupta, Ye, Wang, Liu, Roy 2019, Front. Neurosci. 13:95, section 3.2 (Spike-Norm), after the authors'
    code in hybrid-snn-conversion.
    Differs from the paper: thresholds are measured over the recipe's own time steps on ``samples`` calibration inputs
    (there up to 2500 steps on one batch of 512); biases and batch normalisation are allowed.
    Checked: on its calibration inputs the largest current of a single step equals the threshold in every layer; it
    exceeds the largest activation (tests/recipes/test_spike_norm.py).
    """

    name: ClassVar[str] = "spike-norm"
    granularity: Granularity = setting("layer", "One threshold per layer: the method has no other.")
    encoder: Encoder = setting(Poisson(), "Input encoder.")
    reset: Literal["soft", "hard"] = setting("hard", "Subtract the threshold, or set the potential to 0.")
    scale: float = setting(1.0, "Factor on every threshold.")
    samples: int = setting(64, "Number of simulated calibration inputs.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.granularity != "layer":
            raise SettingError(
                f"Spike-Norm has one threshold per layer: granularity must be 'layer', not {self.granularity!r}"
            )
        if self.schedule.mode != "steps":
            raise SettingError("Spike-Norm measures the current of single steps: it needs schedule=Streaming()")

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def thresholds(self) -> Pass:
        return PercentileThresholds("layer", self.readout.spiking_output, percentile=100.0)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons(reset=self.reset)

    @property
    def corrections(self) -> tuple[Pass, ...]:
        return (passes.SpikeNorm(self.scale, self.samples),)


@dataclass(frozen=True)
class RMP(SpikeNorm):
    """Spike-Norm's thresholds times 0.8, and a soft reset, which keeps the residual membrane potential.

    Source: Han, Srinivasan, Roy 2020 (RMP-SNN, CVPR), sections 4 and 5; the factor as in RNL's replica.
    Differs from the paper: as Spike-Norm.
    Checked: thresholds are 0.8 of the largest step of current, and the balance ``Σ θ s = Σ x + v(0) − v(T)`` holds,
    which a hard reset violates, with lower accuracy (tests/recipes/test_spike_norm.py).
    """

    name: ClassVar[str] = "rmp"
    reset: Literal["soft", "hard"] = setting("soft", "Subtract the threshold, or set the potential to 0.")
    scale: float = setting(0.8, "Factor on every threshold.")
