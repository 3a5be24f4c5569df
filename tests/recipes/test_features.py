"""Transformers: layer norms are folded, and thresholds are those of features and heads, so that outliers cost nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from stored import stored
from transpike.core.pass_ import Context
from transpike.neurons import SigmaDelta, SpikeProduct
from transpike.ops import Scale
from transpike.ops.analogue import AnalogueOp
from transpike.passes import FoldLayerNorm
from transpike.recipes import DCGS, StreamingSigmaDelta
from vision_transformer import FEATURES, HEADS, TOKENS, with_outliers


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """64 training and 16 test images, prepared."""
    data = ts.data.load("digits")
    return tuple(
        data.preprocessing(split.batch(torch.arange(count))[0]) for split, count in ((data.train, 64), (data.test, 16))
    )


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = make().eval()
        for name, value in model.named_parameters():
            if "bias" in name or "gamma" in name or value.ndim == 1:
                nn.init.normal_(value)
    return model


class Norm(nn.Module):
    """An RMS norm that is written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Around(nn.Module):
    """A norm between a layer and ``rest``, which reads it and x."""

    def __init__(self, norm: nn.Module, rest: Callable[[Tensor, Tensor, nn.Module], Tensor], last: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.rest, self.last = nn.Linear(8, 8), norm, rest, last

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.rest(self.norm(x), x, self.last)


def linear() -> nn.Module:
    return nn.Linear(8, 3)


def conv(padding: int) -> nn.Module:
    return nn.Conv1d(8, 3, 3, padding=padding)


FOLDED: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n), linear()),
    "without bias": lambda: Around(nn.LayerNorm(8, bias=False), lambda n, x, f: f(n), linear()),
    "rms norm": lambda: Around(nn.RMSNorm(8), lambda n, x, f: f(n), linear()),
    "by hand": lambda: Around(Norm(), lambda n, x, f: f(n), linear()),
    "two readers": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n) + f(n[:, 1:2]), linear()),
    "first token": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n[:, 0]), linear()),
    "mean of tokens": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.mean(1)), linear()),
    "windows": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.roll(1, 1).reshape(-1, 2, 2, 8)), linear()),
    "flattened": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.flatten(1)), nn.Linear(32, 3)),
    "convolution": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.transpose(1, 2)), conv(0)),
    "padding without bias": lambda: Around(nn.RMSNorm(8), lambda n, x, f: f(n.transpose(1, 2)), conv(1)),
}  # fmt: skip
KEPT: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n) + n[:, :, :3], linear()),
    "padding of a bias": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.transpose(1, 2)), conv(1)),
    "function": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.relu()), linear()),
    "output": lambda: Around(nn.LayerNorm(8), lambda n, x, f: n, linear()),
    "features are averaged": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.reshape(-1, 4, 4, 2).mean(-1)), nn.Linear(4, 3)),
    "features are mixed": lambda: Around(nn.LayerNorm(8), lambda n, x, f: f(n.transpose(1, 2)), nn.Linear(4, 3)),
}  # fmt: skip


def folded(model: nn.Module) -> tuple[ts.Graph, ts.Graph, Tensor]:
    x = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(1))
    before = ts.capture(model, x, on_unsupported="keep")
    return before, FoldLayerNorm().apply(before, Context(before, (x,), timesteps=4, remarks=[])), x


def parameters(graph: ts.Graph) -> int:
    """The tensors of norms, and of scales that are not mere sums."""
    norms = sum(len(node.op.constants) for node in graph if type(node.op) is AnalogueOp)
    return norms + sum(isinstance(node.op, Scale) and node.op.weight.numel() > 1 for node in graph)


@pytest.mark.parametrize("label", FOLDED)
def test_the_weights_of_a_norm_become_part_of_the_layers_that_read_it(label):
    before, after, x = folded(seeded(FOLDED[label]))
    assert parameters(before) > 0 == parameters(after)
    expected = before.run(x)
    assert torch.allclose(after.run(x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("label", KEPT)
def test_a_norm_that_something_else_reads_remains(label):
    before, after, _ = folded(seeded(KEPT[label]))
    assert after is before


def logits(model: nn.Module, granularity: str, calibration: Tensor, x: Tensor, steps: int = 3) -> Tensor:
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=steps, granularity=granularity), calibration)
    return ts.simulate(snn, x).logits


