"""Neurons of several thresholds: groups, ladders, and ladders of differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from measured import alone, counts
from networks import cells
from transpike.activations import ReLU
from transpike.neurons import DifferentialMultiThreshold, MultiThreshold
from transpike.neurons.multi_threshold import nearest_threshold
from transpike.passes.thresholds.gaussian import gaussian_threshold
from transpike.recipes import DCGS, ECC, HMT, QCFS, GroupNeuron

T, CLIP = 6, 2.0
SEEDS = st.integers(0, 10_000)


def charges(seed: int, steps: int = 12, size: int = 9) -> Tensor:
    """(time, batch, size) multiples of 1/64 between −1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-64, 129, (steps, 2, size), generator=generator).double() / 64


def theta(sixteenths: int) -> Tensor:
    return torch.tensor(sixteenths / 16, dtype=torch.float64)


def scan(cell, train: Tensor) -> tuple[object, Tensor]:
    state, sent = cell.init(train[0]), []
    for t, x in enumerate(train):
        state, output = cell.step(state, x, t=t + 1)
        sent.append(output)
    return state, torch.stack(sent)


@pytest.mark.parametrize("members", [1, 3, 4])
def test_a_group_has_its_members_levels_in_every_step(members):
    z = (torch.arange(200) + 0.37) / 80
    total = alone(GroupNeuron(timesteps=T, members=members), z, clip=CLIP).sum(0)
    assert torch.equal(total, torch.floor(z * T * members / CLIP + 0.5).clamp(0, T * members))
    assert torch.equal(total, alone(QCFS(timesteps=T), z, clip=CLIP).sum(0)) == (members == 1)


def test_a_group_on_a_changing_current_is_its_members_one_by_one():
    """Thresholds λ/m … λ on one membrane that starts from λ/2m: all that lie at or below it fire."""
    members = 4
    snn = ts.convert(
        nn.Sequential(nn.Linear(2, 1, bias=False), nn.Hardtanh(0, CLIP), nn.Linear(1, 1)), GroupNeuron(T, members=members),
        torch.rand(16, 2),
    )  # fmt: skip
    cell, train = snn.graph["1"].op, 2 * charges(0, T, 1)[:, :1].float()
    potential, expected = torch.full((1, 1), CLIP / (2 * members)), []
    for x in train:
        potential = potential + x
        fired = sum((potential >= CLIP / members * i).float() for i in range(1, members + 1))
        potential = potential - CLIP / members * fired
        expected.append(fired)
    assert torch.equal(scan(cell, train)[1], torch.stack(expected)) and float(torch.stack(expected).max()) > 1


@given(SEEDS, st.integers(1, 6), st.integers(1, 12))
def test_any_thresholds_fire_greedily_from_the_top(seed, threshold_count, sixteenths):
    """One after another, each at most once a step: the bits of the level."""
    lowest, train = theta(sixteenths) / 8, charges(seed)
    cell = MultiThreshold(ReLU(), lowest, lowest / 2, threshold_count)
    potential, expected, spikes = (lowest / 2).expand_as(train[0]).clone(), [], []
    for x in train:
        potential = potential + x
        level, count = torch.zeros_like(potential), torch.zeros_like(potential)
        for threshold in reversed(range(threshold_count)):
            fired = (potential >= lowest * 2**threshold).double()
            potential = potential - fired * lowest * 2**threshold
            level, count = level + fired * 2**threshold, count + fired
        expected.append(level)
        spikes.append(count)
    assert torch.equal(scan(cell, train)[1], torch.stack(expected))
    assert float(torch.stack(spikes).max()) <= threshold_count


def test_a_level_costs_a_spike_for_each_of_its_ones():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    nn.init.ones_(model[0].weight)
    snn = ts.convert(model, HMT(timesteps=1, threshold_count=3), torch.rand(64, 1), exact_grid=False)
    lowest = float(snn.graph["1"].op.threshold)
    x = lowest * torch.arange(8.0)[:, None]  # v(0) is half a threshold, so that levels are 0 … 7
    activity = ts.simulate(snn, x).activity
    layer = next(layer for layer in activity.layers if layer.role == "neuron")
    assert counts(snn, x)["1"].flatten().tolist() == list(range(8))
    assert float(layer.spikes.sum()) == sum(bin(k).count("1") for k in range(8)) == 12
    assert layer.payload_bits == 2  # which of three thresholds


