"""Time to first spike from networks that were trained with it, and from networks that were not."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.codes.time_code import TimeCode
from transpike.core.pass_ import Pass
from transpike.errors import SettingError
from transpike.passes import FirstSpikeThresholds, LearnedThresholds, PercentileThresholds
from transpike.recipes._base import setting
from transpike.recipes._first_spike import TimeCoded


@dataclass(frozen=True)
class CAT(TimeCoded):
    """Conversion-aware training: neurons with φ's own slots, θ = φ's ceiling, whole windows.

    Train with ``activations.TimeToFirstSpike``; the spiking network is then the source network. ``weight_bits`` 5 gives
    CAT's logarithmic weights, without retraining. ``tau``, ``base`` and ``last`` serve an input of spikes,
    and activations that are clips without slots of their own; others keep what they were trained with.
    Source: Lew, Lee, Park 2022 (DAC; arXiv 2208.04494), of which only the abstract was available: the kernel's base 2,
    the slots' rounding and its limit are ``activations.TimeToFirstSpike``'s, **unverified**.
    Differs from the paper as far as it is known: batch normalisation is folded before weights are quantised; shortcuts
    are re-timed.
    Checked: the closed form is the network in time spike for spike, and its levels are the source's; not with hold
    below the window, and not at the source's weights without φ (tests/recipes/test_first_spike.py).
    """

    name: ClassVar[str] = "cat"
    tau: float = setting(4.0, "Slots after which a spike is worth half.")
    base: float = setting(2.0, "A spike is worth 1 / base after tau slots.")
    last: int | None = setting(None, "The last slot that may hold a spike; default: that of the window.")

    @property
    def code(self) -> TimeCode:
        return TimeCode(self.timesteps, self.tau, self.base, last=self.last, bits=self.kernel_bits)

    @property
    def thresholds(self) -> Pass:
        return LearnedThresholds(self.granularity)

    @property
    def follows(self) -> bool:
        return True

    @property
    def training_free(self) -> bool:
        return False


@dataclass(frozen=True)
class YOSO(TimeCoded):
    """Time to first spike for a network that was trained with ReLUs: one spike a neuron, thresholds from data.

    ``thresholds_by`` "error" takes the θ with the least squared error of φ, "percentile" a percentile of the
    activations; ``rounding`` "nearest" lowers the thresholds of the slots by half a slot, which cuts the squared error
    of values spread evenly fourfold; "down" is what CAT trains with.
    Source: **reconstructed** after Srivatsa, Chu, Tavva, Wu, Zhang, Li, Carlson 2020 (YOSO, arXiv 2006.09982), of which
    only the abstract is known: its optimisation of thresholds is unpublished, and ours stands in its place.
    Differs from the paper: see there.
    Checked: accuracy falls with "down" (tests/recipes/test_first_spike.py); the squared error of nearest levels is a
    quarter of that of levels rounded down, for values spread evenly over [0, θ] (tests/laws/test_time_code.py).
    """

    name: ClassVar[str] = "yoso"
    tau: float = setting(4.0, "Slots after which a spike is worth half.")
    rounding: Literal["down", "nearest"] = setting("nearest", "To a level below, or to the nearest one.")
    thresholds_by: Literal["error", "percentile"] = setting("error", "Least squared error, or a percentile.")
    percentile: float = setting(99.9, "Of each layer's activations: the threshold; 100 is the maximum.")

    def __post_init__(self) -> None:
        if self.thresholds_by not in ("error", "percentile"):
            raise SettingError(f"thresholds_by must be 'error' or 'percentile', not {self.thresholds_by!r}")
        PercentileThresholds(self.granularity, percentile=self.percentile)  # which checks it, used or not
        super().__post_init__()

    @property
    def code(self) -> TimeCode:
        return TimeCode(self.timesteps, self.tau, rounding=self.rounding, bits=self.kernel_bits)

    @property
    def thresholds(self) -> Pass:
        if self.thresholds_by == "error":
            return FirstSpikeThresholds(self.granularity, self.readout.spiking_output, code=self.code)
        return PercentileThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)


@dataclass(frozen=True)
class LinearTTFS(TimeCoded):
    """Linear time to first spike: a spike in slot k of S is worth ``(S − k)/S``, ``k = ⌈S (1 − v/θ)⌉``.

    The same staircase as S averaging spikes, in one spike; "nearest" shifts it by half a slot. ``learned`` takes the
    ceilings that clips or staircases were trained with, and rounds as the stairs do: down for CQ, to the nearest for
    QCFS, at T = S the same staircase.
    Source: mimarsinan's TTFS neuron, from its code; Stanojevic et al. 2023 on a clock.
    Differs from the paper: comparisons are ≥, ties safe; the strict comparator is not offered.
    Checked: counts are those of the layer-synchronous averaging neuron at the same T, thresholds and weights, with one
    spike in place of each count (tests/recipes/test_first_spike.py).
    """

    name: ClassVar[str] = "linear-ttfs"
    rounding: Literal["down", "nearest"] = setting("nearest", "To a level below, or to the nearest one.")
    learned: bool = setting(False, "Thresholds and rounding that the network was trained with.")
    percentile: float = setting(99.9, "Of each layer's activations: the threshold; 100 is the maximum.")

    @property
    def code(self) -> TimeCode:
        return TimeCode(self.timesteps, rounding=self.rounding, kernel="linear")

    @property
    def thresholds(self) -> Pass:
        if self.learned:
            return LearnedThresholds(self.granularity)
        return PercentileThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def follows(self) -> bool:
        return self.learned

    @property
    def training_free(self) -> bool:
        return not self.learned
