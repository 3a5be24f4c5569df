"""Gradients in deep spiking networks: how they fade, what keeps them, and that normalisations fold exactly."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import transpike as ts
from transpike.activations import ReLU
from transpike.core.graph import Graph, Input, Node
from transpike.errors import DataError, SettingError
from transpike.neurons import IntegrateAndFire
from transpike.ops import Add, Conv, Linear, Mean
from transpike.training.spiking.gain import surrogate_gain, tuned_width
from transpike.training.spiking.normalisation import folded, tdbn
from transpike.training.spiking.surrogates import Arctangent, Rectangular
from transpike.training.spiking.unrolled import Unrolled

CHANNELS, STEPS = 16, 3


def residual(blocks: int, seed: int = 0, gain: float = 1 / 3) -> Graph:
    """Blocks of two convolutions with identity shortcuts; weights drawn as torch draws them (variance gain/fan-in)."""
    random = torch.Generator().manual_seed(seed)

    def conv(inputs: int) -> Conv:
        weight = torch.randn(CHANNELS, inputs, 3, 3, generator=random) * (gain / (9 * inputs)) ** 0.5
        return Conv(weight=weight, padding=(1, 1))

    def neuron() -> IntegrateAndFire:
        return IntegrateAndFire(ReLU(), torch.tensor(1.0), torch.tensor(0.5))

    nodes = [Node("input", Input((3, 8, 8))), Node("first", conv(3), ("input",)), Node("n0", neuron(), ("first",))]
    last = "n0"
    for b in range(blocks):
        nodes += [
            Node(f"a{b}", conv(CHANNELS), (last,)), Node(f"n{b}a", neuron(), (f"a{b}",)),
            Node(f"b{b}", conv(CHANNELS), (f"n{b}a",)), Node(f"sum{b}", Add(), (f"b{b}", last)),
            Node(f"n{b}b", neuron(), (f"sum{b}",)),
        ]  # fmt: skip
        last = f"n{b}b"
    head = torch.randn(10, CHANNELS, generator=random) * CHANNELS**-0.5
    nodes += [Node("pool", Mean(), (last,)), Node("head", Linear(weight=head), ("pool",))]
    return Graph(tuple(nodes))


def unrolled(graph: Graph, surrogate=None) -> Unrolled:
    recipe = ts.recipes.ECC(timesteps=STEPS)
    return Unrolled(graph, recipe.encoder.calibrated(1.0), recipe.schedule, recipe.readout, STEPS, surrogate)


def images(batch: int = 8) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_fifty_layers_pass_gradients_only_with_a_tuned_width_and_normalised_currents():
    x = images()
    plain = unrolled(residual(25))
    lost = surrogate_gain(plain, x)
    assert len(lost) == 50 and any(not 0.5 <= gain <= 2 for gain in lost.values())
    normal = unrolled(residual(25), Rectangular(0.1))
    normal.normalise(None)
    normal.train()
    untuned = surrogate_gain(normal, x)
    assert any(not 0.5 <= gain <= 2 for gain in untuned.values())
    width = tuned_width(normal, x)
    kept = surrogate_gain(normal, x)
    assert len(kept) == 50 and all(0.5 <= gain <= 2 for gain in kept.values()), sorted(kept.values())
    assert normal.surrogate == Rectangular(width)
    rest = unrolled(residual(25), Rectangular(width))  # the width alone is not enough
    assert any(not 0.5 <= gain <= 2 for gain in surrogate_gain(rest, x).values())


def test_gain_is_the_ratio_of_the_norms_of_gradients():
    graph = Graph((
        Node("input", Input((1,))), Node("w", Linear(weight=torch.tensor([[1.0]])), ("input",)),
        Node("first", IntegrateAndFire(ReLU(), torch.tensor(1.0), torch.tensor(0.0)), ("w",)),
        Node("v", Linear(weight=torch.tensor([[0.75]])), ("first",)),
        Node("second", IntegrateAndFire(ReLU(), torch.tensor(1.0), torch.tensor(0.0)), ("v",)),
        Node("out", Linear(weight=torch.tensor([[1.0]])), ("second",)),
    ))  # fmt: skip
    recipe = ts.recipes.ECC(timesteps=1)
    module = Unrolled(graph, recipe.encoder.calibrated(1.0), recipe.schedule, recipe.readout, 1, Arctangent(2.0))
    expected = 0.75 * float(Arctangent(2.0).gradient(torch.tensor(0.25)))
    assert surrogate_gain(module, torch.tensor([[1.25]]))["first"] == pytest.approx(expected)
    snn = ts.snn.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0))
    assert surrogate_gain(snn, torch.tensor([[1.25]]))["first"] == pytest.approx(0.75)  # rectangular, as by default


def test_without_neurons_there_is_no_gain():
    graph = Graph((Node("input", Input((2,))), Node("w", Linear(weight=torch.ones(1, 2)), ("input",))))
    with pytest.raises(DataError, match="no neurons"):
        surrogate_gain(unrolled(graph), torch.ones(3, 2))


def test_tdbn_is_its_formula_over_time_and_batch():
    x = torch.randn(4, 5, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1
    scale, shift = torch.tensor([0.5, 1.0, 2.0]).double(), torch.tensor([0.1, 0.2, 0.3]).double()
    mean, variance = torch.zeros(3).double(), torch.ones(3).double()
    y = tdbn(x, scale, shift, mean, variance, threshold=0.7, alpha=0.5, training=True)
    E, V = x.mean((0, 1, 3, 4)), x.var((0, 1, 3, 4), unbiased=False)
    column = lambda v: v[:, None, None]  # noqa: E731
    expected = column(scale) * 0.35 * (x - column(E)) / column((V + 1e-5).sqrt()) + column(shift)
    assert torch.allclose(y, expected, rtol=1e-10)
    assert torch.allclose(mean, 0.1 * E) and not torch.equal(variance, torch.ones(3).double())


@pytest.mark.parametrize("threshold", [0.7, torch.tensor([0.5, 1.0, 1.5, 2.0])])
def test_a_folded_tdbn_is_the_normalised_layer(threshold):
    random = torch.Generator().manual_seed(0)
    op = Conv(weight=torch.randn(4, 3, 3, 3, generator=random), bias=torch.randn(4, generator=random), padding=(1, 1))
    op = op.to(dtype=torch.float64)
    scale, shift, mean, variance = (torch.rand(4, generator=random).double() + 0.1 for _ in range(4))
    x = torch.randn(2, 5, 3, 6, 6, generator=random).double()
    current = op.run(x.flatten(0, 1)).unflatten(0, (2, 5))
    settings = {"threshold": threshold, "alpha": 2**-0.5, "epsilon": 0.01}
    expected = tdbn(current, scale, shift, mean, variance, training=False, **settings)
    together = folded(op, scale, shift, mean, variance, **settings)
    assert torch.allclose(together.run(x.flatten(0, 1)), expected.flatten(0, 1), rtol=1e-12, atol=1e-12)
    careless = folded(op, scale, shift, mean, variance, **{**settings, "threshold": 1.0})
    assert not torch.allclose(careless.run(x.flatten(0, 1)), expected.flatten(0, 1), rtol=1e-2)
    with pytest.raises(SettingError, match="no channels"):
        folded(Linear(weight=torch.randn(4, 3, 3)), scale, shift, mean, variance)


def test_a_network_trained_with_normalisation_folds_to_the_same_function():
    graph, x = residual(2, gain=2.0), images(16)
    module = unrolled(graph).double()
    x = x.double()
    start = module.answers(module(x))
    module.normalise(x)
    module.double().eval()
    assert torch.allclose(module.answers(module(x)), start, atol=1e-6) and bool(start.any())
    module.train()
    optimiser = torch.optim.Adam(module.groups()["weights"].values(), 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(module.answers(module(x))[-1], torch.arange(16) % 10).backward()
        optimiser.step()
    module.eval()
    with torch.no_grad():
        plain = dataclasses.replace(module.to_graph().to(dtype=torch.float64))
        after, folded_answers = module.answers(module(x)), unrolled(plain).double()(x)
    assert torch.allclose(unrolled(plain).double().answers(folded_answers), after, atol=1e-6)
    assert not torch.allclose(after, start, atol=1e-2)
