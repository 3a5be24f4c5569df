"""Base classes of rate-coded recipes: common settings and the order of passes."""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from transpike.core.constraints import setting
from transpike.core.encoder import Encoder
from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe, ThresholdScale
from transpike.core.schedule import Schedule, check_timesteps
from transpike.encoders import ConstantCurrent
from transpike.errors import SettingError
from transpike.passes import (
    CalibrateBias,
    CalibratePotential,
    EncodeWires,
    FoldBatchNorm,
    FoldFactors,
    Granularity,
    InitialPotential,
    JoinMasks,
    LearnedInitialPotential,
    LearnedThresholds,
    MaskProducts,
    MergeWeights,
    PercentileThresholds,
    PoolBeforeActivation,
    PoolInTime,
    QuantiseWeights,
    RecogniseNorms,
    Rectify,
    RemoveDropout,
    ReplaceNeurons,
    ShareThresholds,
    SpikingAverage,
    TrainThresholds,
    UseNeurons,
    UseSignedEncoders,
)
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.readouts import AccumulatedMembrane
from transpike.schedules import Streaming


def check_types(recipe: Recipe) -> None:
    """Raises SettingError for a setting whose type differs from its annotation."""
    names = {f.name for f in dataclasses.fields(recipe)}  # type: ignore[arg-type]
    words = {int: "an integer", float: "a number", bool: "True or False"}
    for name, hint in typing.get_type_hints(type(recipe)).items():
        kinds = typing.get_args(hint) or (hint,)
        if name not in names or not all(isinstance(k, type) for k in kinds):
            continue
        value = getattr(recipe, name)
        kinds = (*kinds, int) if float in kinds else kinds
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            kind = kinds[0]
            text = words.get(kind) or f"one of transpike.{kind.__name__.lower()}s"
            raise SettingError(f"{name} must be {text}{' or None' if type(None) in kinds else ''}, not {value!r}")


