"""Leaky ReLUs and clips to both sides are two rectifications, in every recipe of ReLUs."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike import recipes
from transpike.activations import LeakyReLU
from transpike.core.cell import Neuron
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.errors import DataError, SettingError, UnsupportedOperator
from transpike.neurons import SigmaDelta
from transpike.ops import Scale
from transpike.passes import FoldBatchNorm, Rectify, RemoveDropout
from transpike.workflow.cost.quantised_baseline import quantised as quantised


def prelu(channels: int) -> nn.Module:
    layer = nn.PReLU(channels)
    nn.init.normal_(layer.weight)  # of either sign, and above 1
    return layer


class Absolute(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2)


class Least(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=0.4)


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "leaky": lambda _: nn.LeakyReLU(0.1), "in place": lambda _: nn.LeakyReLU(0.1, inplace=True),
    "functional": lambda _: Functional(), "steep": lambda _: nn.LeakyReLU(1.5), "falling": lambda _: nn.LeakyReLU(-0.3),
    "one slope": lambda _: nn.PReLU(), "slopes": prelu, "random": lambda _: nn.RReLU(), "absolute": lambda _: Absolute(),
    "clip": lambda _: nn.Hardtanh(-0.5, 0.8), "no more than": lambda _: Least(),
}  # fmt: skip


class Network(nn.Module):
    """Activations before weights, pooling, a concatenation with a ReLU, a sum, and an average."""

    def __init__(self, activation: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.first, self.act1 = nn.Conv2d(3, 8, 3, padding=1), activation(8)
        self.second, self.norm, self.act2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), activation(8)
        self.third, self.act3, self.last = nn.Conv2d(24, 8, 1), activation(8), nn.Linear(8, 5)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act1(self.first(x))
        b = self.act2(self.norm(self.second(a)))
        c = self.third(torch.cat([self.pool(a), F.relu(self.mean(b)), self.mean(a + b)], 1))
        return self.last(self.act3(c).mean((2, 3)))


def made(label: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Network(ACTIVATIONS[label]).eval(), torch.randn(32, 3, 8, 8)


@pytest.mark.parametrize("label", ACTIVATIONS)
def test_the_function_is_the_same_to_the_rounding_of_float64(label):
    model, x = made(label)
    remarks: list[str] = []
    context = Context(ts.capture(model, x), (x,), timesteps=4, remarks=remarks)
    graph = RemoveDropout().apply(FoldBatchNorm().apply(context.source, context), context).to(dtype=torch.float64)
    split = Rectify().apply(graph, context)
    expected = graph.run(x.double())
    assert float((split.run(x.double()) - expected).abs().max()) <= 1e-14 * float(expected.abs().max())
    kinds = [node.op for node in split if isinstance(node.op, Op) and node.op.role == "activation"]
    assert len(kinds) >= 7
    assert all(kind.rectifies for kind in kinds)
    assert len(remarks) == 1 + (label in ("one slope", "slopes"))
    assert all(f"act{number}" in remarks[0] for number in (1, 2, 3))


def test_a_network_of_relus_is_left_alone():
    _, x = made("leaky")
    relus = Network(lambda _: nn.ReLU()).eval()
    context = Context(ts.capture(relus, x), (x,), timesteps=4, remarks=[])
    assert Rectify().apply(context.source, context) is context.source
    assert not context.remarks


@pytest.mark.parametrize("label", ["leaky", "slopes", "clip", "absolute"])
def test_weights_receive_levels(label):
    """Only sums, poolings and the input give real numbers to weights, as in a network of ReLUs."""
    model, x = made(label)
    snn = ts.convert(model, recipes.ECC(timesteps=8, pooling="lateral-inhibition"), x)
    lowered = snn.lowered
    reals = {
        node.name
        for node in lowered.nodes
        if getattr(node.op, "role", "") == "synapse"
        and not isinstance(node.op, Scale)
        and lowered.spike_scales[node.inputs[0]] is None
    }
    assert reals <= {"first", "third", "third.positive", "third.negative"}
    assert not reals & {"second", "second.positive", "second.negative", "last", "last.positive", "last.negative"}


RATE = ("ecc", "few-steps", "rueckauer", "snm", "adafire", "h-mt", "burst", "bsnn")


@pytest.mark.parametrize("name", RATE)
@pytest.mark.parametrize("label", ["leaky", "slopes"])
def test_every_recipe_of_rates_converts_them(name, label):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        activation = ACTIVATIONS[label]
        model = nn.Sequential(
            nn.Linear(6, 12), activation(12), nn.Linear(12, 12), activation(12), nn.Linear(12, 4)
        ).eval()
        x = torch.randn(128, 6)
    recipe = recipes.table[name](timesteps=32)
    snn = ts.convert(model, recipe, x)
    assert sum(isinstance(node.op, Neuron) for node in snn.graph) == 4
    assert any("two rectifications" in remark for remark in snn.remarks)
    a, b = (ts.simulate(snn, x, engine=engine) for engine in ("reference", "dense"))
    assert torch.allclose(a.logits, b.logits, rtol=1e-5, atol=1e-5)
    expected = model(x).detach()
    assert float((a.logits[-1] - expected).norm()) <= 0.12 * float(expected.norm())


SILENT = (
    *RATE,
    "datta-beerel",
    "deng-gu",
    "snn-calibration",
    "ltb",
    "spike-norm",
    "diehl-model",
    "exact-mapping",
    "linear-ttfs",
)


def one_sided(activation: nn.Module, sign: float) -> tuple[nn.Module, Tensor]:
    """A network whose first activation only receives currents of one sign from inputs in [0, 1]."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(6, 12), activation, nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
        x = torch.rand(128, 6)
    with torch.no_grad():
        model[0].weight.abs_().mul_(sign)
        model[0].bias.abs_().mul_(sign)
    return model, x


