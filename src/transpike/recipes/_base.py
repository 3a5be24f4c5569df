"""What the rate-coded recipes share: the settings, and the order of the steps."""

from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class RateCoded(Recipe):
    """Fold batch normalisation, replace activations by integrate-and-fire neurons, give pooling a memory.

    ``beta`` is the initial potential as a share of the threshold; None means ½ for a soft reset and 0 for a hard one.
    """

    timesteps: int = 64
    percentile: float = 99.9
    granularity: Granularity = "channel"
    beta: float | None = None
    reset: Literal["soft", "hard"] = "soft"
    weight_bits: int | None = None
    pooling: PoolingRule = "lateral-inhibition"
    encoder: Encoder = ConstantCurrent()
    schedule: Schedule = Streaming()
    readout: Readout = AccumulatedMembrane()

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        if self.schedule.bias_per_window and self.reset == "hard":
            raise SettingError("a hard reset forgets the charge of a window: use reset='soft' with this schedule")
        _ = self.steps  # settings are checked by the steps that use them

    @property
    def steps(self) -> tuple[Step, ...]:
        beta = self.beta if self.beta is not None else (0.0 if self.reset == "hard" else 0.5)
        before = (PoolBeforeActivation(),) if self.pooling == "before-neuron" else ()
        quantise = () if self.weight_bits is None else (QuantiseWeights(self.weight_bits),)
        spiking = ToSpiking(self.percentile, self.granularity, beta, self.reset, self.readout.spiking_output)
        return (RemoveDropout(), FoldBatchNorm(), *before, *quantise, spiking, PoolInTime(self.pooling))