@dataclass(frozen=True)
class RateCoded(Recipe):
    """Folds batch normalisation, replaces activations by neurons with thresholds, and pooling by cells.

    A method defines its ``thresholds``, ``shifts`` (initial potentials or bias shifts), ``neurons`` and
    ``corrections`` (on simulated spikes); their order is fixed.
    """

    threshold_scale: ClassVar[ThresholdScale] = "balanced"

    timesteps: int = setting(64, "Time steps.")
    granularity: Granularity = setting("channel", "One threshold per layer, channel or neuron.")
    weight_bits: int | None = setting(None, "Bits of quantised weights; default: no quantisation.")
    pooling: PoolingRule = setting("lateral-inhibition", "Rule for maximum pooling in time.")
    average_pooling: Literal["linear", "spiking"] = setting(
        "linear", "Average pooling as a linear layer, or followed by separate neurons."
    )
    residual: Literal["currents", "shared"] = setting(
        "currents", "Sums of spikes: scaled by their own thresholds, or by a shared largest threshold."
    )
    encoder: Encoder = setting(ConstantCurrent(), "Input encoder.")
    schedule: Schedule = setting(Streaming(), "Schedule: streaming, or window by window.")
    readout: Readout = setting(AccumulatedMembrane(), "Output readout.")

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        check_types(self)
        _ = self.passes  # each pass checks its settings
        if self.average_pooling not in ("linear", "spiking"):
            raise SettingError(f"average_pooling must be 'linear' or 'spiking', not {self.average_pooling!r}")
        if self.residual not in ("currents", "shared"):
            raise SettingError(f"residual must be 'currents' or 'shared', not {self.residual!r}")
        kind = self.neurons
        if self.corrections and self.schedule.mode == "windows" and self.schedule.lag(self.timesteps) < self.timesteps:
            raise SettingError(
                f"{self.name} corrects layers on simulated spikes, which supports streaming and whole windows: use "
                "wait_steps=None, or schedule=Streaming()"
            )
        if self.schedule.mode == "cycles" or self.encoder.alphabet.kind == "phase":
            wanting = self.schedule if self.schedule.mode == "cycles" else self.encoder
            raise SettingError(
                f"{type(wanting).__name__} needs neurons that fire in phase cycles; use the recipe bsnn "
                f"(transpike.recipes.BSNN), not {self.name}"
            )
        if self.schedule.gain != kind.gain or (self.pooling == "differences") != bool(kind.gain):
            raise SettingError(
                "differential coding needs matching neurons, schedule and pooling: use the recipe dcgs "
                "(transpike.recipes.DCGS) or sigma-delta (transpike.recipes.StreamingSigmaDelta) unchanged"
            )
        if self.schedule.mode == "differences":
            if not self.encoder.is_constant:
                raise SettingError(
                    f"differential coding needs a constant input, but {type(self.encoder).__name__} changes it "
                    "at every step: use encoder=ConstantCurrent()"
                )
        elif self.schedule.mode != "steps":
            if kind.forgets:
                raise SettingError(
                    "a hard reset or a leak loses the charge of a window: use reset='soft' and leak=1, or "
                    "schedule=Streaming()"
                )
            if self.readout.every_step:
                raise SettingError(
                    f"{type(self.readout).__name__} excludes single steps, but a window is read as one sum: use "
                    "readout=AccumulatedMembrane(), or schedule=Streaming()"
                )
        pascal = isinstance(kind, UseNeurons) and kind.kind == "signed" and kind.rule == "pascal"
        if pascal and self.schedule.lag(self.timesteps) < self.timesteps:
            raise SettingError(
                "PASCAL's rule can give negative counts, where a ReLU is zero, unless a whole window was received: use "
                "schedule=LayerSynchronous() with wait_steps=None"
            )

    @property
    def thresholds(self) -> Pass:
        raise TypeError(f"{type(self).__name__} must define thresholds")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return ()

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons()

    @property
    def recognitions(self) -> tuple[Pass, ...]:
        """Passes that find functions in the network as it was written, before layers are folded into each other."""
        return (JoinMasks(), MaskProducts(), FoldFactors(), RecogniseNorms())

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        """Passes that turn activations into those that the neurons represent."""
        return (Rectify(),)

    @property
    def checks(self) -> tuple[Pass, ...]:
        """Passes that refuse networks which the method does not support."""
        return ()

    @property
    def wire_neurons(self) -> tuple[Pass, ...]:
        """Passes that place neurons on wires that are only encoded."""
        return ()

    @property
    def pools(self) -> PoolInTime:
        return PoolInTime(self.pooling, gain=self.schedule.gain or "reciprocal")

    @property
    def corrections(self) -> tuple[Pass, ...]:
        return ()

    @property
    def passes(self) -> tuple[Pass, ...]:
        before = (PoolBeforeActivation(),) if self.pooling == "before-neuron" else ()
        average = (SpikingAverage(),) if self.average_pooling == "spiking" else ()
        quantise = () if self.weight_bits is None else (QuantiseWeights(self.weight_bits),)
        share = (ShareThresholds(),) if self.residual == "shared" else ()
        made = (self.thresholds, *share, *self.shifts, *self.wire_neurons, self.neurons, self.pools)
        first = (RemoveDropout(), *self.recognitions, FoldBatchNorm(), *self.rewrites, *self.checks)
        return (*first, *before, *average, *quantise, *made, *self.corrections)


Calibrate = Literal["both", "bias", "potential", "none"]


def calibrations(calibrate: str, samples: int) -> tuple[Pass, ...]:
    """The passes that correct a network layer by layer on the spikes that it sends for ``samples`` inputs."""
    if calibrate not in get_args(Calibrate):
        raise SettingError(f"calibrate must be 'both', 'bias', 'potential' or 'none', not {calibrate!r}")
    bias, potential = (CalibrateBias(samples),), (CalibratePotential(samples),)
    return {"both": (*bias, *potential), "bias": bias, "potential": potential, "none": ()}[calibrate]


LinearWires = Literal["pairs", "signed", "merge", "none"]


def linear_wires(default: LinearWires, absent: LinearWires = "none") -> Any:
    """The setting of ``LinearWired``; ``absent`` is what files that are older than it hold."""
    text = (
        "Real numbers between two layers of weights, as in linear bottlenecks: sent as spikes by pairs of neurons or "
        "by signed ones, avoided by merging the two layers, or multiplied (none)."
    )
    return setting(default, text, absent=absent)


