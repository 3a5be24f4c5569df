"""Thresholds from spiking layers: Spike-Norm and its softer successor RMP."""

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
    Checked: on its calibration inputs the largest single step of current is the threshold, in every layer; the largest
    activation is exceeded (tests/recipes/test_spike_norm.py).
    """

    name: ClassVar[str] = "spike-norm"
    granularity: Granularity = setting("layer", "One threshold a layer: the method knows no other.")
    encoder: Encoder = setting(Poisson(), "How the input enters.")
    reset: Literal["soft", "hard"] = setting("hard", "Subtract the threshold, or set the potential to 0.")
    scale: float = setting(1.0, "Multiplies every threshold.")
    samples: int = setting(64, "Calibration inputs that are simulated.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.granularity != "layer":
            raise SettingError(
                f"Spike-Norm has one threshold a layer: granularity must be 'layer', not {self.granularity!r}"
            )
        if self.schedule.mode != "steps":
            raise SettingError("Spike-Norm looks at single steps of current: it needs the streaming schedule")

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
    """Spike-Norm's thresholds times 0.8, and the residual membrane potential kept: soft reset.

    Source: Han, Srinivasan, Roy 2020 (RMP-SNN, CVPR), sections 4 and 5; the factor as in RNL's replica.
    Differs from the paper: as Spike-Norm.
    Checked: thresholds are 0.8 of the largest step of current, and the balance ``Σ θ s = Σ x + v(0) − v(T)`` holds,
    which a hard reset breaks and pays for in accuracy (tests/recipes/test_spike_norm.py).
    """

    name: ClassVar[str] = "rmp"
    reset: Literal["soft", "hard"] = setting("soft", "Subtract the threshold, or set the potential to 0.")
    scale: float = setting(0.8, "Multiplies every threshold.")
