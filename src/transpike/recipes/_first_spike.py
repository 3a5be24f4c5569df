"""What the recipes of time to first spike share: the settings, and the order of the steps."""

from dataclasses import dataclass
from typing import Literal

from transpike.codes.time_code import TimeCode
from transpike.core.encoder import Encoder
from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import Schedule, check_timesteps
from transpike.encoders import ConstantCurrent, FirstSpikes
from transpike.errors import SettingError
from transpike.passes import (
    CalibrateBias,
    FoldBatchNorm,
    Granularity,
    MatchDelays,
    PoolInTime,
    QuantiseWeights,
    RemoveDropout,
    SpikesAtInput,
    SpikingAverage,
    UseFirstSpikes,
)
from transpike.passes.rewrites.quantise_weights import WeightGranularity, WeightScale
from transpike.readouts import AccumulatedMembrane, DelayedWindow
from transpike.recipes._base import check_types, setting
from transpike.schedules import TimeSlots

CORRECTED = 256  # calibration samples


@dataclass(frozen=True)
class TimeCoded(Recipe):
    """Fold batch normalisation, give every activation a threshold and a neuron that fires once, re-time shortcuts.

    A method says what its ``code``, its ``thresholds`` and its ``corrections`` are; the order is always this one.
    """

    timesteps: int = setting(24, "Slots of a window.")
    granularity: Granularity = setting("layer", "One threshold for each layer, channel or neuron.")
    weight_bits: int | None = setting(None, "Quantise weights to so many bits.")
    weight_scale: WeightScale = setting("logarithmic", "Scale of quantised weights: powers of 2^(-1/2^z), or uniform.")
    weight_granularity: WeightGranularity = setting("layer", "One scale a layer or an output channel.")
    weight_correction: Literal["bias", "none"] = setting(
        "bias", "Each channel's bias takes away what quantised weights change on average, in whole windows."
    )
    average_pooling: Literal["linear", "spiking"] = setting(
        "linear", "Average pooling within the next weights, or with neurons of its own that fire."
    )
    kernel_bits: int | None = setting(
        None, "Bits of an exponential kernel's levels; default: as few as tell the slots apart."
    )
    retime: bool = setting(True, "Relays that hold the spikes of shortcuts back until the layers beside them are done.")
    input: Literal["analogue", "spikes"] = setting("analogue", "The input as a current, or as times of first spikes.")
    readout: Readout = setting(AccumulatedMembrane(), "How the answer is read.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        if self.average_pooling not in ("linear", "spiking"):
            raise SettingError(f"average_pooling must be 'linear' or 'spiking', not {self.average_pooling!r}")
        if self.input not in ("analogue", "spikes"):
            raise SettingError(f"input must be 'analogue' or 'spikes', not {self.input!r}")
        if isinstance(self.readout, DelayedWindow):
            raise SettingError(
                "DelayedWindow leaves out single steps, and a window of slots is read in one sum: use "
                "readout=AccumulatedMembrane()"
            )
        if self.weight_correction not in ("bias", "none"):
            raise SettingError(f"weight_correction must be 'bias' or 'none', not {self.weight_correction!r}")
        QuantiseWeights(8, self.weight_scale, None, self.weight_granularity)  # which checks them, used or not
        _ = self.passes, self.encoder, self.schedule  # settings are checked by the parts that use them

    @property
    def code(self) -> TimeCode:
        """The code of neurons whose source has none of its own."""
        raise TypeError(f"{type(self).__name__} must define code")

    @property
    def thresholds(self) -> Pass:
        raise TypeError(f"{type(self).__name__} must define thresholds")

    @property
    def follows(self) -> bool:
        """True where the source's own slots or stairs come before the recipe's."""
        return False

    @property
    def corrections(self) -> tuple[Pass, ...]:
        return ()

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        if self.input == "analogue":
            return ConstantCurrent()
        c = self.code
        return FirstSpikes(None, c.window, c.tau, c.base, c.delay, c.last, c.rounding, c.kernel, c.bits)

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return TimeSlots()

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def passes(self) -> tuple[Pass, ...]:
        average = (SpikingAverage(),) if self.average_pooling == "spiking" else ()
        neurons = (self.thresholds, UseFirstSpikes(self.code, self.follows), *self.corrections)
        retime = (MatchDelays(0),) if self.retime else ()
        prepared = (RemoveDropout(), FoldBatchNorm(), SpikesAtInput(), *average)
        return (*prepared, *neurons, *self._quantise, PoolInTime(), *retime)

    @property
    def _quantise(self) -> tuple[Pass, ...]:
        """After the neurons, so that biases are corrected against the activations of the weights as they were."""
        if self.weight_bits is None:
            return ()
        quantise = QuantiseWeights(self.weight_bits, self.weight_scale, None, self.weight_granularity)
        correct = self.weight_correction == "bias" and self.schedule.lag(self.timesteps) == self.timesteps
        return (quantise, CalibrateBias(CORRECTED)) if correct else (quantise,)
