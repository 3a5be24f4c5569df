"""Which methods and settings are the same spiking network: every pair with equal spike counts, and why it is equal.

Two settings that give the same counts are either proven to be the same, or one of them does nothing.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from figures import Sum
from networks import random_norm, settle
from transpike.activations import QuantisedClip
from transpike.core.cell import Neuron
from transpike.core.recipe import Recipe
from transpike.encoders import ConstantCurrent, DeterministicCounts, PhaseBits, Poisson
from transpike.readouts import AccumulatedMembrane, DelayedWindow, SpikeCount
from transpike.recipes import (
    BSNN,
    COS,
    DCGS,
    ECC,
    HMT,
    LTB,
    OPI,
    PASCAL,
    QCFS,
    RMP,
    SNM,
    SRP,
    TSC,
    AdaFire,
    BurstLIP,
    Cao,
    DengGu,
    DiehlModel,
    ErrorCompensation,
    FastSNN,
    FewSteps,
    GroupNeuron,
    Rueckauer,
    SlipReLU,
    SNNCalibration,
    SpikeNorm,
    ThresholdBalancing,
    WeightNormalisation,
)
from transpike.schedules import LayerSynchronous

T, LEVELS = 16, 8  # steps; levels of the quantised clip
WINDOWS = LayerSynchronous()
# counts of spikes; first spikes are compared by their levels in tests/recipes/test_first_spike.py
# Cao's method takes no biases, PASCAL as many levels as there are steps: networks of their own, below
COUNTED = [k for k in ts.recipes.members if k().schedule.mode != "slots" and k not in (Cao, PASCAL)]
DEFAULTS = {kind.name: kind(timesteps=T) for kind in COUNTED}
# thresholds that weights alone tell leave the deep layers of ReLUs silent in so few steps
TRAINING_FREE = {k: r for k, r in DEFAULTS.items() if r.training_free and not isinstance(r, DiehlModel)}

VARIANTS: dict[str, Recipe] = {
    "ecc, layer": ECC(T, granularity="layer"),
    "ecc, layer, v(0)=0": ECC(T, granularity="layer", beta=0.0),
    "ecc, neuron": ECC(T, granularity="neuron"),
    "ecc, hard": ECC(T, reset="hard"),
    "ecc, leak": ECC(T, leak=0.9),
    "ecc, 8 bits": ECC(T, weight_bits=8),
    "ecc, shared": ECC(T, residual="shared"),
    "ecc, spiking average": ECC(T, average_pooling="spiking"),
    "ecc, before-neuron": ECC(T, pooling="before-neuron"),
    "ecc, gated": ECC(T, pooling="gated"),
    "ecc, gated-exponential": ECC(T, pooling="gated-exponential"),
    "ecc, or": ECC(T, pooling="or"),
    "ecc, poisson": ECC(T, encoder=Poisson()),
    "ecc, counts": ECC(T, encoder=DeterministicCounts()),
    "ecc, spike count": ECC(T, readout=SpikeCount()),
    "ecc, delayed": ECC(T, readout=DelayedWindow(4)),
    "ecc, windows": ECC(T, schedule=WINDOWS),
    "ecc, windows, hold T": ECC(T, schedule=LayerSynchronous(T)),
    "ecc, windows, hold 4": ECC(T, schedule=LayerSynchronous(4)),
    "ecc, windows, hold 0": ECC(T, schedule=LayerSynchronous(0)),
    "ecc, windows, gated": ECC(T, schedule=WINDOWS, pooling="gated"),
    "ecc, windows, or": ECC(T, schedule=WINDOWS, pooling="or"),
    "ecc, windows, neuron, 100, v(0)=0": ECC(T, percentile=100.0, beta=0.0, granularity="neuron", schedule=WINDOWS),
    "ecc paper": ECC.paper(timesteps=T),
    "ecc paper, hard": ECC.paper(timesteps=T, reset="hard"),
    "ecc paper, windows": ECC.paper(timesteps=T, schedule=WINDOWS),
    "weight-normalisation, soft": WeightNormalisation(T, reset="soft"),
    "threshold-balancing, soft": ThresholdBalancing(T, reset="soft"),
    "opi, calibrated": OPI(T, calibrate=True),
    "deng-gu, channel": DengGu(T, granularity="channel"),
    "deng-gu, windows": DengGu(T, schedule=WINDOWS),
    "snn-calibration, none": SNNCalibration(T, calibrate="none"),
    "snn-calibration, advanced": SNNCalibration(T, calibrate="advanced"),
    "snn-calibration, advanced-weights": SNNCalibration(T, calibrate="advanced-weights", iterations=20),
    "snm, fast-snn": SNM(T, rule="fast-snn"),
    "snm, windows": SNM(T, schedule=WINDOWS),
    "snm, windows, fast-snn": SNM(T, schedule=WINDOWS, rule="fast-snn"),
    "snm, windows, pascal": SNM(T, schedule=WINDOWS, rule="pascal"),
    "burst, 1": BurstLIP(T, gamma=1),
    "burst, windows": BurstLIP(T, schedule=WINDOWS),
    "few-steps, signed": FewSteps(T, neuron="signed"),
    "few-steps, burst": FewSteps(T, neuron="burst"),
    "few-steps, bias": FewSteps(T, calibrate="bias"),
    "few-steps, potential": FewSteps(T, calibrate="potential"),
    "few-steps, none": FewSteps(T, calibrate="none"),
    "few-steps, whole window read": FewSteps(T, readout=AccumulatedMembrane()),
    "ltb, layer": LTB(T, granularity="layer"),
    "ltb, 1 update": LTB(T, updates=1),
    "ltb, slow": LTB(T, rate=0.5),
    "ltb, lateral-inhibition": LTB(T, pooling="lateral-inhibition"),
    "rueckauer, channel": Rueckauer(T, granularity="channel"),
    "rueckauer, v(0)=θ/2": Rueckauer(T, beta=0.5),
    "rueckauer, lateral-inhibition": Rueckauer(T, pooling="lateral-inhibition"),
    "spike-norm, soft": SpikeNorm(T, reset="soft"),
    "spike-norm, 0.8": SpikeNorm(T, scale=0.8),
    "spike-norm, constant current": SpikeNorm(T, encoder=ConstantCurrent()),
    "rmp, hard": RMP(T, reset="hard"),
    "rmp, 1": RMP(T, scale=1.0),
    "snm, dual at 0": SNM(T, rule="dual"),
    "snm, dual at ½": SNM(T, rule="dual", depth=0.5),
    "h-mt, 1": HMT(T, threshold_count=1),
    "h-mt, 6": HMT(T, threshold_count=6),
    "h-mt, windows": HMT(T, schedule=WINDOWS),
    "dcgs, 4": DCGS(T, threshold_count=4),
    "adafire, few": AdaFire(T, budget=0.8),
    "adafire, compressed": AdaFire(T, compress=0.7),
    "tsc, 99.9": TSC(T, percentile=99.9),
    "bsnn, 4": BSNN(T, period=4),
    "bsnn, 16": BSNN(T, period=16),
    "bsnn, v(0)=0": BSNN(T, beta=0.0),
    "bsnn, phase bits": BSNN(T, encoder=PhaseBits(period=8)),
    "bsnn, unmatched": BSNN(T, match_delays=False),
}
LEARNED: dict[str, Recipe] = {
    "ecc, layer": ECC(T, granularity="layer"),
    "ecc paper, windows": ECC.paper(timesteps=T, schedule=WINDOWS),
    "opi, v(0)=0": OPI(T, beta=0.0),
    "opi, windows": OPI(T, schedule=WINDOWS),
    "qcfs, v(0)=0": QCFS(T, beta=0.0),
    "qcfs, windows": QCFS(T, schedule=WINDOWS),
    "group-neuron, 1": GroupNeuron(T, members=1),
    "group-neuron, windows": GroupNeuron(T, schedule=WINDOWS),
    "fast-snn, windows": FastSNN(T, schedule=WINDOWS),
    "error-compensation, ½": ErrorCompensation(T, depth=0.5),
    "cos, whole": COS(T, schedule=LayerSynchronous(T), pre_simulation_steps=T, rounds=T),
    "srp, 2": SRP(T, pre_simulation_steps=2),
    "slip-relu, v(0)=0": SlipReLU(T, beta=0.0),
    "deng-gu, windows": DengGu(T, schedule=WINDOWS),
    "snn-calibration, none": SNNCalibration(T, calibrate="none"),
    "snn-calibration, none, windows": SNNCalibration(T, calibrate="none", schedule=WINDOWS),
}

SCALING = "one scale family: weights times κ/θ_n and a threshold κ scale the potential, and no spike moves"
SAME = "the same settings under two names"
READOUT = "a readout reads currents; spikes know nothing of it"
RULES = "a window's counts are clip(⌊Q/θ⌋, 0, T) by either rule: what was sent too early is taken back in it"
POOLED = "the counts of a whole window are pooled at once, whatever the rule for single steps"
HALF = "θ/2T in each of T steps is θ/2 at the end of the window, when neurons fire"
CLIPPED = "calibration reaches the clip λ of every layer, so that the maximum is the learned λ"
EQUAL: dict[tuple[str, str], str] = {
    ("weight-normalisation", "threshold-balancing"): SCALING,
    ("weight-normalisation", "ecc paper, hard"): SCALING,
    ("ecc paper", "weight-normalisation, soft"): SCALING,
    ("ecc paper", "threshold-balancing, soft"): SCALING,
    ("ecc, layer", "opi, calibrated"): "TRE(½) is v(0) = θ/2",
    ("ecc, layer, v(0)=0", "burst, 1"): "a burst of at most one spike is integrate-and-fire",
    ("ecc", "ecc, delayed"): READOUT,
    ("few-steps", "few-steps, whole window read"): READOUT,
    ("ecc", "ecc, windows, hold 0"): "a window that holds nothing back is streaming",
    ("ecc, windows", "ecc, windows, hold T"): "wait_steps=None is the whole window",
    ("ecc, windows", "ecc, windows, gated"): POOLED,
    ("ecc, windows", "ecc, windows, or"): POOLED,
    ("ecc paper, windows", "deng-gu, windows"): HALF,
    ("snm, windows", "snm, windows, fast-snn"): RULES,
    ("snm, windows", "snm, windows, pascal"): RULES,
    ("snm, windows", "ecc, windows, neuron, 100, v(0)=0"): RULES,
    ("snm, fast-snn", "snm, dual at 0"): "a second threshold of 0 is Fast-SNN's",
    ("spike-norm, soft", "rmp, 1"): SAME,
    ("spike-norm, 0.8", "rmp, hard"): SAME,
}
EQUAL_LEARNED: dict[tuple[str, str], str] = {
    ("weight-normalisation", "threshold-balancing"): SCALING,
    ("opi", "qcfs"): "θ = λ and v(0) = θ/2 in both papers",
    ("cq", "qcfs"): "v(0) is what the staircase was trained with: θ/2 on this network of quantised clips",
    ("vr", "qcfs, windows"): "the same, and averaging neurons are the layer-synchronous schedule",
    ("opi, v(0)=0", "qcfs, v(0)=0"): "the same",
    ("qcfs", "slip-relu"): "v(0) as trained, θ/2 on this network; the papers differ in training",
    ("qcfs, v(0)=0", "slip-relu, v(0)=0"): "the same",
    ("qcfs, v(0)=0", "tcl"): "θ = λ and v(0) = 0",
    ("tcl", "rnl"): "the papers differ in training, and in how θ is learned",
    ("tcl", "datta-beerel"): "a staircase of T = 2L steps rounds nothing, so that α = β = 1 has no expected error",
    ("qcfs", "group-neuron, 1"): "a group of one neuron",
    ("fast-snn", "error-compensation"): "a second threshold of 0 is Fast-SNN's",
    ("qcfs, windows", "fast-snn, windows"): RULES,
    (
        "qcfs, windows",
        "cos, whole",
    ): "corrected until nothing is off, a neuron that has pre-simulated its window sends its staircase",
    ("weight-normalisation", "diehl-model"): "the clip λ bounds a layer more tightly than its weights do",
    ("opi, windows", "qcfs, windows"): "the same",
    ("opi", "ecc, layer"): CLIPPED,
    ("opi, windows", "ecc paper, windows"): CLIPPED,
    ("opi, windows", "deng-gu, windows"): f"{CLIPPED}; {HALF}",
    ("deng-gu", "snn-calibration, none"): f"{CLIPPED}, where a staircase of T = 2L steps rounds nothing",
    ("deng-gu, windows", "snn-calibration, none, windows"): "the same",
}
BEYOND_THE_CLIP = {"burst", "dcgs", "h-mt", "ltb", "rmp", "spike-norm"}
"""Recipes whose thresholds or bursts let a neuron represent more than the ceiling of the clip."""
EQUAL_RESNET: dict[tuple[str, str], str] = {
    ("weight-normalisation", "threshold-balancing"): SCALING,
    ("ecc", "ecc, shared"): "every sum of a ResNet adds a current to spikes, whose thresholds stay as they are",
    ("ecc, layer", "opi, calibrated"): "TRE(½) is v(0) = θ/2",
}

Counts = tuple[tuple[tuple[int, ...], bytes], ...]


class Branch(nn.Module):
    """``x + body(x)``: a sum of spikes."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Shared:
    """One network and its inputs for all recipes."""

    graph: ts.Graph
    calibration: Tensor
    x: Tensor

    def counts(self, recipe: Recipe) -> Counts:
        """Of each neuron layer in order: its shape, and what every neuron sends on every input in T steps."""
        # in float64 and off the grid, which rounds weights, biases and thresholds each in its own way
        snn = ts.convert(self.graph, recipe, self.calibration, exact_grid=False)
        names = [n.name for n in snn.program.lowered.nodes if isinstance(n.op, Neuron) and not n.op.is_delay]
        trace = ts.simulate(snn, self.x, record=names, engine="reference")
        counts = [trace.trains[name].double().sum(0) for name in names]
        # silent layers would make any equality an empty statement
        layers = trace.activity.layers
        slots = recipe.timesteps * len(self.x) * sum(layer.neurons for layer in layers)
        assert all(layer.spikes.sum() > 0 for layer in layers), recipe
        assert sum(float(layer.spikes.sum()) for layer in layers) >= 0.01 * slots, recipe
        return tuple((tuple(value.shape), value.numpy().tobytes()) for value in counts)


