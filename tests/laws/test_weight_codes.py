"""Logarithmic weights, the processing element's integers, and bits of −1 and +1."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import transpike as ts
from transpike.recipes import YOSO
from transpike.weights import ProcessingElement, bipolar_product, bits_of, from_bits, logarithmic, uniform

# bits, fraction bits z → dB of Gaussian weights, where the base and not the range is the limit (reference, 1.1.4)
LIMITS = {(5, 0): 13.9, (6, 0): 13.9, (6, 1): 20.0, (6, 2): 26.0}
RANGED = {(4, 1): 17.9, (4, 2): 11.6, (5, 1): 20.0, (5, 2): 22.0}  # theirs has no code for zero below the smallest


def decibel(weight: torch.Tensor, values: torch.Tensor) -> float:
    return 10 * math.log10(float(weight.square().mean() / (weight - values).square().mean()))


@pytest.mark.parametrize("setting", LIMITS)
def test_the_noise_of_gaussian_weights_is_that_of_the_reference(setting):
    torch.manual_seed(0)
    weight = torch.randn(1, 100_000, dtype=torch.float64)
    assert decibel(weight, logarithmic(weight, *setting).values) == pytest.approx(LIMITS[setting], abs=0.1)


@pytest.mark.parametrize("setting", RANGED)
def test_where_the_range_is_the_limit_a_code_for_zero_helps(setting):
    torch.manual_seed(0)
    weight = torch.randn(1, 100_000, dtype=torch.float64)
    assert decibel(weight, logarithmic(weight, *setting).values) > RANGED[setting] - 0.1


@settings(max_examples=60)
@given(
    st.integers(0, 2**31), st.integers(3, 8), st.sampled_from([None, 0, 1, 2, 3]), st.sampled_from(["layer", "channel"])
)
def test_values_are_the_nearest_codes_and_stay_themselves(seed, bits, z, granularity):
    weight = torch.randn(4, 9, generator=torch.Generator().manual_seed(seed)).double()
    codes = logarithmic(weight, bits, z, granularity)
    assert int(codes.exponents.max()) <= 2 ** (bits - 1) - 2 and int(codes.exponents.min()) >= 0
    if granularity == "channel":
        assert torch.equal(codes.full_scale.log2(), codes.full_scale.log2().round())  # a shift, no multiplier
    scale = codes.full_scale.reshape(-1, 1) if granularity == "channel" else codes.full_scale
    inside = (weight.abs() <= scale) & (codes.signs != 0)
    ratio = (codes.values / weight)[inside].abs().log2()
    last = 2.0 ** -((2 ** (bits - 1) - 2) / 2**codes.fraction_bits)
    held = weight.abs()[inside] >= (last * scale.expand_as(weight))[inside]
    assert bool((ratio[held].abs() <= 0.5 / 2**codes.fraction_bits + 1e-9).all())


def test_the_best_base_is_chosen():
    torch.manual_seed(0)
    weight = torch.randn(8, 500).double()
    chosen = logarithmic(weight, 5)
    errors = [float((weight - logarithmic(weight, 5, z).values).square().sum()) for z in range(4)]
    assert chosen.fraction_bits == errors.index(min(errors)) == 2
    assert decibel(weight, uniform(weight, 5)) > 15  # the same bits on a uniform scale, for comparison


def test_the_table_and_its_error_are_those_of_the_reference():
    element = ProcessingElement(1, 2, guard=24)
    assert element.table == (4096, 3444, 2896, 2435)
    worst = max(
        abs(element.product(1, q, t) * element.unit / 2 ** -(q / 2 + t / 4) - 1) for q in range(16) for t in range(24)
    )
    assert worst == pytest.approx(2.0e-4, abs=2e-5)


@settings(max_examples=60)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(4, 16), st.integers(0, 16), st.integers(0, 40))
def test_many_products_are_the_specification_bit_for_bit(z, k, table_bits, guard, slot):
    element = ProcessingElement(z, k, table_bits, guard)
    exponents = torch.arange(64).repeat(3)
    signs = torch.tensor([-1, 0, 1]).repeat_interleave(64)
    found = element.products(signs, exponents, slot).tolist()
    assert found == [element.product(s, q, slot) for s, q in zip(signs.tolist(), exponents.tolist(), strict=True)]


def network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4)
    )  # fmt: skip
    return model.eval(), torch.rand(24, 1, 8, 8)


@pytest.mark.parametrize("entrance", ["analogue", "spikes"])
def test_a_layer_on_the_processor_sums_the_specified_products(entrance):
    model, x = network()
    snn = ts.convert(model, YOSO(weight_bits=5, kernel_bits=20, input=entrance), x)
    run = ts.run_processor(snn, x)
    # the second convolution, neuron by neuron, from the spikes of the first
    element = run.elements["3"]
    errors = {layer.name: layer for layer in run.layers}
    # the processor's table has 12 bits, and a neuron hears 54 weights
    assert 0 < errors["4"].largest_error < 54 * 2**-12 and errors["4"].products > 0
    assert element.time_bits == 2 and errors["4"].moved < 0.01
    fine = ts.run_processor(snn, x, table_bits=24, guard=20)
    assert {layer.name: layer for layer in fine.layers}["4"].largest_error < errors["4"].largest_error / 100
    # its logits are those of the simulation, but for levels of 20 bits
    near = (fine.logits - snn(x)).abs().amax(1) < 2e-3 * snn(x).abs().max()
    assert float(near.float().mean()) > 0.8  # a slot that moved, where κ(t) lies at a threshold, changes an answer


def test_one_synapse_by_hand():
    """Two spikes, two weights: the accumulator holds the sum of the two specified products."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.tensor([[1.0, 0.5]]))
    snn = ts.convert(
        model, YOSO(weight_bits=5, thresholds_by="percentile", percentile=100.0), torch.eye(2).repeat(8, 1)
    )
    run = ts.run_processor(snn, torch.tensor([[1.0, 0.5]]))
    element = run.elements["2"]
    total = element.product(1, 0, 0) + element.product(1, 2**element.weight_bits, 4)
    assert total * element.unit == pytest.approx(1.25)
    assert {layer.name: layer.largest_error for layer in run.layers}["3"] < 1e-6


