"""Settings and combinations that make no sense are refused with the reason, each of them and as early as it can be."""

import ast
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import Residual, mlp, small_cnn
from transpike import neurons, passes
from transpike.activations import QuantisedClip, ReLU, SlipReLU, TimeToFirstSpike, Unchanged
from transpike.core.cell import Neuron
from transpike.core.pass_ import Context, Pass
from transpike.core.schedule import Schedule, depth
from transpike.encoders import EventFrames, FirstSpikes, PhaseBits, Poisson, SignedEventFrames
from transpike.errors import DataError, SettingError, TranspikeError, UnsupportedModel
from transpike.neurons import (
    Bistable,
    Burst,
    DifferentialMultiThreshold,
    ExactReLU,
    FirstSpike,
    IntegrateAndFire,
    Latched,
    MultiThreshold,
    OffsetCorrected,
    SignedIntegrateAndFire,
    SpikeProduct,
    Synchronous,
)
from transpike.ops import Product
from transpike.readouts import DelayedWindow, SpikeCount
from transpike.recipes import (
    BSNN,
    CAT,
    COS,
    CQ,
    DCGS,
    ECC,
    HMT,
    LTB,
    OPI,
    PASCAL,
    RMP,
    S4NN,
    SNM,
    SRP,
    T2FSNN,
    TSC,
    YOSO,
    AdaFire,
    BurstLIP,
    Cao,
    DattaBeerel,
    DengGu,
    DiehlModel,
    ExactMapping,
    FewSteps,
    GroupNeuron,
    LinearTTFS,
    Rueckauer,
    RueckauerLiu,
    SNNCalibration,
    SpikeNorm,
    SpikeZIP,
    ThresholdBalancing,
    WeightNormalisation,
)
from transpike.recipes._base import RateCoded
from transpike.schedules import LayerSynchronous, PhaseCycles, TimeSlots

SOURCE = Path(ts.__file__).parent
PLACES = [
    *(path for folder in ("recipes", "passes", "neurons", "schedules", "readouts", "encoders")
      for path in sorted((SOURCE / folder).rglob("*.py"))),
    *(SOURCE / f"{name}.py" for name in ("core/schedule", "lowering/layerwise", "core/encoder", "codes/time_code")),
]  # fmt: skip
WINDOWS, HELD = LayerSynchronous(), LayerSynchronous(4)
ONE, ZERO = torch.ones(()), torch.zeros(())
NAN, PLAIN = float("nan"), passes.UseNeurons()


@dataclass(frozen=True)
class Mixed(RateCoded):
    """A method of anybody's: thresholds at the maximum, then the steps it is given."""

    name = "mixed"
    shift: tuple[Pass, ...] = ()
    correction: tuple[Pass, ...] = ()
    neuron: passes.UseNeurons = PLAIN

    @property
    def thresholds(self) -> Pass:
        return passes.PercentileThresholds("layer", percentile=100.0)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return self.shift

    @property
    def neurons(self) -> passes.UseNeurons:
        return self.neuron

    @property
    def corrections(self) -> tuple[Pass, ...]:
        return self.correction


def converted(recipe: ts.core.recipe.Recipe, model: nn.Module | ts.Graph | None = None, x: Tensor | None = None):
    case = mlp()
    return ts.convert(case.graph if model is None else model, recipe, case.calibration if x is None else x)


def mixed(*shift: Pass, correction: tuple[Pass, ...] = (), neuron: passes.UseNeurons = PLAIN):
    return converted(Mixed(8, shift=shift, correction=correction, neuron=neuron))


def applied(step: Pass, schedule: Schedule, snn: ts.SNN | None = None):
    """A step on a network whose neurons it corrects, under a schedule."""
    snn = snn or converted(ECC(8))
    context = Context(
        snn.source, (mlp().calibration,), 8, encoder=snn.encoder, schedule=schedule, analogue=[snn.source]
    )
    return step.apply(snn.graph, context)


def charged(**settings: object) -> Tensor:
    return IntegrateAndFire(ReLU(), ONE, ZERO, **settings).counts(torch.ones(1, 1), timesteps=4)  # type: ignore[arg-type]


