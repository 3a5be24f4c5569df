"""Bistable and synchronous neurons."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.encoder import Encoder
from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import check_timesteps
from transpike.encoders import ConstantCurrent
from transpike.errors import SettingError
from transpike.passes import (
    FoldBatchNorm,
    Granularity,
    InitialPotential,
    MatchDelays,
    PercentileThresholds,
    PoolInTime,
    QuantiseWeights,
    RemoveDropout,
    UseNeurons,
)
from transpike.readouts import AccumulatedMembrane
from transpike.recipes._base import check_types, setting
from transpike.schedules import PhaseCycles


@dataclass(frozen=True)
class BSNN(Recipe):
    """Neurons listen for a cycle and fire for a cycle, spikes weighted by their phase; shortcuts are delayed to match.

    ``n = clip(⌊v 2^K / θ⌋, 0, 2^K − 1)`` a cycle of K = ``period`` steps, what is left stays in v for the next round;
    T is the steps in which a layer listens, whole cycles. No spike can come before its cause is complete, so that
    phase lead and lag, and spikes of inactivated neurons with them, vanish.
    **Reconstructed**: the paper's body was not available and there is no public code; the abstract names the two
    neurons, the cycle and the shortcuts. Source: Li, Zeng, Zhao 2021, arXiv 2105.12917 (Front. Neurosci. 2022,
    16:991851); phase weights after Kim et al. 2018.
    Differs from the paper as far as it is known: bias and analogue input come once a cycle; v(0) is half the smallest
    step (``beta``); thresholds are percentiles per channel; maximum pooling is lateral inhibition within a cycle.
    Checked: one round is the K-bit staircase network bit for bit, which it is not without the synchronous neurons,
    and accuracy falls; no neuron fires without the charge for it, as some do in a streaming run
    (tests/recipes/test_bsnn.py, reproductions/bsnn).
    """

    name: ClassVar[str] = "bsnn"
    timesteps: int = setting(8, "Steps in which a layer listens: whole cycles.")
    period: int | None = setting(None, "Steps of a cycle; default: the steps divided by the least rounds, at most 8.")
    percentile: float = setting(99.9, "Of each layer's activations: the threshold; 100 is the maximum.")
    granularity: Granularity = setting("channel", "One threshold for each layer, channel or neuron.")
    beta: float = setting(0.5, "Initial potential as a share of the smallest step, θ 2^-period.")
    match_delays: bool = setting(True, "Synchronous neurons on shortcuts.")
    weight_bits: int | None = setting(None, "Quantise weights to so many bits.")
    encoder: Encoder = setting(ConstantCurrent(), "How the input enters.")
    readout: Readout = setting(AccumulatedMembrane(), "How the answer is read.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        self.schedule.rounds(self.timesteps)
        if self.readout.spiking_output:
            raise SettingError(
                "bistable neurons send phase-weighted spikes, which a spike count does not read; use "
                "readout=AccumulatedMembrane()"
            )
        if self.readout.every_step:
            raise SettingError(
                f"{type(self.readout).__name__} leaves out single steps, and a round is read in one sum: use "
                "readout=AccumulatedMembrane()"
            )
        kind = self.encoder.alphabet.kind
        if kind not in ("graded", "phase") or getattr(self.encoder, "period", self.cycle) != self.cycle:
            bits = f"PhaseBits(period={self.cycle})" if self.cycle <= 8 else "a period of at most 8 and PhaseBits"
            raise SettingError(
                f"input spikes without phase, or of another period, do not fit phase cycles: use the constant current, "
                f"or {bits}"
            )
        _ = self.passes

    @property
    def cycle(self) -> int:
        """K: ``period``, else the longest divisor of T up to 8."""
        if self.period is not None:
            return self.period
        longest = max(k for k in range(1, 9) if self.timesteps % k == 0)
        if longest == 1 < self.timesteps:
            raise SettingError(
                f"{self.timesteps} steps divide into cycles of one step only, which tell a neuron from nothing: use "
                "another number of steps, or period=1"
            )
        return longest

    @property
    def schedule(self) -> PhaseCycles:  # type: ignore[override]
        return PhaseCycles(self.cycle)

    @property
    def depends_on_timesteps(self) -> bool:
        return self.period is None

    @property
    def passes(self) -> tuple[Pass, ...]:
        quantise = () if self.weight_bits is None else (QuantiseWeights(self.weight_bits),)
        match = (MatchDelays(self.cycle),) if self.match_delays else ()
        return (
            RemoveDropout(),
            FoldBatchNorm(),
            *quantise,
            PercentileThresholds(self.granularity, percentile=self.percentile),
            InitialPotential(self.beta),
            UseNeurons("bistable", period=self.cycle),
            PoolInTime(period=self.cycle),
            *match,
        )