class Joined(nn.Module):
    """Two branches of neurons that are joined, and pooled."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1), pool
        self.c, self.head = nn.Conv2d(8, 6, 3, padding=1), nn.Linear(6 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.a(x).clamp(0, 1), self.b(x).clamp(0, 1)], 1)
        return self.head(self.c(self.pool(x)).clamp(0, 2).flatten(1))


def on_clips(pool: nn.Module, **settings: object) -> tuple[ts.SNN, torch.Tensor]:
    torch.manual_seed(0)
    model, x = Joined(pool).eval(), torch.rand(24, 1, 8, 8)
    with torch.no_grad():
        model.c.weight.mul_(2)
    return ts.convert(model, ts.recipes.CAT(24, weight_bits=5, kernel_bits=20, **settings), x), x


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "maximum"])
def test_spikes_that_were_joined_pooled_and_moved_are_products_of_shifts_too(pool):
    snn, x = on_clips(pool)
    run = ts.run_processor(snn, x)
    assert run.elements.keys() == {"c", "head"}
    errors = {layer.name: layer for layer in run.layers}
    heard = next(layer for name, layer in errors.items() if layer.products)
    assert 0 < heard.largest_error < 8 * 9 * 2**-12
    # as many products as the simulation counts synaptic operations before that layer
    counted = {layer.name: layer for layer in ts.simulate(snn, x).activity.layers}
    entering = [layer for name, layer in counted.items() if name in list(errors)[:2] or layer.role == "cell"]
    operations = sum(float(one.synaptic_operations.sum()) for one in entering) / len(x)
    assert heard.products == pytest.approx(operations)


def test_products_that_are_no_shifts_are_refused_by_name():
    snn, x = on_clips(nn.AvgPool2d(3, 2, 1))
    with pytest.raises(ts.errors.UnsupportedModel, match=r"c receives averages over a number .* not a power of two"):
        ts.run_processor(snn, x)
    torch.manual_seed(0)
    model, x = Joined(nn.AvgPool2d(2)).eval(), torch.rand(24, 1, 8, 8)
    two = ts.convert(model, YOSO(24, weight_bits=5), x)  # a threshold for each branch
    with pytest.raises(ts.errors.UnsupportedModel, match="c receives currents, or spikes of different scales"):
        ts.run_processor(two, x)


def test_networks_that_the_processor_cannot_run_are_refused():
    model, x = network()
    refused = {
        "not logarithmic": YOSO(),
        "fire once": ts.recipes.ECC(timesteps=8),
        "base 2": ts.recipes.T2FSNN(wait_steps=80, epochs=0, weight_bits=5),
        "a tau of 1, 2, 4": YOSO(tau=3.0, weight_bits=5),
        "each channel": YOSO(weight_bits=5, granularity="channel"),
    }
    for words, recipe in refused.items():
        with pytest.raises(ts.TranspikeError, match=words):
            ts.run_processor(ts.convert(model, recipe, x), x)


@settings(max_examples=80)
@given(st.integers(1, 6), st.data())
def test_bits_of_minus_one_and_one_are_the_number(bits, data):
    values = torch.tensor(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=9))) * 2.0 - (
        2**bits - 1
    )
    planes = bits_of(values, bits)
    assert set(planes.unique().tolist()) <= {-1.0, 1.0} and torch.equal(from_bits(planes), values)


def test_bits_of_narrow_whole_numbers_are_those_of_wide_ones():
    small = torch.tensor([127, -127, 1])
    assert torch.equal(bits_of(small.to(torch.int8), 7), bits_of(small, 7))
    assert bits_of(torch.tensor([3, 1, 1], dtype=torch.uint8), 2).min() == -1


@pytest.mark.parametrize("weight", [torch.tensor([[math.nan, 1.0]]), torch.tensor([[math.inf, 1.0]]), torch.zeros(0, 3), torch.tensor(1.0)])  # fmt: skip
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_weights_that_no_logarithmic_code_stands_for_are_refused(weight, granularity):
    with pytest.raises(ts.errors.SettingError, match=r"NaN or infinite|numbers in rows"):
        logarithmic(weight, 5, granularity=granularity)


def test_the_bits_of_the_reference():
    for bits in (1, 2, 3, 4):
        x = torch.arange(-(2**bits - 1), 2**bits, 2).double()
        u = ((x + 2**bits - 1) / 2).long()
        for m, plane in enumerate(bits_of(x, bits)):
            assert torch.equal(plane, (2 * ((u >> m) & 1) - 1).double())


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_binary_products_add_up_to_the_integer_product_exactly(m, k, seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2**m, (3, 4, 6, 6), generator=random).double() * 2 - (2**m - 1)
    w = torch.randint(0, 2**k, (5, 4, 3, 3), generator=random).double() * 2 - (2**k - 1)
    calls = []

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append((a.abs().max(), b.abs().max()))
        return F.conv2d(a, b)

    assert torch.equal(bipolar_product(x, w, m, k, product), F.conv2d(x, w))
    assert len(calls) == m * k and all(float(a) == float(b) == 1 for a, b in calls)


def test_numbers_without_such_bits_are_refused():
    for value in (0.0, 2.0, 5.0, 0.5):
        with pytest.raises(ts.errors.DataError, match="and no zero"):
            bits_of(torch.tensor([value]), 2)
    with pytest.raises(ts.errors.SettingError, match="bits must be"):
        bits_of(torch.tensor([1.0]), 0)
    for bad in (2, 13, 2.5):
        with pytest.raises(ts.errors.SettingError, match="3 to 12 bits"):
            logarithmic(torch.ones(2, 2), bad)