@dataclass(frozen=True)
class LinearWired(RateCoded):
    """Rate-coded, with a choice for the real numbers that one layer of weights sends to the next one.

    "pairs": two neurons for either sign send them as spikes, ``z = relu(z) − relu(−z)``: one more stage of neurons, and
    few additions. "signed": one neuron sends them as spikes of either sign, and takes back what it sent too early; half
    the neurons of pairs. "merge": both layers become one, and no stage is added. "none": the second layer multiplies
    real numbers; a spike then takes every path through both layers, and both share the 24 bits of the exact grid.
    Source: benchmarks/networks224.py compares them (docs/imagenet.md).
    """

    linear_wires: LinearWires = linear_wires("none")

    def __post_init__(self) -> None:
        if self.linear_wires not in get_args(LinearWires):
            raise SettingError(
                f"linear_wires must be one of {', '.join(map(repr, get_args(LinearWires)))}, not {self.linear_wires!r}"
            )
        super().__post_init__()

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        own: dict[str, tuple[Pass, ...]] = {
            "pairs": (EncodeWires(pairs=True),), "signed": (EncodeWires(),), "merge": (MergeWeights(),), "none": ()
        }  # fmt: skip
        return (*own[self.linear_wires], *super().rewrites)

    @property
    def wire_neurons(self) -> tuple[Pass, ...]:
        return (UseSignedEncoders(),) if self.linear_wires == "signed" else ()


@dataclass(frozen=True)
class PercentileThresholded(RateCoded):
    """Thresholds are a percentile of the activations."""

    percentile: float = setting(99.9, "Percentile of each layer's activations used as threshold; 100 is the maximum.")

    @property
    def thresholds(self) -> Pass:
        return PercentileThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)


@dataclass(frozen=True)
class PercentileCoded(LinearWired, PercentileThresholded):
    """Integrate-and-fire neurons with percentile thresholds.

    ``beta`` is the initial potential as a share of the threshold; None is ½ for a soft reset and 0 for a hard one.
    """

    beta: float | None = setting(None, "Initial potential as a share of the threshold (1/2; 0 for a hard reset).")
    reset: Literal["soft", "hard"] = setting("soft", "Subtract the threshold, or set the potential to 0.")
    leak: float = setting(1.0, "Share of the potential kept in each time step; 1: no leak.")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        beta = self.beta if self.beta is not None else (0.0 if self.reset == "hard" else 0.5)
        if self.reset == "hard" and beta > 0:
            raise SettingError("a hard reset discards the initial potential that beta calibrates; set beta=0")
        return (InitialPotential(beta),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons(reset=self.reset, leak=self.leak)


@dataclass(frozen=True)
class LearnedCoded(LinearWired):
    """Thresholds are the trained ceilings of the source activations.

    ``beta`` is the initial potential as a share of the threshold; None is the trained shift of a staircase, and ½ for
    a clip. ``calibrate`` corrects layer by layer on the spikes simulated in T steps: the thresholds of channels (CQ+),
    or biases and then initial potentials (SNN calibration).
    """

    granularity: Granularity = setting("layer", "One threshold per layer or channel, as trained.")
    beta: float | None = setting(None, "Initial potential as a share of the threshold.")
    calibrate: Literal["none", "thresholds", "potential", "both"] = setting(
        "none", "Correction on simulated spikes: thresholds; initial potentials; biases and potentials (both)."
    )
    samples: int = setting(128, "Number of simulated calibration inputs.")

    def __post_init__(self) -> None:
        if self.calibrate not in ("none", "thresholds", "potential", "both"):
            raise SettingError(f"calibrate must be 'none', 'thresholds', 'potential' or 'both', not {self.calibrate!r}")
        super().__post_init__()

    @property
    def training_free(self) -> bool:
        return False

    @property
    def depends_on_timesteps(self) -> bool:
        return self.calibrate != "none"

    @property
    def corrections(self) -> tuple[Pass, ...]:
        if self.calibrate == "thresholds":
            return (TrainThresholds(samples=self.samples),)
        return calibrations(self.calibrate, self.samples)

    @property
    def thresholds(self) -> Pass:
        return LearnedThresholds(self.granularity)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (LearnedInitialPotential() if self.beta is None else InitialPotential(self.beta),)


@dataclass(frozen=True)
class GaussianCoded(RateCoded):
    """Thresholds of least squared error for Gaussian currents, without training."""

    threshold_scale: ClassVar[ThresholdScale] = "unit"

    timesteps: int = setting(4, "Time steps.")
    granularity: Granularity = setting("channel", "One threshold per layer or channel.")
    iterations: int = setting(100, "Maximum iterations of the threshold search.")
