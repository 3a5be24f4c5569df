"""Time to first spike for networks with and without conversion-aware training."""

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
    """Conversion-aware training: neurons with the time code of φ, θ = φ's ceiling, whole windows.

    Train with ``activations.TimeToFirstSpike``; the spiking network is then the source network. ``weight_bits`` 5 gives
    CAT's logarithmic weights, without retraining. ``tau``, ``base`` and ``last`` apply to
    input spikes and to clip activations without a time code; other activations keep their trained code.
    Source: Lew, Lee, Park 2022 (DAC; arXiv 2208.04494), of which only the abstract was available: the kernel's base 2,
    the slots' rounding and its limit are ``activations.TimeToFirstSpike``'s, **unverified**.
    Differs from the paper as far as it is known: batch normalisation is folded before weights are quantised; shortcuts
    are re-timed.
    Checked: the closed form equals the simulation in time spike for spike, and its levels are the source's; neither
    holds with wait_steps below the window or with the same weights without φ (tests/recipes/test_first_spike.py).
    """

    name: ClassVar[str] = "cat"
    tau: float = setting(4.0, "Slots after which the spike scale halves.")
    base: float = setting(2.0, "The spike scale falls by 1 / base every tau slots.")
    last: int | None = setting(None, "Last slot in which a neuron may fire; default: the last of the window.")

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
    """Time to first spike for a network that was trained with ReLUs: one spike per neuron, thresholds from data.

    ``thresholds_by`` "error" uses the θ of least squared error of φ, "percentile" a percentile of the activations;
    ``rounding`` "nearest" lowers the thresholds of the slots by half a slot, which divides the squared error of
    uniformly distributed values by four; "down" is the rounding that CAT trains with.
    Source: **reconstructed** after Srivatsa, Chu, Tavva, Wu, Zhang, Li, Carlson 2020 (YOSO, arXiv 2006.09982), of which
    only the abstract is known: its optimisation of thresholds is unpublished and replaced by ours.
    Differs from the paper: see Source.
    Checked: accuracy falls with "down" (tests/recipes/test_first_spike.py); the squared error of nearest levels is a
    quarter of that of levels rounded down, for values uniform on [0, θ] (tests/laws/test_time_code.py).
    """

    name: ClassVar[str] = "yoso"
    tau: float = setting(4.0, "Slots after which the spike scale halves.")
    rounding: Literal["down", "nearest"] = setting("nearest", "Rounding of levels: down, or to the nearest.")
    thresholds_by: Literal["error", "percentile"] = setting(
        "error", "Threshold rule: least squared error, or a percentile."
    )
    percentile: float = setting(99.9, "Percentile of each layer's activations used as threshold; 100 is the maximum.")

    def __post_init__(self) -> None:
        if self.thresholds_by not in ("error", "percentile"):
            raise SettingError(f"thresholds_by must be 'error' or 'percentile', not {self.thresholds_by!r}")
        PercentileThresholds(self.granularity, percentile=self.percentile)  # checks the setting even if unused
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
    """Linear time to first spike: a spike in slot k of S has the scale ``(S − k)/S``, ``k = ⌈S (1 − v/θ)⌉``.

    One spike gives the same staircase as S averaging spikes; "nearest" shifts it by half a slot. ``learned`` uses the
    trained ceilings of clips or staircases, and the rounding of the staircase: down for CQ, to the nearest for QCFS;
    at T = S it is the same staircase.
    Source: mimarsinan's TTFS neuron, from its code; Stanojevic et al. 2023 on a clock.
    Differs from the paper: comparisons are ≥, so that ties fire; the strict comparator is not available.
    Checked: counts are those of the layer-synchronous averaging neuron at the same T, thresholds and weights, with one
    spike in place of each count (tests/recipes/test_first_spike.py).
    """

    name: ClassVar[str] = "linear-ttfs"
    rounding: Literal["down", "nearest"] = setting("nearest", "Rounding of levels: down, or to the nearest.")
    learned: bool = setting(False, "Use trained thresholds and rounding.")
    percentile: float = setting(99.9, "Percentile of each layer's activations used as threshold; 100 is the maximum.")

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
