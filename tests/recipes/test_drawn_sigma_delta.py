"""Drawn networks of sigma-delta neurons, with products and norms: the dense engine sends the spikes of the reference."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from instruction_sets import instructions  # noqa: F401 (a fixture of the whole module)
from transpike.recipes import BurstDigits, StreamingSigmaDelta

CHANNELS = 8


class Squeeze(nn.Module):
    """A gate of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(CHANNELS, 3 * CHANNELS, 1), nn.Conv2d(3 * CHANNELS, CHANNELS, 1)
        self.spatial = nn.Conv2d(3 * CHANNELS, 3 * CHANNELS, 3, 1, 1, groups=3 * CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.relu6(self.spatial(F.relu6(self.expand(x)))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(CHANNELS), nn.MultiheadAttention(CHANNELS, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(CHANNELS, 12), nn.Linear(CHANNELS, 12)
        self.out = nn.Linear(12, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.value(x) * F.silu(self.gate(x)))


IMAGES = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.ReLU()),
    "function": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.SiLU()),
    "pooling": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "squeeze": Squeeze,
    "residual": Residual,
}
TOKENS = {
    "attention": Attention,
    "gated": Gated,
    "functions": lambda: nn.Sequential(nn.Linear(CHANNELS, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, CHANNELS)),
}


class Drawn(nn.Module):
    def __init__(self, images: list[str], tokens: list[str]) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.Linear(CHANNELS, 4)
        self.images = nn.Sequential(*(IMAGES[name]() for name in images))
        self.tokens = nn.Sequential(*(TOKENS[name]() for name in tokens))

    def forward(self, x: Tensor) -> Tensor:
        x = self.images(F.relu(self.stem(x))).flatten(2).transpose(1, 2)
        return self.head(self.tokens(x).mean(1))


@settings(max_examples=12, deadline=None)
@given(
    images=st.lists(st.sampled_from(sorted(IMAGES)), max_size=2),
    tokens=st.lists(st.sampled_from(sorted(TOKENS)), max_size=2),
    rule=st.sampled_from(["one", "one", "all"]),
    thresholds=st.integers(3, 8),
    batch=st.integers(1, 3),
    cut=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_dense_sends_the_spikes_of_the_reference(images, tokens, rule, thresholds, batch, cut, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, x = Drawn(images, tokens).eval(), torch.rand(8, 3, 8, 8)
    recipe = (StreamingSigmaDelta if rule == "one" else BurstDigits)(timesteps=8, threshold_count=thresholds)
    snn = ts.convert(model, recipe, x, on_unsupported="keep")
    names = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
    expected = ts.simulate(snn, x[:batch], engine="reference", record=names)
    found = ts.simulate(snn, x[:batch], engine="dense", record=names)
    assert found.exact == expected.exact
    if not expected.exact:  # a value on an edge of its rounding
        assert found.ties
        return
    assert torch.equal(found.logits, expected.logits)
    for name in names:
        assert torch.equal(found.trains[name].double(), expected.trains[name].double()), name
    for ours, others in zip(found.activity.layers, expected.activity.layers, strict=True):
        assert torch.equal(ours.spikes, others.spikes)
        assert torch.equal(ours.synaptic_operations, others.synaptic_operations)
    needed = [[one.needed.tolist() for one in trace.activity.evaluations] for trace in (found, expected)]
    assert needed[0] == needed[1]
    run = snn.start(x[:batch], engine="dense")
    stepped = torch.stack([run.step() for _ in range(cut)])
    assert torch.equal(stepped, expected.logits[:cut])


@pytest.mark.parametrize("images, tokens", [(["residual"], ["attention"]), (["squeeze"], ["gated"])])
def test_such_networks_are_exact(images, tokens):
    """So that the law above compares spikes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Drawn(images, tokens).eval(), torch.rand(8, 3, 8, 8)
    trace = ts.simulate(ts.convert(model, StreamingSigmaDelta(8), x, on_unsupported="keep"), x, engine="dense")
    assert trace.exact and any(bool(layer.product_operations.any()) for layer in trace.activity.layers)