@pytest.mark.parametrize("name", SILENT)
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_a_side_that_never_fires_has_the_threshold_of_the_other(name, sign):
    model, x = one_sided(nn.LeakyReLU(0.5), sign)
    steps = 1 if name == "exact-mapping" else 64
    snn = ts.convert(model, recipes.table[name](timesteps=steps), x)
    silent, other = ("1.negative", "1") if sign > 0 else ("1", "1.negative")
    remarked = any("never fire" in remark and remark.endswith(f" {silent}") for remark in snn.remarks)
    assert remarked == (name not in ("h-mt", "diehl-model"))  # which ask currents and weights, not activations
    assert bool((snn.graph[silent].op.threshold > 0).all())
    if name in ("ecc", "few-steps", "exact-mapping", "datta-beerel"):
        assert torch.equal(snn.graph[silent].op.threshold, snn.graph[other].op.threshold)
    layer = {one.name: one for one in snn.run(x).activity.layers}
    assert not layer[silent].spikes.any()
    assert layer[other].spikes.any()
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.4 * float(expected.norm())  # Diehl's bounds are far from what occurs


def test_a_side_that_calibration_never_saw_represents_new_inputs():
    whole, x = one_sided(nn.PReLU(12), 1.0)
    model = nn.Sequential(*whole[:2], whole[4])
    snn = ts.convert(model, recipes.ECC(timesteps=256), x)
    expected = model(-x).detach()
    assert float((snn(-x) - expected).norm()) <= 0.03 * float(expected.norm())


def test_the_threshold_of_another_side_is_not_above_the_bound_of_its_own():
    model, x = one_sided(nn.Hardtanh(-0.125, 8.0), 1.0)
    snn = ts.convert(model, recipes.ECC(timesteps=64), x)
    assert bool((snn.graph["1.negative"].op.threshold == 0.125).all())
    assert bool((snn.graph["1"].op.threshold > 0.125).all())


