"""Recipes for neurons that fire during integration, or at an exact time."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.core.encoder import Encoder
from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import Schedule, check_timesteps
from transpike.encoders import ConstantCurrent, FirstSpikes
from transpike.errors import SettingError
from transpike.passes import (
    ExactTimes,
    FixedThresholds,
    FoldBatchNorm,
    Granularity,
    MatchDelays,
    PercentileThresholds,
    PoolInTime,
    Rectify,
    RemoveDropout,
    SpikesAtInput,
    UseFirstCrossings,
    UseLatches,
)
from transpike.readouts import AccumulatedMembrane, EarliestSpike
from transpike.recipes._base import check_types, setting
from transpike.schedules import TimeSlots


@dataclass(frozen=True)
class ExactMapping(Recipe):
    """A spike at ``t = t_max − ReLU(u)``, in continuous time: the spiking network is the ReLU network.

    One spike per neuron; every neuron integrates its whole window first: ``total_steps`` counts windows. ``zeta`` is
    the margin of a window above the largest activation on the calibration data; a larger value fires early, which a run
    reports. With discrete time steps the times are rounded: see ``LinearTTFS``. ``simulate(engine="sorted")`` follows
    every potential from spike to spike; runs are in float64.
    Source: Stanojevic, Woźniak, Bellec, Cherubini, Pantazi, Gerstner 2023, Neural Networks 168:74 (arXiv 2212.12522),
    from their code.
    Differs from the paper: thresholds are scaled where it scales weights; the input is a current unless ``input`` is
    "spikes"; sums of layers are allowed, shortcuts re-timed.
    Checked: logits equal the ReLU network's in float64, no neuron fires before its window, which some do where zeta is
    too small (tests/recipes/test_exact_mapping.py).
    """

    name: ClassVar[str] = "exact-mapping"
    timesteps: int = setting(1, "Always 1: time is continuous, with one window per layer.")
    zeta: float = setting(0.5, "Margin of each window above the largest activation, relative to it.")
    input: Literal["analogue", "spikes"] = setting("analogue", "Input as a constant current, or as spike times.")
    readout: Readout = setting(AccumulatedMembrane(), "Output readout.")

    def __post_init__(self) -> None:
        check_types(self)
        if self.timesteps != 1:
            raise SettingError(
                f"time is continuous in an exact mapping: timesteps counts windows and is 1, not {self.timesteps!r}; "
                "for discrete time steps use linear-ttfs"
            )
        if self.input not in ("analogue", "spikes"):
            raise SettingError(f"input must be 'analogue' or 'spikes', not {self.input!r}")
        if not isinstance(self.readout, AccumulatedMembrane):
            raise SettingError("the exact mapping reads the output's membrane: use readout=AccumulatedMembrane()")
        _ = self.passes

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return ConstantCurrent(positive=self.input == "spikes")

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return TimeSlots()

    @property
    def passes(self) -> tuple[Pass, ...]:
        exact = ExactTimes(self.zeta, self.input == "spikes")
        return (RemoveDropout(), FoldBatchNorm(), Rectify(), exact, PoolInTime(), MatchDelays(0))


@dataclass(frozen=True)
class S4NN(Recipe):
    """A neuron fires when the weights of the spikes so far exceed its threshold, and the first class wins.

    For networks trained in this way (S4NN, or BS4NN with binary weights): the weights of a network with ReLUs instead
    of the neurons, biases as an initial charge, one ``threshold`` for all. Pixels are encoded as linear first spikes.
    Source: Kheradpisheh and Masquelier 2020 (S4NN, arXiv 1910.09495), Kheradpisheh et al. 2021 (BS4NN), from code.
    Differs from the paper: without the delay of one slot per layer, which shifts all times equally; slots are rounded
    up, not down; silent output neurons do not fire, whereas the code lets them fire in the last slot.
    Checked: spike times are those of cumulative sums that exceed the threshold, also in the event-sorted engine
    (tests/recipes/test_spike_times.py).
    """

    name: ClassVar[str] = "s4nn"
    timesteps: int = setting(256, "Time slots of the input window and of the run.")
    threshold: float = setting(100.0, "Threshold of every neuron.")
    readout: Readout = setting(EarliestSpike(), "Output readout.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        if self.readout.every_step:
            raise SettingError(
                "a window of slots is read as one sum: use readout=EarliestSpike() or AccumulatedMembrane()"
            )
        _ = self.passes, self.encoder

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return FirstSpikes(1.0, self.timesteps, kernel="linear", weighted=False)

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return TimeSlots(0)

    @property
    def training_free(self) -> bool:
        return False

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def passes(self) -> tuple[Pass, ...]:
        thresholds = FixedThresholds("layer", self.readout.spiking_output, value=self.threshold)
        first = (RemoveDropout(), FoldBatchNorm(), Rectify(), SpikesAtInput())
        return (*first, thresholds, UseFirstCrossings(), PoolInTime())


@dataclass(frozen=True)
class RueckauerLiu(Recipe):
    """Sparse temporal coding: the first spike starts a constant current, and 1/t is the activation.

    ``rule`` "first": one spike per neuron; "dynamic": thresholds wait for pending inputs; "corrective": negative
    spikes correct early ones. The largest activation fires after ``resolution`` S steps, a share a of it after S/a: the
    smallest share that T can represent is S/T.
    Source: Rueckauer and Liu 2018 (ISCAS), from snn_toolbox (ttfs, ttfs_dyn_thresh, ttfs_corrective).
    Differs from the paper: the bias is added from the first step on, also before any input spike; "dynamic" waits for
    inputs that have not fired and have a positive current (in the code: a second batch of prospective spikes); the
    output integrates.
    Checked: on a network of four layers "corrective" sends more spikes than "first" and is as accurate, "dynamic" fires
    later (tests/recipes/test_spike_times.py); a lone neuron fires after ⌈θ/x⌉ steps.
    """

    name: ClassVar[str] = "rueckauer-liu"
    timesteps: int = setting(64, "Time steps.")
    resolution: int = setting(8, "Time steps until the spike of the largest activation.")
    rule: Literal["first", "corrective", "dynamic"] = setting("first", "Treatment of spikes that come too early.")
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    percentile: float = setting(99.9, "Percentile of each layer's activations used as threshold; 100 is the maximum.")
    readout: Readout = setting(AccumulatedMembrane(), "Output readout.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        if not isinstance(self.readout, AccumulatedMembrane):
            raise SettingError(
                "latched currents are read from the output's membrane: use readout=AccumulatedMembrane()"
            )
        _ = self.passes

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return ConstantCurrent()

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return TimeSlots(0)

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def passes(self) -> tuple[Pass, ...]:
        thresholds = PercentileThresholds(self.granularity, percentile=self.percentile)
        return (
            RemoveDropout(),
            FoldBatchNorm(),
            Rectify(),
            thresholds,
            UseLatches(self.rule, self.resolution),
            PoolInTime(),
        )