def equal_pairs(network: Shared, recipes: Mapping[str, Recipe]) -> set[frozenset[str]]:
    """All pairs of recipes whose neurons send the same counts."""
    counts = {label: network.counts(recipe) for label, recipe in recipes.items()}
    return {frozenset(pair) for pair in itertools.combinations(counts, 2) if counts[pair[0]] == counts[pair[1]]}


def closure(proven: Mapping[tuple[str, str], str]) -> set[frozenset[str]]:
    """The proven pairs, and those that follow: what equals the same is equal."""
    groups: list[set[str]] = []
    for pair in proven:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in touched] + [set(pair).union(*touched)]
    return {frozenset(pair) for group in groups for pair in itertools.combinations(sorted(group), 2)}


def small(activation: Callable[[], nn.Module]) -> Shared:
    """Both kinds of shortcut, both kinds of pooling, batch normalisation."""
    torch.manual_seed(1)
    body = nn.Sequential(
        nn.Conv2d(6, 6, 3, padding=1, bias=False), random_norm(2, 6, 1e-5), activation(), nn.Conv2d(6, 6, 3, padding=1)
    )
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), random_norm(2, 6, 1e-5), activation(), Sum(body, activation()),
        nn.MaxPool2d(3, 2, 1), Branch(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), activation())), nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), activation(), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    x = torch.rand(56, 2, 8, 8) * 2 - 1
    settle(model, x[:48])
    return Shared(ts.capture(model, x[:8]), x[:48], x[48:])