@pytest.mark.parametrize("levels", [1, 3, 7, 15, 64, 255])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-1.0, 0.5), (1.5, 2.0), (1.5, 0.2), (5.0, 0.1)])
def test_gaussian_thresholds_have_the_least_squared_error(levels, mean, deviation):
    """Against every threshold on a grid, by integration over z."""
    z = torch.linspace(mean - 8 * deviation, mean + 8 * deviation, 40_001, dtype=torch.float64)
    density = torch.exp(-((z - mean) / deviation).square() / 2)

    def error(top: float) -> float:
        floor_clip = torch.floor(z * levels / top + 0.5).clamp(0, levels) * top / levels
        return float((density * (z.clamp(min=0) - floor_clip).square()).sum() / density.sum())

    found = float(gaussian_threshold(torch.tensor([mean]), torch.tensor([deviation]), levels))
    best = min(error(k / 250 * (abs(mean) + 6 * deviation)) for k in range(5, 250))
    assert error(found) <= best * 1.003
    assert error(0.7 * found) > error(found) < error(1.4 * found)


@pytest.mark.parametrize(
    ("recipe", "floor_clip", "threshold_count"),
    [(HMT(), 15, 4), (HMT(threshold_count=8), 255, 8), (DCGS(), 64, 8)],
    ids=str,
)
def test_recipes_make_their_multi_thresholds_of_that_threshold(recipe, floor_clip, threshold_count):
    """H-MT's stairs are all sums of its thresholds, up to it; DCGS's top threshold is it."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    nn.init.ones_(model[0].weight)
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    snn = ts.convert(model, recipe, x, exact_grid=False)
    top = gaussian_threshold(x.double().mean()[None], x.double().std(correction=0)[None], floor_clip)
    (cell,) = (node.op for node in snn.graph.cells if isinstance(node.op, MultiThreshold | DifferentialMultiThreshold))
    assert cell.threshold_count == threshold_count
    levels = 2**threshold_count - 1 if isinstance(recipe, HMT) else 2 ** (threshold_count - 1)
    assert float(levels * cell.threshold) == pytest.approx(float(top), rel=1e-4)


def test_a_channel_that_is_never_positive_has_no_gaussian_threshold():
    found = gaussian_threshold(torch.tensor([-50.0, 0.5]), torch.tensor([1.0, 0.0]), 7)
    assert float(found[0]) == 0 and float(found[1]) == pytest.approx(0.5)


def test_thresholds_of_h_mt_are_those_of_its_currents():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 2)), torch.randn(4000, 64)
    snn = ts.convert(model, HMT(threshold_count=3), x)
    with torch.no_grad():
        z = model[0](x)
    wanted = gaussian_threshold(z.mean(0), z.std(0, correction=0), 7) / 7
    # moments in float64 of currents in float32
    assert torch.allclose(snn.graph["1"].op.threshold.double(), wanted, rtol=1e-4)


@given(SEEDS, st.integers(1, 8), st.integers(4, 40))
def test_one_signed_threshold_leaves_at_most_half_of_it(seed, threshold_count, sixteenths):
    lowest, train = theta(sixteenths) / 16, charges(seed)
    cell = MultiThreshold(ReLU(), lowest, torch.zeros_like(lowest), threshold_count, "one")
    sent, potential = torch.zeros_like(train[0]), torch.zeros_like(train[0])
    state = cell.init(train[0])
    for t, x in enumerate(train):
        potential = potential + x
        state, levels = cell.step(state, x, t=t + 1)
        size = levels.abs()
        assert bool(((size == 0) | (torch.log2(size.clamp(min=1)) % 1 == 0)).all()) and float(size.max()) <= 2 ** (
            threshold_count - 1
        )
        inner = (size < 2 ** (threshold_count - 1)) & (
            potential > 0
        )  # neither the top rung nor held back by what was sent
        left = potential - levels * lowest
        assert bool((left[inner].abs() <= torch.maximum(size / 2, torch.tensor(0.75))[inner] * lowest + 1e-12).all())
        sent, potential = sent + levels, left
        assert bool((sent >= 0).all())
    assert torch.equal(state[0], potential)


def test_the_highest_threshold_is_chosen_whose_three_quarters_are_reached():
    just_below = 1 - 2.0**-50
    sizes = torch.tensor(
        [0.5, 0.75 * just_below, 0.75, 1.5 * just_below, 1.5, 3 * just_below, 3.0, 100.0], dtype=torch.float64
    )
    assert nearest_threshold(sizes, 3, torch.zeros(8, dtype=torch.float64)).tolist() == [0, 0, 1, 1, 2, 2, 4, 4]
    sent = torch.tensor([8.0, 8.0, 8.0, 8.0, 1.0, 2.0, 3.0, 0.0], dtype=torch.float64)  # of which no more is taken back
    assert nearest_threshold(-sizes, 3, sent).tolist() == [0, 0, -1, -1, -1, -2, -2, 0]


@given(SEEDS, st.integers(2, 8), st.integers(4, 40))
def test_differences_are_rate_coding_in_other_letters(seed, threshold_count, sixteenths):
    """A rate neuron that hears x + r_in and sends s + r_out, v its input less its output; both are means of rates."""
    lowest, train = theta(sixteenths) / 16, charges(seed)
    cell = DifferentialMultiThreshold(ReLU(), lowest, torch.zeros_like(lowest), threshold_count)
    (potential, heard, sent), levels = scan(cell, train)
    rate_in, rate_out = [], []
    estimate_in, estimate_out = torch.zeros_like(train[0]), torch.zeros_like(train[0])
    for t, (x, s) in enumerate(zip(train, levels, strict=True), 1):
        rate_in.append(x + estimate_in)
        rate_out.append(s * lowest + estimate_out)
        estimate_in, estimate_out = estimate_in + x / t, estimate_out + s * lowest / t
        assert bool((estimate_out >= -1e-12).all())
    mean_in, mean_out = torch.stack(rate_in).mean(0), torch.stack(rate_out).mean(0)
    # sums of quotients, in float64
    assert torch.allclose(mean_in, heard, atol=1e-9) and torch.allclose(mean_out, sent, atol=1e-9)
    assert torch.allclose(potential, len(train) * (heard - sent), atol=1e-8)


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)
    )
    x = torch.rand(64, 1, 8, 8)
    model(x)
    return model.eval(), x


def test_a_network_of_differences_settles_and_falls_silent():
    """Constants come once: later steps bring only corrections, where a rate code goes on as it began."""
    model, x = network()
    snn = ts.convert(model, DCGS(timesteps=24), x)
    trace = ts.simulate(snn, x[:16])
    with torch.no_grad():
        error = (trace.logits - model(x[:16])).abs().mean((1, 2)) / model(x[:16]).abs().mean()
    spikes = torch.stack([layer.spikes for layer in trace.activity.layers if layer.role == "neuron"]).sum(0)
    assert float(error[3]) < 0.1 and float(error[-1]) < 0.25 * float(error[3])
    assert float(spikes[-4:].mean()) < 0.5 * float(spikes[:4].mean())
    rates = ts.simulate(ts.convert(model, ECC(timesteps=24), x), x[:16]).activity
    time_invariant = torch.stack([layer.spikes for layer in rates.layers if layer.role == "neuron"]).sum(0)
    assert float(time_invariant[-4:].mean()) > 0.8 * float(time_invariant[4:8].mean())


def test_engines_agree_on_differences_and_a_run_may_go_on():
    model, x = network()
    snn = ts.convert(model, DCGS(timesteps=9), x)
    runs = [ts.simulate(snn, x[:5], record=cells(snn), engine=e) for e in ("reference", "dense", "auto")]
    for run in runs[1:]:
        assert torch.allclose(run.logits, runs[0].logits, rtol=1e-6, atol=0)
    parts = ts.engines.Dense().start(snn.program, x[:5], torch.arange(5))
    logits = torch.cat([parts.advance(4), parts.advance(5)])
    assert torch.equal(logits, runs[1].logits)
    parts = ts.engines.Dense().start(snn.program, x[:5], torch.arange(5))
    parts.advance(4)
    order = parts.keep(torch.tensor([True, False, True, False, True]))
    assert order.tolist() == [0, 4, 2], "the hole is filled from the end"
    assert torch.equal(parts.advance(5), runs[1].logits[4:, order])
    assert not runs[0].exact and "not on a grid" in runs[0].why


def test_biases_and_the_analogue_layer_are_counted_once():
    model, x = network()
    activity = ts.simulate(ts.convert(model, DCGS(timesteps=8), x), x[:2]).activity
    rates = ts.simulate(ts.convert(model, ECC(timesteps=8), x), x[:2]).activity
    once, often = ([layer.biases for layer in a.layers if layer.role == "neuron"] for a in (activity, rates))
    assert once == [biases // 8 for biases in often] and sum(once) > 0
    assert activity.macs["0"] == rates.macs["0"] == 8 * 6 * 6 * 9  # the first layer's current is worked out once
    half = activity.until(4, activity.macs)
    assert [layer.biases for layer in half.layers] == [layer.biases for layer in activity.layers]


def test_what_runs_layer_by_layer_or_learns_in_time_refuses_differences():
    model, x = network()
    snn, y = ts.convert(model, DCGS(timesteps=4), x), torch.zeros(64, dtype=torch.long)
    with pytest.raises(ts.TranspikeError, match="explanations do not support differences"):
        ts.explain(snn, (x, y))
    with pytest.raises(ts.TranspikeError, match=r"fine-tuning supports streaming and whole windows, not Differences"):
        ts.finetune(snn, (x, y), epochs=1, learning_rate=1e-3)
    assert ts.record(snn, x[:1]).to_json()  # a record is of single steps


def test_a_multi_threshold_says_how_many_levels_a_run_has():
    model, x = network()
    quantised_baseline = ts.convert(model, HMT(timesteps=4, threshold_count=4), x)
    alphabet = next(
        quantised_baseline.lowered.alphabets[n.name] for n in quantised_baseline.graph.cells if n.op.unit is not None
    )
    assert str(alphabet) == "4 powers of two" and alphabet.levels == 15
    assert math.log2(alphabet.levels + 1) == 4