def test_a_function_of_which_neither_side_fires_is_refused():
    model, x = one_sided(nn.LeakyReLU(0.5), 1.0)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.zero_()
    for name in ("ecc", "datta-beerel", "exact-mapping"):
        with pytest.raises(DataError, match="1 never fires on the calibration data"):
            ts.convert(model, recipes.table[name](), x)
    clip, x = one_sided(nn.ReLU6(), -1.0)
    with pytest.raises(DataError, match="1 never fires on the calibration data"):
        ts.convert(clip, recipes.DattaBeerel(), x)


def test_a_rectification_of_the_negative_that_is_written_by_hand_is_a_side_too():
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([F.relu(x), F.relu(-x)], 1)

    with torch.random.fork_rng():
        torch.manual_seed(4)
        model, x = nn.Sequential(nn.Linear(6, 12), Both(), nn.Linear(24, 4)).eval(), torch.rand(32, 6)
    with torch.no_grad():
        model[0].weight.abs_()
        model[0].bias.abs_()
    snn = ts.convert(model, recipes.ECC(timesteps=64), x)
    assert any("never fire" in remark and "1.relu_1" in remark for remark in snn.remarks)


SLOPES = torch.linspace(0.05, 0.4, 12)
BY_HAND: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "where": (lambda z: torch.where(z > 0, z, 0.1 * z), 1), "where not": (lambda z: torch.where(z < 0, z * 0.1, z), 1),
    "slopes": (lambda z: torch.where(z >= 0, z, SLOPES * z), 1), "nested": (lambda z: torch.where(z > 0, z, 0.5 * (0.2 * z)), 1),
    "maximum": (lambda z: torch.maximum(z, 0.1 * z), 1), "max": (lambda z: torch.max(z / 10, z), 1),
    "maximum, steep": (lambda z: torch.maximum(z, 1.5 * z), 1), "slopes of a maximum": (lambda z: torch.maximum(z, SLOPES * z), 1),
    "minimum": (lambda z: torch.minimum(z, 1.5 * z), 1), "both scaled": (lambda z: torch.where(z > 0, 2 * z, 0.1 * z), 1),
    "absolute": (lambda z: torch.where(z > 0, z, -z), 1), "masks": (lambda z: z * (z > 0) + 0.1 * z * (z <= 0), 2),
    "clamps": (lambda z: z.clamp(min=0) + 0.1 * z.clamp(max=0), 2), "least": (lambda z: F.relu(z) + 0.1 * torch.minimum(z, torch.zeros_like(z)), 2),
    "negative part": (lambda z: z.clamp(-1, 0), 1), "scaled relu": (lambda z: torch.where(z > 0, 0.5 * z, 0), 1),
}  # fmt: skip