def test_recipes_with_equal_spike_counts_are_proven_to_be_equal():
    recipes = {**TRAINING_FREE, **VARIANTS}
    assert {label for pair in EQUAL for label in pair} <= recipes.keys() and all(EQUAL.values())
    assert equal_pairs(small(nn.ReLU), recipes) == closure(EQUAL)


def test_recipes_for_learned_clips_with_equal_spike_counts_are_proven_to_be_equal():
    network = small(lambda: QuantisedClip(LEVELS, 1.0))
    recipes = {label: recipe for label, recipe in {**DEFAULTS, **LEARNED}.items() if label not in BEYOND_THE_CLIP}
    assert equal_pairs(network, recipes) == closure(EQUAL_LEARNED)


@pytest.mark.parametrize("name", sorted(BEYOND_THE_CLIP))
def test_recipes_whose_neurons_send_more_than_the_clip_refuse_it(name):
    network = small(lambda: QuantisedClip(LEVELS, 1.0))
    with pytest.raises(ts.TranspikeError, match="quantised clip, 8 levels, which clips activations at 1"):
        network.counts(DEFAULTS[name])


def test_recipes_with_equal_spike_counts_on_a_trained_residual_network(models_directory: Path, data_directory: Path):
    model, spec = ts.models.build(
        "zoo:resnet20-16-32-64", weights=models_directory / "resnet20-cifar10-jpeg.safetensors"
    )
    assert spec.preprocessing is not None
    images = spec.preprocessing(ts.data.load("cifar10", data_directory).train.batch(list(range(10)))[0])
    network = Shared(ts.capture(model, images[:8]), images[:8], images[8:])
    # Spike-Norm's high thresholds leave the deep layers silent in so few steps
    chosen = {label: recipe for label, recipe in TRAINING_FREE.items() if not isinstance(recipe, SpikeNorm)}
    chosen |= {label: VARIANTS[label] for pair in EQUAL_RESNET for label in pair if label in VARIANTS}
    fewer = {label: {"samples": 4} if hasattr(recipe, "samples") else {} for label, recipe in chosen.items()}
    recipes = {label: dataclasses.replace(r, timesteps=8, **fewer[label]) for label, r in chosen.items()}  # type: ignore[type-var]
    assert equal_pairs(network, recipes) == closure(EQUAL_RESNET)