def test_outlying_features_cost_nothing(digits):
    """The same function with two features of each norm and one of a head 64 times larger: the same spikes."""
    model, (calibration, x) = stored("vision-transformer"), digits
    plain, large = (logits(m, "channel", calibration, x) for m in (model, with_outliers(model)))
    assert float((plain - large).norm()) <= 1e-6 * float(plain.norm())


@pytest.mark.parametrize("folded", [True, False])
def test_one_threshold_for_a_layer_pays_for_outlying_features(folded, digits, monkeypatch):
    """Where norms cannot be folded, too: then features of norms differ in size as those of heads do."""
    model, (calibration, x) = stored("vision-transformer"), digits
    if not folded:
        monkeypatch.setattr(FoldLayerNorm, "apply", lambda self, graph, context: graph)
    expected = model(x).detach()
    channel, layer = (
        float((logits(with_outliers(model), granularity, calibration, x, 8)[-1] - expected).norm() / expected.norm())
        for granularity in ("channel", "layer")
    )
    assert channel < 0.05 and layer > 0.2


def test_thresholds_are_per_feature_and_per_head(digits):
    model, (calibration, _) = stored("vision-transformer"), digits
    snn = ts.convert(model, StreamingSigmaDelta(percentile=100.0), calibration)
    cells = {node.name: node.op for node in snn.graph if isinstance(node.op, SigmaDelta)}
    size = FEATURES // HEADS
    shapes = {name: tuple(cell.threshold.shape) for name, cell in cells.items()}
    assert shapes["blocks.0.norm1.encoded"] == (1, FEATURES)
    queries, keys, weights, values = tuple(
        name for node in snn.graph if isinstance(node.op, SpikeProduct) for name in node.inputs
    )[:4]
    assert shapes[queries] == shapes[values] == (HEADS, 1, size)
    assert shapes[keys] == (HEADS, size, 1)
    assert shapes[weights] == (HEADS, 1, 1)
    assert shapes["select.encoded"] == (FEATURES,)
    seen: dict[str, Tensor] = {}
    snn.source.run(calibration, observe=lambda node, inputs, output: seen.__setitem__(node.name, output))
    found, lowest = seen[snn.graph[weights].inputs[0]].abs(), 2.0 ** (1 - 8)
    assert found.shape[1:] == (HEADS, TOKENS, TOKENS)
    # thresholds are of the graph with folded norms, in another order of float32 sums
    assert torch.allclose(cells[weights].threshold.flatten(), lowest * found.amax((0, 2, 3)), rtol=1e-4)
    found = seen[snn.graph[values].inputs[0]].abs()  # (batch, heads, tokens, d)
    assert torch.allclose(cells[values].threshold[:, 0], lowest * found.amax((0, 2)), rtol=1e-4)


class Shuffled(nn.Module):
    """Features that share an axis with positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Conv2d(1, 8, 1), nn.SiLU(), nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(nn.functional.pixel_shuffle(self.first(x), 2))).mean((2, 3))


def test_features_that_share_an_axis_with_positions_count_by_their_channel():
    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    snn = ts.convert(seeded(Shuffled), StreamingSigmaDelta(), x)
    assert sorted(snn.graph["act"].op.threshold.shape) == [1, 1, 8]  # one of three axes


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_thresholds_of_heads_are_exact_on_every_engine(engine, digits, tmp_path):
    model, (calibration, x) = stored("vision-transformer"), digits
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=3), calibration)
    trace = ts.simulate(snn, x[:2], engine=engine)
    assert trace.exact, trace.why
    ts.save(snn, tmp_path / "net.transpike")
    again = ts.simulate(ts.load(tmp_path / "net.transpike"), x[:2], engine="reference")
    assert torch.equal(trace.logits, again.logits)


def test_recipes_fold_norms(digits):
    calibration = digits[0]
    for recipe in (StreamingSigmaDelta(), DCGS()):
        snn = ts.convert(stored("vision-transformer"), recipe, calibration)
        norms = [n.op.op for n in snn.graph if "layer_norm" in n.op.describe()]
        assert len(norms) == 5 and not any(norm.constants for norm in norms)
