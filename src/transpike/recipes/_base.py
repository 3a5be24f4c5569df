"""What the rate-coded recipes share: the settings, and the order of the steps."""

from dataclasses import dataclass, field
from typing import Any, Literal

from transpike.core.encoder import Encoder
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import Schedule, check_timesteps
from transpike.core.step import Step
from transpike.encoders import ConstantCurrent
from transpike.errors import SettingError
from transpike.readouts import AccumulatedMembrane
from transpike.schedules import Streaming
from transpike.steps import FoldBatchNorm, PoolBeforeActivation, PoolInTime, QuantiseWeights, RemoveDropout, ToSpiking
from transpike.steps.pooling import PoolingRule
from transpike.steps.thresholds import Granularity


def _setting(default: Any, text: str) -> Any:
    """A field whose command-line flag says ``text``."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class RateCoded(Recipe):
    """Fold batch normalisation, replace activations by integrate-and-fire neurons, give pooling a memory.

    ``beta`` is the initial potential as a share of the threshold; None means ½ for a soft reset and 0 for a hard one.
    """

    timesteps: int = _setting(64, "Steps that the network is made for.")
    percentile: float = _setting(99.9, "Of each layer's activations: the threshold; 100 is the maximum.")
    granularity: Granularity = _setting("channel", "One threshold for each layer, channel or neuron.")
    beta: float | None = _setting(None, "Initial potential as a share of the threshold (1/2; 0 for a hard reset).")
    reset: Literal["soft", "hard"] = _setting("soft", "Subtract the threshold, or set the potential to 0.")
    weight_bits: int | None = _setting(None, "Quantise weights to so many bits.")
    pooling: PoolingRule = _setting("lateral-inhibition", "How maximum pooling works in time.")
    encoder: Encoder = _setting(ConstantCurrent(), "How the input enters.")
    schedule: Schedule = _setting(Streaming(), "When neurons fire: as input arrives, or window by window.")
    readout: Readout = _setting(AccumulatedMembrane(), "How the answer is read.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        if self.schedule.mode != "steps" and self.reset == "hard":
            raise SettingError("a hard reset forgets the charge of a window: use reset='soft' with this schedule")
        _ = self.steps  # settings are checked by the steps that use them

    @property
    def steps(self) -> tuple[Step, ...]:
        beta = self.beta if self.beta is not None else (0.0 if self.reset == "hard" else 0.5)
        before = (PoolBeforeActivation(),) if self.pooling == "before-neuron" else ()
        quantise = () if self.weight_bits is None else (QuantiseWeights(self.weight_bits),)
        spiking = ToSpiking(self.percentile, self.granularity, beta, self.reset, self.readout.spiking_output)
        return (RemoveDropout(), FoldBatchNorm(), *before, *quantise, spiking, PoolInTime(self.pooling))
