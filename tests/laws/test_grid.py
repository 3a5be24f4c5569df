"""The exact grid: what is promised exact is exact, and what is not exact says so."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import transpike as ts
from networks import assert_fires, cases, cells, mlp, network, settle, single_neuron, small_cnn
from transpike.encoders import FirstSpikes
from transpike.recipes import BSNN, ECC, YOSO


@settings(max_examples=40)
@given(cases(), st.sampled_from(["layer", "channel"]), st.sampled_from([5, 12, 16, 31]))
def test_every_small_network_has_a_grid_for_the_steps_it_was_made_for(case, granularity, timesteps):
    snn = ts.convert(case.graph, ECC(timesteps=timesteps, granularity=granularity), case.calibration)
    assert snn.exactness.timesteps >= timesteps, snn.exactness.reason


@pytest.mark.parametrize("encoder", ts.encoders.members)
@pytest.mark.parametrize("timesteps", [4, 16])
def test_every_encoder_leaves_room_for_a_grid(encoder, timesteps):
    for case in (mlp(), small_cnn()):
        x = case.calibration
        if encoder.has_frames:  # of events, as many as there are steps
            x = torch.sign(x)[:, None].repeat(1, timesteps, *(1,) * (x.ndim - 1))
            x = x if encoder.alphabet.signed else x.clamp(min=0)
        if encoder is FirstSpikes:
            recipe, x = YOSO(timesteps, tau=2.0, input="spikes"), x.abs()
        elif encoder.alphabet.kind == "phase":
            period = min(timesteps, 8)
            recipe = BSNN(timesteps, period, encoder=encoder(period=period))
        else:
            recipe = ECC(timesteps, encoder=encoder())
        snn = ts.convert(case.graph, recipe, x)
        assert snn.exactness.timesteps >= timesteps, snn.exactness.reason


@settings(max_examples=40)
@given(cases(), st.sampled_from(["layer", "channel", "neuron"]))
def test_exact_means_that_float32_logits_are_the_float64_ones(case, granularity):
    snn = ts.convert(case.graph, ECC(timesteps=16, granularity=granularity), case.calibration)
    dense, reference = ts.simulate(snn, case.x, 16), ts.simulate(snn, case.x, 16, engine="reference")
    assume(dense.exact)
    assert torch.equal(dense.logits, reference.logits)


@given(cases(), st.integers(0, 100))
def test_a_run_to_the_end_of_the_grid_with_the_worst_inputs_is_exact_or_says_that_it_is_not(case, seed):
    snn = ts.convert(case.graph, ECC(timesteps=8), case.calibration)
    steps = min(snn.exactness.timesteps, 200)
    assume(steps > 0)
    signs = torch.randint(0, 2, case.x.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    x = signs * 1.249 * snn.encoder.largest
    dense, reference = (
        ts.simulate(snn, x, steps, engine=engine, record=cells(snn)) for engine in ("dense", "reference")
    )
    same = all(torch.equal(train.double(), reference.trains[name]) for name, train in dense.trains.items())
    assert same or not dense.exact


@given(cases())
def test_exact_means_that_every_current_fits_into_float32(case):
    snn = ts.convert(case.graph, ECC(timesteps=16), case.calibration)
    assume(snn.exactness.timesteps >= 16)
    lowered = snn.program.lowered
    for node in lowered.nodes:
        if node.name not in lowered.time_invariant:
            for field, value in node.op.tensors().items():  # the cells carry the biases
                assert field == "bias" or torch.equal(value, value.float().double()), node.name
    for name, biases in lowered.biases.items():
        assert all(torch.equal(bias, bias.float().double()) for bias in biases), name


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_an_average_of_currents_is_exact_or_says_that_it_is_not(size):
    # no neuron lies before the average, and most of these windows have no power of two of elements
    torch.manual_seed(size)
    x = torch.rand(32, 1, 2 * size, 2 * size) * 2 - 1
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.AvgPool2d(size), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip
    snn = ts.convert(settle(model, x), ECC(timesteps=16), x[:24])
    dense = ts.simulate(snn, x[24:], 16, record=cells(snn))
    reference = ts.simulate(snn, x[24:], 16, engine="reference", record=cells(snn))
    assert_fires(snn, dense, 16)
    same = all(torch.equal(dense.trains[name].double(), reference.trains[name]) for name in dense.trains)
    assert (same and torch.equal(dense.logits, reference.logits)) or not dense.exact


@pytest.mark.parametrize("seed", range(6))
def test_a_mean_over_neurons_of_different_spike_scale_is_exact_or_says_that_it_is_not(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 2))
    x = torch.rand(24, 1, 7)
    snn = ts.convert(model, ECC(timesteps=16, granularity="neuron"), x[:16])
    dense, reference = ts.simulate(snn, x[16:], 16), ts.simulate(snn, x[16:], 16, engine="reference")
    assert torch.equal(dense.logits, reference.logits) or not dense.exact


def test_a_run_longer_than_the_grid_carries_loses_the_word_exact():
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(timesteps=4), case.calibration)
    limit = snn.exactness.timesteps
    assert 4 <= limit < 1000
    assert ts.simulate(snn, case.x, limit).exact
    beyond = ts.simulate(snn, case.x, limit + 1)
    assert not beyond.exact and f"exact up to {limit} steps" in beyond.why


def test_an_input_beyond_the_calibrated_range_is_reported():
    case = mlp()
    snn = ts.convert(case.graph, ECC(timesteps=4), case.calibration).accepting_any_input()
    assert ts.simulate(snn, case.calibration).exact
    trace = ts.simulate(snn, 10 * case.calibration)
    assert not trace.exact and "beyond the calibrated range" in trace.why


def test_spikes_cannot_lie_beyond_the_range():
    case = mlp()
    snn = ts.convert(case.graph, ECC(timesteps=4, encoder=ts.encoders.Poisson()), case.calibration)
    snn = snn.accepting_any_input()
    assert ts.simulate(snn, 10 * case.calibration).exact


def test_one_sample_out_of_range_makes_a_split_batch_inexact():
    case = mlp()
    snn = ts.convert(case.graph, ECC(timesteps=4), case.calibration)
    x = case.calibration[:4].clone()
    x[2] *= 10
    trace = ts.simulate(snn, x, memory=1)
    assert not trace.exact and "beyond the calibrated range" in trace.why


def test_an_analogue_operator_inside_leaves_no_grid_and_says_which():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 2))
    x = torch.rand(16, 4)
    snn = ts.convert(model, ECC(timesteps=4), x, on_unsupported="keep")
    trace = ts.simulate(snn, x)
    assert not trace.exact and trace.why.startswith("3 is analogue")
    assert any("silu" in remark and "analogue" in remark for remark in snn.remarks)


def test_without_a_grid_nothing_is_called_exact():
    case = mlp()
    snn = ts.convert(case.graph, ECC(timesteps=4), case.calibration, exact_grid=False)
    assert snn.exactness is None
    assert ts.simulate(snn, case.x).why == "the network is not on the exact grid"


def test_the_grid_follows_the_network_closely():
    # 16 steps leave 2^24 / (16 · growth) grid steps for a weight: a thousandth of the largest is far on the safe side
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(timesteps=16, encoder=ts.encoders.ConstantCurrent()), case.calibration)
    assert 0 < snn.exactness.rounding < 1e-3
    rough = ts.simulate(snn, case.x, 16).logits[-1]
    fine = ts.convert(case.graph, ECC(timesteps=16), case.calibration, exact_grid=False)
    assert torch.allclose(rough, ts.simulate(fine, case.x, 16).logits[-1], rtol=0, atol=0.2 * float(rough.abs().max()))


def test_a_weight_on_the_grid_stays_where_it_is():
    snn = single_neuron(0.25)
    table = {node.name: node.op for node in snn.program.lowered.nodes}
    assert float(table["weight"].weight) == 0.25 and float(table["neuron"].threshold) == 1.0


def test_the_networks_of_these_tests_fire():
    rates = []
    for seed in range(20):
        case = network(seed)
        snn = ts.convert(case.graph, ECC(timesteps=8), case.calibration)
        trace = ts.simulate(snn, case.x, 8)
        rates.append(sum(float(layer.spikes.sum()) for layer in trace.activity.layers if layer.role == "neuron"))
    assert all(rate > 0 for rate in rates)
