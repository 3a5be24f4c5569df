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
from transpike.errors import SettingError, UnsupportedOperator
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
    assert len(remarks) == 1
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
    with pytest.raises(SettingError, match="slope holds NaN"):
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
