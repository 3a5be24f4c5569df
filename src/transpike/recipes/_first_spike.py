"""Base class of recipes with time to first spike: common settings and the order of passes."""

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
    Rectify,
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
    """Folds batch normalisation, replaces activations by neurons that fire once, and re-times shortcuts.

    A method defines its ``code``, ``thresholds`` and ``corrections``; their order is fixed.
    """

    timesteps: int = setting(24, "Time slots per window.")
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    weight_bits: int | None = setting(None, "Bits of quantised weights; default: no quantisation.")
    weight_scale: WeightScale = setting("logarithmic", "Scale of quantised weights: powers of 2^(-1/2^z), or uniform.")
    weight_granularity: WeightGranularity = setting("layer", "One scale per layer or output channel.")
    weight_correction: Literal["bias", "none"] = setting(
        "bias", "Correct each channel's bias for the mean change by quantised weights, in whole windows."
    )
    average_pooling: Literal["linear", "spiking"] = setting(
        "linear", "Average pooling as a linear layer, or followed by separate neurons."
    )
    kernel_bits: int | None = setting(
        None, "Bits of an exponential kernel's levels; default: the fewest that distinguish all slots."
    )
    retime: bool = setting(True, "Delay spikes on shortcuts until the bypassed layers have fired.")
    input: Literal["analogue", "spikes"] = setting("analogue", "Input as a constant current, or as first-spike times.")
    readout: Readout = setting(AccumulatedMembrane(), "Output readout.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        if self.average_pooling not in ("linear", "spiking"):
            raise SettingError(f"average_pooling must be 'linear' or 'spiking', not {self.average_pooling!r}")
        if self.input not in ("analogue", "spikes"):
            raise SettingError(f"input must be 'analogue' or 'spikes', not {self.input!r}")
        if isinstance(self.readout, DelayedWindow):
            raise SettingError(
                "DelayedWindow excludes single steps, but a window of slots is read as one sum: use "
                "readout=AccumulatedMembrane()"
            )
        if self.weight_correction not in ("bias", "none"):
            raise SettingError(f"weight_correction must be 'bias' or 'none', not {self.weight_correction!r}")
        QuantiseWeights(8, self.weight_scale, None, self.weight_granularity)  # checks the settings even if unused
        _ = self.passes, self.encoder, self.schedule  # each part checks its settings

    @property
    def code(self) -> TimeCode:
        """The time code of neurons whose source activation has none."""
        raise TypeError(f"{type(self).__name__} must define code")

    @property
    def thresholds(self) -> Pass:
        raise TypeError(f"{type(self).__name__} must define thresholds")

    @property
    def follows(self) -> bool:
        """True where the source's time code or staircase takes precedence over the recipe's."""
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
        prepared = (RemoveDropout(), FoldBatchNorm(), Rectify(), SpikesAtInput(), *average)
        return (*prepared, *neurons, *self._quantise, PoolInTime(), *retime)

    @property
    def _quantise(self) -> tuple[Pass, ...]:
        """Placed after the neurons, so that biases are corrected towards the activations of the original weights."""
        if self.weight_bits is None:
            return ()
        quantise = QuantiseWeights(self.weight_bits, self.weight_scale, None, self.weight_granularity)
        correct = self.weight_correction == "bias" and self.schedule.lag(self.timesteps) == self.timesteps
        return (quantise, CalibrateBias(CORRECTED)) if correct else (quantise,)
