"""Published recipes for transformers: ST-BIF neurons, expectation compensation, differential coding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from stored import stored
from transpike.activations import Function, QuantisedClip, Quantiser, ReLU, Staircase, Unchanged
from transpike.core.pass_ import Context
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import RateProduct, SigmaDelta, SignedMultiThreshold, SpikeProduct, TemporalDifference
from transpike.ops import Product
from transpike.ops.analogue import AnalogueOp
from transpike.passes import JoinQuantisers
from transpike.recipes import DCGS, ECMT, SpikeZIP

SCALE = 0.25
SEEDS = st.integers(0, 10_000)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neuron(lowest: int, highest: int, threshold_count: int = 1) -> SigmaDelta:
    scale = torch.tensor(SCALE).double()
    return SigmaDelta(Quantiser(scale, lowest, highest), scale, torch.zeros(()).double(), threshold_count)


def streams(seed: int, steps: int = 24) -> Tensor:
    """(time, 1, neurons): differences of either sign, then silence; no sum lies at the edge of a level."""
    sent = torch.zeros(steps + 40, 1, 50).double()
    sent[:steps] = random(seed, steps, 1, 50) * SCALE
    return sent


@given(SEEDS, st.sampled_from([(0, 16), (-8, 7), (-1, 1)]))
def test_a_neuron_with_one_threshold_is_st_bif_step_by_step(seed, levels):
    """The published neuron: a potential from ½ in units of the scale, and a counter of what was sent."""
    lowest, highest = levels
    train = streams(seed)
    potential, sent = torch.full_like(train[0], 0.5), torch.zeros_like(train[0])
    cell = neuron(lowest, highest)
    state = cell.init(train[0])
    for t, x in enumerate(train, 1):
        potential = potential + x / SCALE
        spikes = ((potential >= 1) & (sent < highest)).double() - ((potential < 0) & (sent > lowest)).double()
        potential, sent = potential - spikes, sent + spikes
        state, levels_sent = cell.step(state, x, t=t)
        assert torch.equal(levels_sent, spikes)


@given(SEEDS, st.sampled_from([(0, 16), (-8, 7)]), st.integers(1, 5))
def test_the_fixed_point_is_the_quantised_value_for_any_number_of_thresholds(seed, levels, threshold_count):
    lowest, highest = levels
    train = streams(seed)
    cell = neuron(lowest, highest, threshold_count)
    out = cell.window(train)
    assert torch.equal(out.sum(0), (train.sum(0) / SCALE).round().clamp(lowest, highest))
    assert not bool(out[-10:].any()) and bool((out < 0).any())
    assert float(out.abs().max()) <= 2 ** (threshold_count - 1)


def quantised(x: Tensor, scale: float, lowest: int = -16, highest: int = 15) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, scale, 0, lowest, highest)


class Quantised(nn.Module):
    """A block of a transformer of five tokens whose values are quantised wherever weights or products read them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = quantised(x, 0.21)
        q, k, v = self.qkv(quantised(self.norm1(x), 0.23)).reshape(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = quantised(q, 0.11) @ quantised(k, 0.11).transpose(-1, -2)
        weights = quantised(scores.softmax(-1), 0.07, 0, 15)
        mixed = quantised((weights @ quantised(v, 0.11)).transpose(1, 2).reshape(-1, 5, 8), 0.07)
        x = x + quantised(self.out(mixed), 0.09)
        x = x + self.fc2(quantised(self.fc1(quantised(self.norm2(x), 0.23)).relu(), 0.09))
        return self.head(quantised(x.mean(1), 0.06))


def seeded(model: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return model().eval()


@pytest.mark.parametrize("threshold_count", [1, 4])
def test_a_settled_network_is_the_quantised_transformer(threshold_count, tmp_path):
    model, x = seeded(Quantised), random(1, 24, 5, 8).float()
    snn = ts.convert(model, SpikeZIP(threshold_count=threshold_count), x)
    assert sum(isinstance(node.op, SpikeProduct) for node in snn.graph) == 2
    trace, few = ts.simulate(snn, x), ts.simulate(snn, x[:2], engine="reference")
    assert trace.exact, trace.why
    assert torch.equal(few.logits, trace.logits[:, :2])
    values: dict[str, Tensor] = {}
    wide = snn.source.to(dtype=torch.float64)  # in float32 some values at the edge of a level are rounded apart
    expected = wide.run(x.double(), observe=lambda node, inputs, output: values.__setitem__(node.name, output))
    real = ts.convert(model, SpikeZIP(threshold_count=threshold_count), x, exact_grid=False)
    neurons = {node.name: node.op for node in real.graph if isinstance(node.op, SigmaDelta)}
    free = ts.simulate(real, x, record=[*neurons])
    for name, cell in neurons.items():
        assert torch.allclose(free.trains[name].double().sum(0) * cell.threshold.double(), values[name], atol=1e-6)
    assert torch.allclose(free.logits[-1].double(), expected, atol=1e-5)
    near = ((trace.logits[-1] - expected).abs() < 1e-3).all(1)
    assert int(near.sum()) >= 16  # the grid rounds weights, which moves few values to the next level
    assert float((trace.logits[0] - expected).abs().mean()) > 0.1
    layers = [layer for layer in trace.activity.layers if layer.role == "neuron"]
    assert sum(float(layer.spikes[-1]) for layer in layers) == 0
    settled = next(t for t in range(32) if not any(float(layer.spikes[t:].sum()) for layer in layers))
    assert (settled > 12) == (threshold_count == 1)
    ts.save(snn, tmp_path / "net.transpike")
    assert torch.equal(ts.load(tmp_path / "net.transpike")(x), snn(x))


def test_networks_of_quantised_clips_convert_too():
    model = nn.Sequential(
        nn.Linear(6, 8), QuantisedClip(4, 1.0), nn.Linear(8, 8), QuantisedClip(8, 1.0), nn.Linear(8, 3)
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for part in model[::2]:
            nn.init.normal_(part.weight, 0, 0.5)
    x = random(1, 64, 6).float()
    snn = ts.convert(model.eval(), SpikeZIP(), x)
    levels = [float(node.op.threshold) for node in snn.graph if isinstance(node.op, SigmaDelta)]
    assert levels == [0.25, 0.125]
    assert int(((snn(x) - model(x).detach()).abs() < 1e-3).all(1).sum()) >= 62


class Gelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.gelu(quantised(self.first(x), 0.1)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
            r"needs quantised activations.* 1 \(relu\)",
        ),
        (Gelu, r"read values that are not quantised, those of gelu"),
    ],
)
def test_a_network_that_is_not_quantised_is_refused_by_name(model, message):
    with pytest.raises(UnsupportedModel, match=message):
        ts.convert(model().eval(), SpikeZIP(), random(1, 16, 4).float())


def test_a_relu_is_part_of_the_quantiser_behind_it():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    wrapped = nn.Sequential(model, Last())
    x = random(2, 32, 4).float()
    before = ts.capture(wrapped.eval(), x)
    after = JoinQuantisers().apply(before, Context(before, (x,), timesteps=4))
    assert not any(isinstance(node.op, ReLU) for node in after)
    assert [node.op.lowest for node in after if isinstance(node.op, Quantiser)] == [0]
    assert torch.equal(after.run(x), before.run(x))


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(quantised(x, 0.1))


@pytest.mark.parametrize("matrices", [True, False])
def test_the_mean_of_a_product_of_rates_is_the_product_of_the_means(matrices):
    cell = RateProduct(Product(matrices))
    a, b = random(1, 9, 2, 5, 5), random(2, 9, 2, 5, 5)
    state, sent, alone = cell.init(a[0], b[0]), torch.zeros(2, 5, 5).double(), torch.zeros(2, 5, 5).double()
    for t in range(1, 10):
        state, output = cell.step(state, a[t - 1], b[t - 1], t=t)
        sent, alone = sent + output, alone + cell.op.run(a[t - 1], b[t - 1])
        expected = cell.op.run(a[:t].mean(0), b[:t].mean(0))
        assert torch.allclose(sent / t, expected, atol=1e-12)
    assert not torch.allclose(alone / 9, expected, atol=0.05)  # without compensation
    assert torch.allclose(cell.counts(a.sum(0), b.sum(0), timesteps=9), sent, atol=1e-12)


def test_the_mean_of_an_operator_of_rates_is_the_function_of_the_mean():
    op = AnalogueOp("aten.softmax.int", (("input", 0), -1))
    cell, x = TemporalDifference(op), random(3, 9, 2, 5)
    out = cell.window(x)
    for t in range(1, 10):
        assert torch.allclose(out[:t].mean(0), op.run(x[:t].mean(0)), atol=1e-12)
    alone = torch.stack([op.run(one) for one in x]).mean(0)
    assert not torch.allclose(alone, op.run(x.mean(0)), atol=0.01)


@given(SEEDS, st.integers(1, 8))
def test_the_mean_of_spikes_of_either_sign_is_that_of_the_input(seed, threshold_count):
    lowest = torch.tensor(2.0 ** (1 - threshold_count)).double()  # the highest threshold is 1
    cell = SignedMultiThreshold(Unchanged(), lowest, torch.zeros(()).double(), threshold_count)
    x = (torch.rand(40, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1)[None]
    out = cell.window(x.expand(12, 1, 40))
    size = out.abs()
    assert bool(((size == 0) | (torch.log2(size.clamp(min=1)) % 1 == 0)).all()) and float(size.max()) <= cell.most
    error = (out.mean(0) * lowest - x).abs()
    assert float(error.max()) <= max(0.75 * float(lowest), 0.5) / 12 + 1e-12 and bool((out < 0).any())


def test_it_encodes_and_stands_for_no_function():
    assert SignedMultiThreshold.stands_for(Unchanged()) is True
    for other in (ReLU(), Staircase(torch.tensor(1.0)), Function("aten.gelu.default", (("input", 0),))):
        assert "encodes values of either sign" in str(SignedMultiThreshold.stands_for(other))


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """64 training and 24 test images, prepared."""
    data = ts.data.load("digits")
    return tuple(
        data.preprocessing(split.batch(torch.arange(count))[0]) for split, count in ((data.train, 64), (data.test, 24))
    )


@pytest.mark.parametrize(
    ("recipe", "first", "last"), [(ECMT(16), 0.3, 0.1), (DCGS(8), 0.3, 0.05)], ids=["ecmt", "dcgs"]
)
def test_a_vision_transformer_converts_and_its_error_falls(recipe, first, last, digits, tmp_path):
    model, (calibration, x) = stored("vision-transformer"), digits
    snn = ts.convert(model, recipe, calibration)
    expected = model(x).detach()
    trace = ts.simulate(snn, x)
    error = (trace.logits - expected).norm(dim=(1, 2)) / expected.norm()
    assert float(error[0]) > first and float(error[-1]) < last
    assert float((trace.logits[-1].argmax(1) == expected.argmax(1)).float().mean()) >= 0.9
    kind = RateProduct if isinstance(recipe, ECMT) else SpikeProduct
    assert sum(isinstance(node.op, kind) for node in snn.graph) == 4
    assert 0 < trace.activity.product_operations < trace.activity.events
    reference = ts.simulate(snn, x[:2], engine="reference")
    assert torch.allclose(reference.logits, trace.logits[:, :2], rtol=1e-4, atol=1e-4)
    ts.save(snn, tmp_path / "net.transpike")
    assert torch.equal(ts.load(tmp_path / "net.transpike")(x[:2]), snn(x[:2]))


@pytest.mark.parametrize(
    ("scale", "lowest", "highest", "message"),
    [(0.0, -8, 7, "must be positive"), (1.0, 1, 7, "levels from at most 0"), (1.0, -7, 0, "to at least 1, not -7 … 0")],
)
def test_settings_of_a_quantiser_are_checked(scale, lowest, highest, message):
    with pytest.raises(SettingError, match=message):
        Quantiser(torch.tensor(scale), lowest, highest)
