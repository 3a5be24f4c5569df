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
    Rectify,
    RemoveDropout,
    UseNeurons,
)
from transpike.readouts import AccumulatedMembrane
from transpike.recipes._base import check_types, setting
from transpike.schedules import PhaseCycles


@dataclass(frozen=True)
class BSNN(Recipe):
    """Neurons integrate for one cycle and fire for one cycle, with phase-weighted spikes; shortcuts are delayed.

    ``n = clip(⌊v 2^K / θ⌋, 0, 2^K − 1)`` per cycle of K = ``period`` steps; the residual remains in v for the next
    round. T is the number of steps in which a layer integrates, in whole cycles. A neuron fires only after its complete
    input, which removes phase lead and phase lag. A neuron whose activation is zero in the source network still fires
    where the rounded activations that it receives add up to a positive charge (reproductions/bsnn).
    **Reconstructed**: the paper's body was not available and there is no public code; the abstract names the two
    neurons, the cycle and the shortcuts. Source: Li, Zeng, Zhao 2021, arXiv 2105.12917 (Front. Neurosci. 2022,
    16:991851); phase weights after Kim et al. 2018.
    Differs from the paper as far as it is known: bias and analogue input are added once per cycle; v(0) is half the
    smallest step (``beta``); thresholds are percentiles per channel; maximum pooling is lateral inhibition within a
    cycle. Checked: one round equals the K-bit staircase network bit for bit; without the synchronous neurons it does
    not, and accuracy falls; no neuron fires without sufficient charge, as some do in a streaming run
    (tests/recipes/test_bsnn.py, reproductions/bsnn).
    """

    name: ClassVar[str] = "bsnn"
    timesteps: int = setting(8, "Time steps in which a layer integrates: whole cycles.")
    period: int | None = setting(None, "Steps per cycle; default: the largest divisor of timesteps up to 8.")
    percentile: float = setting(99.9, "Percentile of each layer's activations used as threshold; 100 is the maximum.")
    granularity: Granularity = setting("channel", "One threshold per layer, channel or neuron.")
    beta: float = setting(0.5, "Initial potential as a share of the smallest step, θ 2^-period.")
    match_delays: bool = setting(True, "Synchronous neurons on shortcuts.")
    weight_bits: int | None = setting(None, "Bits of quantised weights; default: no quantisation.")
    encoder: Encoder = setting(ConstantCurrent(), "Input encoder.")
    readout: Readout = setting(AccumulatedMembrane(), "Output readout.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        self.schedule.rounds(self.timesteps)
        if self.readout.spiking_output:
            raise SettingError(
                "bistable neurons send phase-weighted spikes, which a spike count cannot read; use "
                "readout=AccumulatedMembrane()"
            )
        if self.readout.every_step:
            raise SettingError(
                f"{type(self.readout).__name__} excludes single steps, but a round is read as one sum: use "
                "readout=AccumulatedMembrane()"
            )
        kind = self.encoder.alphabet.kind
        if kind not in ("graded", "phase") or getattr(self.encoder, "period", self.cycle) != self.cycle:
            bits = f"PhaseBits(period={self.cycle})" if self.cycle <= 8 else "a period of at most 8 and PhaseBits"
            raise SettingError(
                f"phase cycles need an analogue input or phase spikes of the same period: use ConstantCurrent(), "
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
                f"{self.timesteps} time steps have no cycle length from 2 to 8 that divides them: use another "
                "number of time steps, or period=1"
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
            Rectify(),
            *quantise,
            PercentileThresholds(self.granularity, percentile=self.percentile),
            InitialPotential(self.beta),
            UseNeurons("bistable", period=self.cycle),
            PoolInTime(period=self.cycle),
            *match,
        )