@pytest.mark.parametrize("label", BY_HAND)
def test_leaky_functions_that_are_written_by_hand(label):
    function, count = BY_HAND[label]

    class ByHand(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return function(z)

    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(6, 12), ByHand(), nn.Linear(12, 4)).eval()
        x = torch.randn(64, 6)
    graph = ts.capture(model, x)
    assert sum(getattr(node.op, "role", "") == "activation" for node in graph) == count
    expected = model(x).detach()
    assert torch.allclose(graph.run(x), expected, rtol=0, atol=1e-6)
    answer = ts.convert(model, recipes.ECC(timesteps=512, percentile=100.0), x)(x)
    assert float((answer - expected).norm()) <= 0.02 * float(expected.norm())


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda z: torch.maximum(z, z.flip(1)), r"only max\(x, 0\) and max\(x, a · x\) are rectifications"),
        (lambda z: torch.minimum(z, z.flip(1)), r"min\(a, b\) is a − relu\(a − b\)"),
        (lambda z: torch.where(z > 0, z, z.flip(1)), r"only x where x > 0, else 0 or a · x, is a rectification"),
        (lambda z: torch.where(z > 1, z, 0.1 * z), r"only x where x > 0, else 0 or a · x, is a rectification"),
        (lambda z: torch.maximum(z * (SLOPES > 0.2), torch.zeros_like(z)) + z.clamp(0.5), "does not contain zero"),
    ],
    ids=["maximum", "minimum", "where", "bound", "clip"],
)
def test_functions_of_two_wires_or_with_a_jump_are_refused_with_the_reason(function, reason):
    class ByHand(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return function(z)

    model = nn.Sequential(nn.Linear(6, 12), ByHand(), nn.Linear(12, 4)).eval()
    with pytest.raises(UnsupportedOperator, match=reason):
        ts.convert(model, recipes.ECC(timesteps=8), torch.randn(8, 6))


def test_slopes_keep_their_name_or_a_remark_says_where_they_are():
    model, x = made("slopes")
    source = ts.capture(model, x)
    for key, value in model.state_dict().items():
        if key.startswith("act"):
            assert torch.equal(source.parameters()[key], value)
    snn = ts.convert(model, recipes.ECC(timesteps=8), x)
    assert torch.equal(snn.graph.parameters()["act2.weight"], model.act2.weight)  # a sum reads it
    (remark,) = (remark for remark in snn.remarks if remark.startswith("slopes that are part of other weights"))
    for text in ("act1.weight in second.negative.weight", "act3.weight in last.negative.weight"):
        assert text in remark
        assert text.split(" in ")[1] in snn.graph.parameters()
    again = Network(prelu).eval()
    again.load_state_dict(source.to_module().state_dict(), strict=False)
    assert torch.equal(again.act1.weight, model.act1.weight)


def test_a_sigma_delta_neuron_stands_for_the_whole_function():
    model, x = made("slopes")
    snn = ts.convert(model, recipes.StreamingSigmaDelta(timesteps=6), x)
    assert sum(isinstance(getattr(node.op, "source", None), LeakyReLU) for node in snn.graph if node.op) == 3
    assert all(isinstance(node.op, SigmaDelta) for node in snn.graph if isinstance(node.op, Neuron))


def test_a_converted_network_is_saved_and_loaded(tmp_path):
    model, x = made("slopes")
    snn = ts.convert(model, recipes.ECC(timesteps=8), x)
    ts.save(snn, tmp_path / "leaky.transpike")
    assert torch.equal(ts.load(tmp_path / "leaky.transpike")(x), snn(x))


def test_slopes_and_bounds_are_checked():
    with pytest.raises(SettingError, match="slope contains NaN"):
        LeakyReLU(torch.tensor(float("nan")))
    with pytest.raises(SettingError, match="the floor must be a positive number"):
        LeakyReLU(torch.tensor(1.0), floor=-1.0)
    with pytest.raises(UnsupportedOperator, match=r"clips to \[0.5, 2.0\], which does not contain zero"):
        ts.capture(nn.Sequential(nn.Linear(3, 3), nn.Hardtanh(0.5, 2.0), nn.Linear(3, 2)), torch.rand(4, 3))


def test_the_quantised_baseline_and_an_explanation_have_both_sides():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        layers = [nn.Linear(6, 12), nn.LeakyReLU(0.5), nn.Linear(12, 12), prelu(12), nn.Linear(12, 4)]
        model, x = nn.Sequential(*layers).eval(), torch.randn(64, 6)
    snn, expected = ts.convert(model, recipes.ECC(timesteps=255, percentile=100.0), x), model(x).detach()
    baseline = quantised(snn, 255)
    assert sorted(baseline.bits) == ["1", "1.negative", "3", "3.negative"]
    assert float((baseline.graph.run(x) - expected).norm()) <= 0.02 * float(expected.norm())
    explained = ts.explain(snn, [(x, expected.argmax(1))])
    assert [layer.name for layer in explained.layers] == ["1", "1.negative", "3", "3.negative"]
    assert all(layer.cosine > 0.999 for layer in explained.layers)
    assert sum(snn.graph.macs(node) or 0 for node in snn.graph if node.name.endswith("negated")) == 0
