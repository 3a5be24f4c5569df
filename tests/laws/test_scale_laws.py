"""Weight normalisation, threshold balancing and current normalisation are one family: the spikes do not change."""

import dataclasses
import random

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import transpike as ts
from networks import Case, assert_fires, assert_same_spikes, cases, cells, small_cnn, spike_rate
from transpike.engines import Dense, Program, Reference
from transpike.errors import UnsupportedModel
from transpike.lowering.lowered import Lowered, lower
from transpike.lowering.scaling import own_scale, scaled
from transpike.recipes import ECC, ThresholdBalancing, WeightNormalisation

STEPS = 16


def converted(case: Case, **settings: object) -> ts.SNN:
    snn = ts.convert(case.graph, ECC(timesteps=STEPS, **settings), case.calibration)
    assume(0.01 <= spike_rate(snn, ts.simulate(snn, case.x, STEPS), STEPS) <= 0.6)
    return snn


def run(engine: Dense | Reference, snn: ts.SNN, lowered: Lowered, x: torch.Tensor) -> ts.Trace:
    """The lowered form in place of the SNN's own."""
    program = Program(lowered, snn.encoder, snn.schedule, snn.readout)
    started = engine.start(program, x, torch.arange(len(x)), cells(snn))
    started.advance(STEPS)
    return started.finish()


def on_grid(snn: ts.SNN, lowered: Lowered, x: torch.Tensor) -> ts.Trace:
    """The lowered form in place of the SNN's own, put on the grid as the SNN does it."""
    other = dataclasses.replace(snn)
    other.__dict__["lowered"] = lowered  # what the cached property would work out
    trace = ts.simulate(other, x, STEPS, record=cells(snn))
    assume(trace.exact)
    return trace


def plain(snn: ts.SNN) -> Lowered:
    """Thresholds as calibrated, nothing scaled, off the grid."""
    return lower(snn.graph, snn.encoder.spike_scale, snn.encoder.alphabet)


def thresholds(lowered: Lowered) -> dict[str, torch.Tensor]:
    units = {node.name: getattr(node.op, "unit", None) for node in lowered.nodes}
    return {name: unit.threshold for name, unit in units.items() if unit is not None}


@given(cases(), st.integers(0, 1000), st.sampled_from(["layer", "channel"]))
def test_any_scale_of_each_layer_leaves_the_spikes_alone(case, seed, granularity):
    snn = converted(case, granularity=granularity)
    lowered, pick = plain(snn), random.Random(seed)
    kappa = {name: 10 ** pick.uniform(-3, 3) for name in thresholds(lowered)}
    changed = scaled(lowered, kappa, strict=False)
    before, after = (run(Reference(), snn, form, case.x) for form in (lowered, changed))
    # float64: random weights come no closer to a tie than the 1e-15 that scaling may lose
    for name, train in before.trains.items():
        assert torch.equal(train, after.trains[name])
    assert torch.allclose(
        before.logits, after.logits, rtol=1e-6, atol=1e-6
    )  # float32 logits: one unit in the last place


@given(cases(), st.integers(0, 1000))
def test_powers_of_two_change_no_bit_on_the_grid(case, seed):
    snn = converted(case)
    lowered, pick = plain(snn), random.Random(seed)
    base = scaled(lowered, dict.fromkeys(thresholds(lowered), 1.0), strict=False)
    changed = scaled(base, {name: 2.0 ** pick.randint(-8, 8) for name in thresholds(lowered)}, strict=False)
    assert_same_spikes(*(on_grid(snn, form, case.x) for form in (base, changed)))


@pytest.mark.parametrize(
    ("recipe", "expected"), [(WeightNormalisation, 1.0), (ECC, 128.0)], ids=["weight normalisation", "ECC"]
)
def test_the_published_scale_of_a_recipe_is_one_number(recipe, expected):
    case = small_cnn()
    snn = ts.convert(case.graph, recipe(timesteps=STEPS), case.calibration)
    lowered = plain(snn)
    found = thresholds(scaled(lowered, own_scale(recipe(timesteps=STEPS).threshold_scale, lowered), strict=False))
    assert found and all(bool((threshold == expected).all()) for threshold in found.values())


def test_threshold_balancing_divides_each_threshold_by_the_one_before():
    case = small_cnn()
    recipe = ThresholdBalancing(timesteps=STEPS)
    lowered = plain(ts.convert(case.graph, recipe, case.calibration))
    first, second = (float(threshold) for threshold in thresholds(lowered).values())
    assert list(own_scale(recipe.threshold_scale, lowered).values()) == [first, second / first]


def test_threshold_balancing_leaves_the_weights_of_the_network_alone():
    # W̃ = W λ_{n−1} in the lowered form, so κ = λ_n/λ_{n−1} brings W back
    torch.manual_seed(0)
    case = small_cnn()
    recipe = ThresholdBalancing(timesteps=STEPS)
    snn = ts.convert(case.graph, recipe, case.calibration)
    lowered = plain(snn)
    changed = scaled(lowered, own_scale(recipe.threshold_scale, lowered), strict=False)
    table = {node.name: node.op for node in changed.nodes}
    name = next(node.name for node in snn.graph if node.name.startswith("4") and hasattr(node.op, "weight"))
    # two float64 products and one quotient: 1e-14
    assert torch.allclose(table[name].weight, snn.graph[name].op.weight.double(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("recipe", [ECC, WeightNormalisation, ThresholdBalancing])
def test_each_recipe_s_own_scale_fires_the_same_spikes(recipe):
    case = small_cnn()
    snn = ts.convert(case.graph, recipe(timesteps=STEPS), case.calibration)
    lowered = plain(snn)
    changed = scaled(lowered, own_scale(snn.recipe.threshold_scale, lowered), strict=False)
    before, after = (run(Reference(), snn, form, case.x) for form in (lowered, changed))
    assert_fires(snn, before, STEPS)
    for name, train in before.trains.items():
        assert torch.equal(train, after.trains[name])


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_the_three_recipes_agree_under_equal_settings(reset):
    case = small_cnn()
    settings = {"timesteps": STEPS, "percentile": 100.0, "granularity": "layer", "reset": reset}
    networks = [
        ts.convert(case.graph, recipe(**settings), case.calibration)
        for recipe in (ECC, WeightNormalisation, ThresholdBalancing)
    ]
    traces = [ts.simulate(snn, case.x, STEPS, record=cells(snn)) for snn in networks]
    assert_fires(networks[0], traces[0], STEPS)
    assert_same_spikes(traces[0], traces[1])
    assert_same_spikes(traces[0], traces[2])


def test_neurons_that_share_weights_cannot_be_scaled_alone():
    shared = ts.ops.Linear(weight=torch.eye(2))
    neuron = ts.neurons.IntegrateAndFire(None, torch.tensor(1.0), torch.tensor(0.0))
    node = ts.core.graph.Node
    graph = ts.Graph((
        node("input", ts.core.graph.Input((2,))), node("fc", shared, ("input",)), node("a", neuron, ("fc",)),
        node("b", neuron, ("fc",)), node("cat", ts.ops.Cat(), ("a", "b")), node("out", ts.ops.Linear(weight=torch.ones(1, 4)), ("cat",)),
    ))  # fmt: skip
    lowered = lower(graph, None, ts.core.alphabet.GRADED)
    with pytest.raises(UnsupportedModel, match="a shares its weights"):
        scaled(lowered, {"a": 2.0})