def pooled(kernel: nn.Module, recipe: ts.core.recipe.Recipe) -> ts.SNN:
    class Fork(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.relu()
            return torch.cat([kernel(x).flatten(1), x.flatten(1)], 1)

    return converted(recipe, Fork(), torch.rand(16, 2, 5, 5))


def silent(weight: float = -1.0) -> nn.Module:
    """Its second layer never hears a positive current; with ``weight`` one it hears what the first one sends."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    for layer, value in ((model[0], 1.0), (model[2], weight)):
        nn.init.constant_(layer.weight, value)
        nn.init.zeros_(layer.bias)
    return model


def dynamic() -> ts.SNN:
    """Spikes and the input in one sum, before neurons that must know what is on its way."""
    model = Residual(nn.Sequential(nn.Linear(5, 5), nn.ReLU()), nn.Identity())
    return converted(RueckauerLiu(rule="dynamic"), model)


def pooled_dynamic() -> ts.SNN:
    case = small_cnn()
    return converted(RueckauerLiu(rule="dynamic"), case.graph, case.calibration)


def kept(recipe: ts.core.recipe.Recipe) -> ts.SNN:
    model = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 2))
    return ts.convert(model, recipe, torch.rand(16, 5), on_unsupported="keep", allow_no_neurons=True)


FRAMES = torch.ones(12, 4, 1, 3, 3)
SLOTS = nn.Sequential(nn.Linear(5, 4), TimeToFirstSpike(12), nn.Linear(4, 2))
CLIPPED = nn.Sequential(nn.Linear(5, 4), nn.Hardtanh(0, 1), nn.Linear(4, 2))
QUANTISED = nn.Sequential(nn.Linear(5, 4), QuantisedClip(4, 1.0), nn.Linear(4, 2))
SLIPPED = nn.Sequential(nn.Linear(5, 4), SlipReLU(8), nn.Linear(4, 2))
BRIGHT = nn.Sequential(TimeToFirstSpike(threshold=2.0), nn.Linear(5, 2))


@dataclass(frozen=True)
class Doubled(SignedEventFrames):
    """Frames of somebody else, who says nothing of their spikes."""

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        return 2 * super().encode(x, sample_ids, t)


# what is done, what refuses it, what it says: the reason and the remedy
@dataclass(frozen=True, eq=False)
class Unscaled(Neuron):
    """Its spikes always have the scale of its threshold."""

    threshold: Tensor
    initial: Tensor

    @property
    def unit(self) -> None:
        return None


@dataclass(frozen=True, eq=False)
class Resting(Unscaled):
    """It needs a setting without a default."""

    rest: int


REFUSED: dict[str, tuple[Callable[[], object], type[TranspikeError], str]] = {
    # θ/2 twice
    "θ/2 and θ/2T": (lambda: mixed(passes.InitialPotential(0.5), passes.BiasShift()), SettingError, "a second time; set beta=0"),
    # sigma-delta neurons and their gains
    "a gain of a schedule": (lambda: ts.schedules.Differences(gain="half"), SettingError, "'reciprocal' or 'unit'"),
    "a gain of an operator": (
        lambda: neurons.DifferentialOperator(ts.ops.Identity(), gain="half"), SettingError, "'reciprocal' or 'unit'"),
    "a rule of digits": (
        lambda: neurons.SigmaDelta(ts.activations.ReLU(), ONE, ZERO, rule="some"), SettingError, "rule must be one of one, all"),
    # recipes that are no objects and no names
    "a class instead of a recipe": (lambda: ts.recipes.recipe_given(ECC), SettingError, r"write ECC\(\)"),
    "no recipe": (lambda: ts.recipes.recipe_given(3), SettingError, "or the name of one, like 'ecc', not int"),
    # hard reset and leak
    "hard reset, v(0)": (lambda: ECC(reset="hard", beta=0.5), SettingError, "discards the initial potential .* set beta=0"),
    "hard reset, v(0), Diehl": (lambda: WeightNormalisation(beta=0.1), SettingError, "set beta=0"),
    "hard reset, v(0), in steps": (lambda: mixed(passes.InitialPotential(0.5), neuron=passes.UseNeurons(reset="hard")), SettingError, "set beta=0"),
    "hard reset, calibrated potential": (lambda: mixed(correction=(passes.CalibratePotential(8),), neuron=passes.UseNeurons(reset="hard")), SettingError, "loses its potential .*use a soft reset without leak"),
    "leak, calibrated potential": (lambda: mixed(correction=(passes.CalibratePotential(8),), neuron=passes.UseNeurons(leak=0.9)), SettingError, "use a soft reset without leak"),
    "hard reset, windows": (lambda: ECC(reset="hard", schedule=WINDOWS), SettingError, "use reset='soft' and leak=1, or schedule=Streaming"),
    "hard reset, held windows": (lambda: ThresholdBalancing(schedule=HELD), SettingError, "use reset='soft'"),
    "leak, windows": (lambda: Rueckauer(leak=0.5, schedule=WINDOWS), SettingError, "leak loses .*use reset='soft' and leak=1"),
    "hard reset, a window's charge": (lambda: charged(reset="hard"), SettingError, "use reset='soft' or the streaming schedule"),
    "leak, a window's charge": (lambda: charged(leak=0.5), SettingError, "use leak=1 or the streaming schedule"),
    "reset": (lambda: ECC(reset="medium"), SettingError, "'soft' or 'hard', not 'medium'"),  # type: ignore[arg-type]
    "reset of a neuron": (lambda: IntegrateAndFire(ReLU(), ONE, ZERO, "medium"), SettingError, "'soft' or 'hard', not 'medium'"),  # type: ignore[arg-type]
    "leak of nothing": (lambda: ECC(leak=0.0), SettingError, r"leak must be in \(0, 1\], not 0.0"),
    "leak that grows": (lambda: ECC(leak=1.5), SettingError, r"leak must be in \(0, 1\]"),
    # signed, burst and bistable neurons
    "pascal, streaming": (lambda: SNM(rule="pascal"), SettingError, "use schedule=LayerSynchronous"),
    "pascal, held": (lambda: SNM(rule="pascal", schedule=HELD), SettingError, "use schedule=LayerSynchronous.*wait_steps=None"),
    "rule": (lambda: SNM(rule="none"), SettingError, "one of snm, fast-snn, pascal, dual, not 'none'"),  # type: ignore[arg-type]
    "rule of a neuron": (lambda: SignedIntegrateAndFire(ReLU(), ONE, ZERO, "none"), SettingError, "one of snm, fast-snn"),  # type: ignore[arg-type]
    "a negative threshold above zero": (lambda: SNM(rule="dual", depth=-0.1), SettingError, "depth must be a number of at least 0, not -0.1"),
    # what codes differences, starts anew, has several thresholds
    "differences by halves": (lambda: DCGS(schedule=ts.schedules.Streaming()), SettingError, "needs matching neurons, schedule and pooling: use the recipe dcgs"),
    "differences of rates": (lambda: ECC(pooling="differences"), SettingError, "use the recipe dcgs"),
    "differences of changing input": (lambda: DCGS(encoder=Poisson()), SettingError, r"use encoder=ConstantCurrent\(\)"),
    "settling in a part": (lambda: LayerSynchronous(4, settle=True), SettingError, "needs a whole window"),
    "settling by halves": (lambda: LayerSynchronous(settle=1), SettingError, "settle must be True or False"),  # type: ignore[arg-type]
    "calibration in differences": (lambda: applied(passes.CalibrateBias(8), ts.schedules.Differences()), SettingError, "do not support differences"),
    "threshold_count": (lambda: HMT(threshold_count=17), SettingError, "threshold_count must be an integer from 1 to 16, not 17"),
    "threshold_count of a neuron": (lambda: MultiThreshold(ReLU(), ONE, ZERO, 0), SettingError, "threshold_count must be an integer"),
    "rule of a ladder": (lambda: MultiThreshold(ReLU(), ONE, ZERO, 2, "two"), SettingError, "one of any, one, not 'two'"),  # type: ignore[arg-type]
    "kind of a ladder": (lambda: passes.UseMultiThresholds(4, "two"), SettingError, "one of any, one, differences"),  # type: ignore[arg-type]
    "windows of one threshold": (lambda: MultiThreshold(ReLU(), ONE, ZERO, 2, "one").counts(torch.ones(1, 1), timesteps=4), SettingError, "use the streaming schedule"),
    "no members": (lambda: GroupNeuron(members=0), SettingError, "members must be an integer from 1 to 255, not 0"),
    "levels of Gaussian stairs": (lambda: DCGS(levels=0), SettingError, "levels must be an integer from 1 to 65535, not 0"),
    "a Gaussian of one neuron": (lambda: HMT(granularity="neuron"), SettingError, "use granularity='channel'"),
    "pre_simulation_steps": (lambda: SRP(pre_simulation_steps=0), SettingError, "pre-simulation must be an integer number of steps, at least 1, not 0"),
    "nothing but pre-simulation": (lambda: SRP(4), SettingError, "includes the 4 steps of the pre-simulation; no step remains"),
    "pre-simulation in windows": (lambda: SRP(schedule=WINDOWS, readout=ts.readouts.AccumulatedMembrane()), SettingError, "restart during a run: use schedule=Streaming"),
    "rounds of corrections": (lambda: COS(rounds=0), SettingError, "rounds must be an integer of at least 1, not 0"),
    "another hold than the pre-simulation": (lambda: COS(8, schedule=LayerSynchronous(2)), SettingError, r"use schedule=LayerSynchronous\(wait_steps=4\)"),
    "a corrected neuron's whole window": (lambda: OffsetCorrected(ReLU(), ONE, ZERO).counts(torch.ones(1, 1), timesteps=4), SettingError, "use wait_steps equal to its pre-simulation"),
    "margin": (lambda: COS(margin=1.0), SettingError, r"margin must be in \[0, 1\), not 1.0"),
    "a switch that streams": (lambda: TSC(schedule=ts.schedules.Streaming()), SettingError, r"use schedule=LayerSynchronous\(\)"),
    "bursts without end": (lambda: AdaFire(gamma=0), SettingError, "gamma must be an integer from 1 to 255, not 0"),
    "bursts of channels": (lambda: AdaFire(granularity="channel"), SettingError, "granularity must be 'layer', not 'channel'"),
    "no budget": (lambda: AdaFire(budget=0), SettingError, "budget must be positive, not 0"),
    "bursts that share thresholds": (lambda: AdaFire(residual="shared"), SettingError, "residual must be 'currents'"),
    "no layer to search": (lambda: converted(AdaFire(4), nn.Sequential(nn.Linear(5, 3))), SettingError, "there is nothing to search"),
    "corrections twice": (lambda: COS(calibrate="both"), SettingError, "calibrate must be 'none', not 'both'"),
    "a run shorter than its pre-simulation": (lambda: OffsetCorrected(ReLU(), ONE, ZERO).check_steps(3), SettingError, "needs a run of at least that length, not 3"),
    "what changes for each input, layer by layer": (lambda: ts.explain(converted(SRP(), QUANTISED), (mlp().x, torch.zeros(len(mlp().x)).long())), SettingError, "change for each input, like .* convert with another recipe"),
    "no samples to search on": (lambda: AdaFire(samples=0), SettingError, "samples must be an integer of at least 1, not 0"),
    "compression to nothing": (lambda: AdaFire(compress=0.0), SettingError, r"compress must be in \(0, 1\], not 0.0"),
    "too few spikes for all layers": (lambda: converted(AdaFire(8, budget=1e-6)), SettingError, "raise the budget or timesteps"),
    "sensitivity of one output": (lambda: converted(AdaFire(8), nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)), torch.rand(16, 5)), DataError, "this network has one output"),
    "α of channels": (lambda: DattaBeerel(granularity="channel"), SettingError, "granularity must be 'layer', not 'channel'"),
    "no samples for α": (lambda: DattaBeerel(samples=0), SettingError, "samples must be an integer of at least 1, not 0"),
    "a bound of a sigmoid": (lambda: kept(DiehlModel()), UnsupportedModel, "no bound from its weights; use thresholds from activations"),
    "biases": (lambda: converted(Cao()), UnsupportedModel, "does not support biases, but these layers have one: .*use weight-normalisation"),
    "levels of no stairs": (lambda: converted(PASCAL(), CLIPPED), UnsupportedModel, "not a quantised clip .*use the recipe qcfs"),
    "levels of other steps": (lambda: converted(PASCAL(8), QUANTISED), SettingError, "4 levels and the recipe has 8 time steps, .*use timesteps=4"),
    "no bursts": (lambda: BurstLIP(gamma=0), SettingError, "gamma must be"),
    "long bursts": (lambda: BurstLIP(gamma=256), SettingError, "between 1 and 255, not 256"),
    "half bursts": (lambda: FewSteps(neuron="burst", gamma=2.5), SettingError, "gamma must be an integer"),  # type: ignore[arg-type]
    "a reconstruction in words": (lambda: FewSteps(reconstruct="all"), SettingError, "reconstruct must be .none., .layer. or .network., not .all."),  # type: ignore[arg-type]
    "a reconstruction of quantised weights": (lambda: FewSteps(reconstruct="network", weight_bits=8), SettingError, "would undo the quantisation by weight_bits"),
    "a reconstruction of no step": (lambda: FewSteps(reconstruct="network", iterations=0), SettingError, "iterations must be an integer of at least 1, not 0"),
    "a reconstruction that stands still": (lambda: FewSteps(reconstruct="network", learning_rate=0.0), SettingError, "learning_rate must be a positive number, not 0.0"),
    "long bursts, few steps": (lambda: FewSteps(neuron="burst", gamma=256), SettingError, "between 1 and 255, not 256"),
    "bursts of nothing": (lambda: FewSteps(neuron="burst", gamma=0), SettingError, "gamma"),
    "gamma of a neuron": (lambda: Burst(ReLU(), ONE, ZERO, 0), SettingError, "at least 1, not 0"),
    "bistable few steps": (lambda: FewSteps(neuron="bistable"), SettingError, "use the recipe bsnn"),
    "neuron": (lambda: FewSteps(neuron="izhikevich"), SettingError, "one of integrate-and-fire, signed, burst, bistable"),  # type: ignore[arg-type]
    "bistable, streaming": (lambda: mixed(neuron=passes.UseNeurons("bistable")), SettingError, "bistable.* (work under|phase)"),
    "bistable, windows": (lambda: Bistable(ReLU(), ONE, ZERO).fire_window(ONE, timesteps=8), SettingError, "use them with the schedule of phase cycles"),
    "what is followed": (lambda: DifferentialMultiThreshold(ReLU(), ONE, ZERO, follows="rate"), SettingError, "follows must be one of current, value, not 'rate'"),  # type: ignore[arg-type]
    "a curve by its current": (lambda: DifferentialMultiThreshold(Unchanged(), ONE, ZERO), SettingError, "follows its current is a ReLU, and not"),
    "gain of a product": (lambda: SpikeProduct(Product(), gain="rate"), SettingError, "gain must be 'reciprocal' or 'unit'"),  # type: ignore[arg-type]
    "wires after nothing": (lambda: passes.EncodeWires(behind="rates"), SettingError, "behind must be 'anything' or 'analogue', not 'rates'"),  # type: ignore[arg-type]
    "threshold of 0": (lambda: IntegrateAndFire(ReLU(), ZERO, ZERO), SettingError, "must be positive"),
    # phase cycles
    "phase cycles, other neurons": (lambda: ECC(8, schedule=PhaseCycles()), SettingError, "use the recipe bsnn"),
    "phase bits, no cycles": (lambda: ECC(8, encoder=PhaseBits()), SettingError, "use the recipe bsnn"),
    "phase bits, windows": (lambda: SNNCalibration(8, encoder=PhaseBits(), schedule=WINDOWS), SettingError, "BSNN"),
    "phase bits of another period": (lambda: BSNN(8, period=4, encoder=PhaseBits()), SettingError, r"PhaseBits\(period=4\)"),
    "random spikes, cycles": (lambda: BSNN(encoder=Poisson()), SettingError, "use ConstantCurrent.., or PhaseBits"),
    "frames, cycles": (lambda: BSNN(encoder=EventFrames()), SettingError, "use ConstantCurrent.., or PhaseBits"),
    "broken cycles": (lambda: BSNN(9, period=4), SettingError, "not whole cycles of 4; use a multiple of 4, or another period"),
    "cycles of one step": (lambda: BSNN(timesteps=11), SettingError, "no cycle length from 2 to 8 .*period=1"),
    "cycles of nothing": (lambda: BSNN(period=0), SettingError, "period must be an integer"),
    "cycles of half steps": (lambda: PhaseCycles(2.5), SettingError, "period must be an integer"),  # type: ignore[arg-type]
    "long cycles": (lambda: BSNN(32, period=32), SettingError, "from 1 to 16, not 32"),
    "synchronous neurons of no period": (lambda: Synchronous(period=0), SettingError, "from 1 to 16, not 0"),
    "spike count, phase spikes": (lambda: BSNN(readout=SpikeCount()), SettingError, "a spike count cannot read"),
    "bits": (lambda: PhaseBits(period=9), SettingError, "from 1 to 8, not 9"),
    "broken bits": (lambda: PhaseBits(period=1.5), SettingError, " integer number of bits"),  # type: ignore[arg-type]
    "pooling in cycles": (lambda: passes.PoolInTime("gated", 8), SettingError, "lateral-inhibition', not 'gated'"),
    "calibration in cycles": (lambda: applied(passes.CalibrateBias(8), PhaseCycles()), SettingError, "do not support phase cycles: omit that"),
    # readouts
    "delayed window, windows": (lambda: ECC(readout=DelayedWindow(2), schedule=WINDOWS), SettingError, "AccumulatedMembrane"),
    "delayed window, held windows": (lambda: LTB(schedule=HELD), SettingError, "AccumulatedMembrane.*or schedule=Streaming"),
    "delayed window, few steps in windows": (lambda: FewSteps(schedule=WINDOWS), SettingError, "excludes single steps"),
    "delayed window, cycles": (lambda: BSNN(readout=DelayedWindow(share=0.5)), SettingError, "AccumulatedMembrane"),
    "delay": (lambda: DelayedWindow(-1), SettingError, "at least 0, or None, not -1"),
    "half a delay": (lambda: DelayedWindow(1.5), SettingError, " integer number of steps"),  # type: ignore[arg-type]
    "all is delay": (lambda: DelayedWindow(share=1.0), SettingError, r"share must be in \[0, 1\)"),
    "less than no delay": (lambda: DelayedWindow(share=-0.1), SettingError, r"share must be in \[0, 1\)"),
    "two delays": (lambda: DelayedWindow(2, 0.5), SettingError, "pass only one"),
    # schedules
    "calibration in held windows": (lambda: SNNCalibration(8, schedule=HELD), SettingError, "use wait_steps=None, or schedule=Streaming"),
    "calibration in held windows, in steps": (lambda: applied(passes.CalibrateBias(8), HELD), SettingError, "use wait_steps=None, or the"),
    "wait_steps": (lambda: LayerSynchronous(-1), SettingError, " integer number of steps, at least 0, or None"),
    "no steps": (lambda: ECC(0), SettingError, "timesteps must be an integer of at least 1"),
    "half a step": (lambda: DengGu(0.5), SettingError, "timesteps must be an integer"),  # type: ignore[arg-type]
    "a layer that is not there": (lambda: depth(mlp().graph, "nowhere"), SettingError, "there is no layer named 'nowhere'"),
    "spike-norm, windows": (lambda: RMP(schedule=WINDOWS), SettingError, "it needs schedule=Streaming"),
    "spike-norm, windows, in steps": (lambda: applied(passes.SpikeNorm(), WINDOWS), SettingError, "it needs schedule=Streaming"),
    # thresholds
    "granularity": (lambda: ECC(granularity="pixel"), SettingError, "'layer', 'channel' or 'neuron', not 'pixel'"),  # type: ignore[arg-type]
    "granularity of spike-norm": (lambda: SpikeNorm(granularity="channel"), SettingError, "must be 'layer', not 'channel'"),
    "granularity of ltb": (lambda: LTB(granularity="neuron"), SettingError, "use granularity 'channel' or 'layer'"),
    "percentile of nothing": (lambda: ECC(percentile=0.0), SettingError, r"in \(0, 100\], not 0.0"),
    "percentile": (lambda: SNM(percentile=100.5), SettingError, r"in \(0, 100\], not 100.5"),
    "percentile that is no number": (lambda: BurstLIP(percentile=NAN), SettingError, r"in \(0, 100\], not nan"),
    "of": (lambda: passes.PercentileThresholds(of="some"), SettingError, "'all' or 'non-zero'"),  # type: ignore[arg-type]
    "scale": (lambda: passes.PercentileThresholds(scale=0.0), SettingError, "scale must be positive"),
    "scale of spike-norm": (lambda: SpikeNorm(scale=-1.0), SettingError, "scale must be positive"),
    "beta": (lambda: ECC(beta=1.0), SettingError, r"beta must be in \[0, 1\), not 1.0"),
    "beta that is no number": (lambda: BSNN(beta=NAN), SettingError, r"beta must be in \[0, 1\)"),
    "calibrate learned": (lambda: CQ(calibrate="bias"), SettingError, "'none', 'thresholds', 'potential' or 'both', not 'bias'"),  # type: ignore[arg-type]
    "slack": (lambda: CQ(slack=1.0), SettingError, r"slack must be in \[0, 1\), not 1.0"),
    "shift": (lambda: passes.SquaredErrorThresholds(shift=1.0), SettingError, r"shift in \[0, 1\)"),
    "rate": (lambda: LTB(rate=0.0), SettingError, r"rate must be in \(0, 1\]"),
    "no clip was learned": (lambda: converted(OPI(8)), UnsupportedModel, "use a recipe that calibrates thresholds"),
    "a dead layer": (lambda: converted(ECC(8), silent(), torch.rand(16, 4)), DataError, "never fires .*use more or different calibration data"),
    "a layer without input": (lambda: converted(SpikeNorm(1, scale=100.0), silent(1.0), torch.rand(16, 4)), DataError, "receives no positive current in 1 steps.*use more time steps"),
    # calibration
    "calibrate": (lambda: SNNCalibration(calibrate="dark"), SettingError, "'none', 'light', 'advanced' or 'advanced-weights'"),  # type: ignore[arg-type]
    "calibrate few steps": (lambda: FewSteps(calibrate="light"), SettingError, "'both', 'bias', 'potential' or 'none'"),  # type: ignore[arg-type]
    "no samples": (lambda: FewSteps(samples=0), SettingError, "samples"),
    "unknown linear wires": (lambda: ts.recipes.ECC(linear_wires="both"), SettingError, "linear_wires must be one of .*, not 'both'"),
    "no samples for biases": (lambda: passes.CalibrateBias(0), SettingError, "at least 1"),
    "potentials of first spikes": (lambda: applied(passes.CalibratePotential(8), TimeSlots(), converted(CAT(12), SLOTS)), SettingError, "starts from v = 0: use CalibrateBias"),
    "weights of first spikes": (lambda: applied(passes.CalibrateWeights(8), TimeSlots(), converted(CAT(12), SLOTS)), SettingError, "needs equal level steps.*omit the pass"),
    "first spikes that begin above 0": (lambda: FirstSpike(ReLU(), ONE, ONE), SettingError, "start at potential 0.*into the bias"),
    "no rounds for potentials": (lambda: passes.CalibratePotential(rounds=0), SettingError, "at least 1"),
    "no iterations": (lambda: SNNCalibration(calibrate="advanced-weights", iterations=0), SettingError, "iterations.* must be positive"),
    # any neuron by the general pass
    "a neuron that is no class": (lambda: passes.UseNeuron("burst"), SettingError, "derived from Neuron, not 'burst'"),  # type: ignore[arg-type]
    "a neuron without a threshold": (lambda: passes.UseNeuron(ts.neurons.Retimed), SettingError, "has no field threshold, initial: write a pass"),
    "a setting of another neuron": (lambda: passes.UseNeuron(IntegrateAndFire, (("gamma", 2),)), SettingError, "no setting gamma; it has leak, reset"),
    "a neuron without its settings": (lambda: passes.UseNeuron(Resting), SettingError, "Resting cannot be made with these settings: .*rest"),
    "a neuron without a spike scale": (lambda: passes.UseNeuron(Unscaled).neuron(IntegrateAndFire(ReLU(), ONE, ZERO, spike_scale=ONE)), SettingError, "no field spike_scale"),
    # what is not of the kind that a setting is
    "half a sample": (lambda: FewSteps(samples=2.5), SettingError, "samples must be an integer, not 2.5"),  # type: ignore[arg-type]
    "half an update": (lambda: LTB(updates=2.5), SettingError, "updates must be an integer"),  # type: ignore[arg-type]
    "half a bit": (lambda: BSNN(weight_bits=2.5), SettingError, "weight_bits must be an integer or None"),  # type: ignore[arg-type]
    "a percentile in words": (lambda: ECC(percentile="99"), SettingError, "percentile must be a number, not '99'"),  # type: ignore[arg-type]
    "calibrate in words": (lambda: OPI(calibrate="yes"), SettingError, "calibrate must be True or False"),  # type: ignore[arg-type]
    "an encoder's name": (lambda: ECC(encoder="poisson"), SettingError, "one of transpike.encoders, not 'poisson'"),  # type: ignore[arg-type]
    "no readout": (lambda: ECC(readout=None), SettingError, "one of transpike.readouts, not None"),  # type: ignore[arg-type]
    "a schedule's class": (lambda: ECC(schedule=LayerSynchronous), SettingError, "one of transpike.schedules"),  # type: ignore[arg-type]
    # pooling, weights, input
    "pooling": (lambda: ECC(pooling="mean"), SettingError, "one of lateral-inhibition, before-neuron, gated"),  # type: ignore[arg-type]
    "average": (lambda: ECC(average_pooling="hard"), SettingError, "'linear' or 'spiking', not 'hard'"),  # type: ignore[arg-type]
    "residual": (lambda: ECC(residual="none"), SettingError, "'currents' or 'shared', not 'none'"),  # type: ignore[arg-type]
    "a pool that cannot move": (lambda: pooled(nn.MaxPool2d(2), ECC(8, pooling="before-neuron")), UnsupportedModel, "use pooling='lateral-inhibition'"),
    "windows of many sizes": (lambda: pooled(nn.AdaptiveMaxPool2d(3), ECC(8)), UnsupportedModel, "windows of different sizes"),
    "1 bit": (lambda: ECC(weight_bits=1), SettingError, "between 2 and 16, not 1"),
    "bits and fine-tuning": (lambda: SNNCalibration(8, weight_bits=4, calibrate="advanced-weights"), SettingError, "use calibrate='light'"),
    "17 bits": (lambda: BSNN(weight_bits=17), SettingError, "between 2 and 16, not 17"),
    "events of scale 2": (lambda: EventFrames(largest=2.0), SettingError, "scale 1; largest=2.0"),
    "frames without time": (lambda: EventFrames().check(torch.ones(3, 3)), DataError, r"recordings are \(batch, frames"),
    "frames with numbers": (lambda: SignedEventFrames().check(2 * FRAMES), DataError, "Bin recordings with transpike.data"),
    "frames of somebody else": (lambda: Doubled().spikes(FRAMES, 2), SettingError, r"Doubled overrides encode\(\) and not spikes\(\)"),
    "more steps than frames": (lambda: converted(ECC(8, encoder=EventFrames()), nn.Flatten(), FRAMES), SettingError, "Use timesteps=4"),
    # first spikes
    "average, first spikes": (lambda: CAT(average_pooling="hard"), SettingError, "'linear' or 'spiking', not 'hard'"),  # type: ignore[arg-type]
    "input, first spikes": (lambda: LinearTTFS(input="current"), SettingError, "'analogue' or 'spikes', not 'current'"),  # type: ignore[arg-type]
    "delayed window, slots": (lambda: YOSO(readout=DelayedWindow(2)), SettingError, "excludes single steps.* use readout=AccumulatedMembrane"),
    "half a slot of wait steps": (lambda: T2FSNN(wait_steps=2.5), SettingError, "wait_steps must be an integer number of slots, at least 0, or None, not 2.5"),  # type: ignore[arg-type]
    "less than no wait steps": (lambda: TimeSlots(-1), SettingError, "wait_steps must be an integer number of slots, at least 0, or None, not -1"),
    "fewer than no epochs": (lambda: T2FSNN(epochs=-1), SettingError, "epochs must be an integer of at least 0, not -1"),
    "granularity of weights": (lambda: CAT(weight_bits=5, weight_granularity="pixel"), SettingError, "'layer' or 'channel', not 'pixel'"),  # type: ignore[arg-type]
    "channels of uniform weights": (lambda: YOSO(weight_bits=5, weight_scale="uniform", weight_granularity="channel"), SettingError, "one scale per layer"),
    "correction of weights": (lambda: CAT(weight_bits=5, weight_correction="both"), SettingError, "'bias' or 'none', not 'both'"),  # type: ignore[arg-type]
    "scale of weights": (lambda: CAT(weight_bits=5, weight_scale="cubic"), SettingError, "one of uniform, logarithmic, not 'cubic'"),  # type: ignore[arg-type]
    "2 bits, logarithmic": (lambda: CAT(weight_bits=2), SettingError, "logarithmic weights have 3 to 12 bits, not 2"),
    "13 bits, logarithmic": (lambda: YOSO(weight_bits=13), SettingError, "logarithmic weights have 3 to 12 bits, not 13"),
    "more slots than trained": (lambda: converted(CAT(24), SLOTS), SettingError, "trained with 12 slots.* use timesteps=12"),
    "another input than trained": (lambda: converted(CAT(input="spikes", tau=3.0), BRIGHT, torch.rand(16, 5)), SettingError, "trained as 24 slots.* use the same timesteps"),
    "first spikes of what is negative": (lambda: FirstSpikes().check(-ONE), DataError, "has no spike time.*or leave the input analogue"),
    "first spikes without a range": (lambda: FirstSpikes().counts(ONE, ZERO, 24), SettingError, "pass largest, or convert with calibration data"),
    # codes of time
    "tau": (lambda: YOSO(tau=0.0), SettingError, "tau must be positive"),
    "tau that is no number": (lambda: CAT(tau=NAN), SettingError, "tau must be a number, not nan"),
    "tau for fewer slots": (lambda: CAT(tau=0.1), SettingError, "use fewer slots, or another tau"),
    "base": (lambda: FirstSpikes(base=1.0), SettingError, "base above 1, not 4.0 and 1.0"),
    "rounding": (lambda: LinearTTFS(rounding="up"), SettingError, "one of down, nearest, not 'up'"),  # type: ignore[arg-type]
    "kernel": (lambda: FirstSpikes(kernel="cubic"), SettingError, "one of exponential, linear, not 'cubic'"),  # type: ignore[arg-type]
    "last slot": (lambda: FirstSpikes(last=24), SettingError, "0 to 23 or None"),
    "bits of levels": (lambda: FirstSpikes(bits=25), SettingError, "from 1 to 24 or None, not 25"),
    "bits too few for the slots": (lambda: FirstSpikes(bits=4), SettingError, "use more bits, a larger tau, or an earlier last slot"),
    "a long window": (lambda: LinearTTFS(2**16 + 1), SettingError, "1 to 65536 slots, not 65537"),
    "a longer window than converted": (lambda: ts.simulate(converted(LinearTTFS(4)), mlp().x, 8), SettingError, "use at most 4 time steps, or convert with more"),
    # exact spike times, first crossings and latched currents
    "exact times on a clock": (lambda: ExactMapping(8), SettingError, "timesteps counts windows and is 1, not 8; for discrete time steps use linear-ttfs"),
    "input, exact times": (lambda: ExactMapping(input="current"), SettingError, "'analogue' or 'spikes', not 'current'"),  # type: ignore[arg-type]
    "spike count, exact times": (lambda: ExactMapping(readout=SpikeCount()), SettingError, "use readout=AccumulatedMembrane"),
    "less than no room": (lambda: ExactMapping(zeta=-0.5), SettingError, "zeta must be a number from 0 to 1e6, not -0.5"),
    "exact times of what is negative": (lambda: converted(ExactMapping(input="spikes")), DataError, "pass inputs of at least 0, or leave the input analogue"),
    "exact times of a sigmoid": (lambda: kept(ExactMapping()), UnsupportedModel, "no exact spike time; the mapping supports ReLUs"),
    "exact times of the maximum of sums": (lambda: pooled(nn.Sequential(nn.Conv2d(2, 2, 3), nn.MaxPool2d(3)), ExactMapping()), UnsupportedModel, "maximum of sums.*or pool after the activation"),
    "a dead layer, exact times": (lambda: converted(ExactMapping(), silent(), torch.rand(16, 4)), DataError, "never fires .*use more or different calibration data"),
    "an activation without levels": (
        lambda: converted(SpikeZIP(), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(8, 4)),
        UnsupportedModel, "needs quantised activations",
    ),
    "a neuron without levels": (lambda: passes.UseQuantisedLevels().neuron(IntegrateAndFire(ReLU(), ONE, ZERO)), UnsupportedModel, "has no levels"),
    "a value without levels": (
        lambda: converted(SpikeZIP(), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), torch.rand(8, 4)),
        UnsupportedModel, "read values that are not quantised",
    ),
    "a potential that falls": (lambda: ExactReLU(ReLU(), ONE, ZERO, total=ONE), SettingError, "must stay below 1, .*raise the threshold"),
    "threshold of all": (lambda: S4NN(threshold=0.0), SettingError, "must be positive and below 1e30, not 0.0"),
    "delayed window, first crossings": (lambda: S4NN(readout=DelayedWindow(2)), SettingError, "read as one sum"),
    "a way to find thresholds": (lambda: YOSO(thresholds_by="luck"), SettingError, "one of 'error'|must be 'error' or"),
    "exact times of a clip": (lambda: converted(ExactMapping(), nn.Sequential(nn.Linear(4, 3), nn.ReLU6(), nn.Linear(3, 2)), torch.rand(16, 4)), UnsupportedModel, "need a plain ReLU: use the recipe"),
    "rule of latches": (lambda: RueckauerLiu(rule="none"), SettingError, "one of first, corrective, dynamic, not 'none'"),
    "spike count, latched currents": (lambda: RueckauerLiu(readout=SpikeCount()), SettingError, "use readout=AccumulatedMembrane"),
    "resolution beyond the run": (lambda: converted(RueckauerLiu(resolution=1000)), SettingError, "fires after 1000 steps, but a run has 64"),
    "latches in a run of other length": (lambda: ts.simulate(converted(RueckauerLiu(timesteps=8)), mlp().x, 9), SettingError, "converted for 8 steps"),
    "exact times in several windows": (lambda: ts.simulate(converted(ExactMapping()), mlp().x, 2), SettingError, "timesteps=1, not 2"),
    "negative input of exact times": (lambda: ts.simulate(converted(ExactMapping(input="spikes"), x=mlp().calibration.abs()), -mlp().x.abs()), DataError, "no spike time"),
    "trained slots, another recipe": (lambda: converted(T2FSNN(12, epochs=0), SLOTS), SettingError, "use the recipe cat"),
    "stairs that slots cannot round": (lambda: converted(LinearTTFS(8, learned=True), SLIPPED), SettingError, "round down or to the nearest"),
    "resolution": (lambda: RueckauerLiu(resolution=0), SettingError, "resolution must be an integer number of steps, at least 1, not 0"),
    "rule of a latched neuron": (lambda: Latched(ReLU(), ONE, ZERO, "none"), SettingError, "one of first, corrective, dynamic, not 'none'"),  # type: ignore[arg-type]
    "dynamic thresholds and pools": (pooled_dynamic, UnsupportedModel, "max_pool.*use rule='corrective'"),
    "dynamic thresholds and analogue input": (dynamic, UnsupportedModel, "adds spikes to the analogue input.*use rule='corrective'"),
}  # fmt: skip
# what only a conversion can see, or a step by itself; all else is refused where it is made
CONVERSION = {
    "calibration in cycles", "calibration in held windows, in steps", "spike-norm, windows, in steps",
    "θ/2 and θ/2T", "hard reset, v(0), in steps", "hard reset, calibrated potential",
    "leak, calibrated potential", "bistable, streaming", "no clip was learned", "a dead layer",
    "a layer without input", "a pool that cannot move", "windows of many sizes", "more steps than frames",
    "more slots than trained", "another input than trained", "a longer window than converted",
    "exact times of what is negative", "exact times of a sigmoid", "a dead layer, exact times",
    "exact times of the maximum of sums", "exact times of a clip",
    "resolution beyond the run", "latches in a run of other length", "exact times in several windows", "negative input of exact times",
    "trained slots, another recipe", "too few spikes for all layers", "sensitivity of one output", "a bound of a sigmoid", "biases",
    "calibration in differences", "levels of no stairs", "levels of other steps", "windows of one threshold", "a corrected neuron's whole window",
    "a run shorter than its pre-simulation", "what changes for each input, layer by layer", "no layer to search",
    "dynamic thresholds and pools", "dynamic thresholds and analogue input", "a neuron without a spike scale",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(what):
    provoke, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        provoke()


@pytest.mark.parametrize("what", sorted(REFUSED.keys() - CONVERSION))
def test_it_is_refused_before_any_calibration(what, monkeypatch):
    def measured(*_: object) -> None:
        raise AssertionError("calibration had begun")

    for step in (
        passes.PercentileThresholds,
        passes.SquaredErrorThresholds,
        passes.LocalThresholdBalancing,
        passes.FirstSpikeThresholds,
    ):
        monkeypatch.setattr(step, "measure", measured)
    monkeypatch.setattr(passes.ExactTimes, "apply", measured)  # which measures as it goes
    with pytest.raises(TranspikeError):
        REFUSED[what][0]()


OURS = ("SettingError(", "DataError(", "UnsupportedModel(", "TranspikeError(")


def refusals(path: Path) -> Iterator[tuple[int, int]]:
    """First and last line of every place that raises one of our errors; what must be overridden raises TypeError."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and ast.unparse(node.exc or node).startswith(OURS):
            yield node.lineno, node.end_lineno or node.lineno


def test_every_refusal_in_the_sources_is_in_the_table():
    raised = set()
    for provoke, *_ in REFUSED.values():
        try:
            provoke()
        except TranspikeError as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raised.add((last.filename, last.lineno))
    missing = [
        f"{path.relative_to(SOURCE)}:{first}"
        for path in PLACES
        for first, last in refusals(path)
        if not any((str(path), line) in raised for line in range(first, last + 1))
    ]
    assert not missing