def test_pascal_is_qcfs_in_windows_at_its_levels():
    """A network of its own, for every level is a step."""
    network = small(lambda: QuantisedClip(LEVELS, 1.0))
    recipes = {"pascal": PASCAL(LEVELS), "qcfs, windows": QCFS(LEVELS, schedule=WINDOWS), "qcfs": QCFS(LEVELS)}
    assert equal_pairs(network, recipes) == {frozenset(("pascal", "qcfs, windows"))}


def test_cao_is_no_other_recipe():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)
    )
    x = torch.rand(40, 6)
    network = Shared(ts.capture(model, x[:8]), x[:32], x[32:])
    current = {"encoder": ConstantCurrent()}
    recipes = {"cao": Cao(T, threshold=0.25, **current), "cao, soft": Cao(T, threshold=0.25, reset="soft", **current),
               "cao, 0.5": Cao(T, threshold=0.5, **current), "threshold-balancing": ThresholdBalancing(T)}  # fmt: skip
    assert not equal_pairs(network, recipes)


def test_an_equal_pair_is_found():
    network, recipes = small(nn.ReLU), {"one": ECC(T), "other": ECC(T, beta=0.0), "one again": ECC(T)}
    assert equal_pairs(network, recipes) == {frozenset(("one", "one again"))}


def test_what_equals_the_same_is_equal():
    chain = {("a", "b"): "", ("c", "d"): "", ("b", "c"): "", ("e", "f"): ""}
    assert closure(chain) == {frozenset(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd", "ef")}
