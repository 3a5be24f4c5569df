"""Transformers whose windows, heads or sequences are merged with the batch: captured whole, and converted."""

import importlib
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from sample_by_sample import check, rand
from transpike.ops import Normalise


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make().eval()


class WindowAttention(nn.Module):
    """Attention in windows of 2 × 2 tokens that are rolled by ``shift``, (batch, 4, 4, 8); cosines if ``cosine``."""

    def __init__(self, shift: int, cosine: bool) -> None:
        super().__init__()
        self.shift, self.cosine = shift, cosine
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.table = nn.Parameter(rand(9, 2))
        place = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        apart = (place[:, :, None] - place[:, None]).permute(1, 2, 0) + 1
        self.register_buffer("places", (apart[..., 0] * 3 + apart[..., 1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        y = torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2))
        windows = y.view(-1, 2, 2, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 8)
        q, k, v = self.qkv(windows).reshape(-1, 4, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if self.cosine:
            q, k = F.normalize(q, dim=-1) * 4, F.normalize(k, dim=-1)
        scores = q @ k.transpose(-2, -1) + self.table[self.places].view(4, 4, 2).permute(2, 0, 1)
        if self.shift:
            regions = x.new_zeros(4, 4)
            for count, (rows, columns) in enumerate((r, c) for r in ((0, 3), (3, 4)) for c in ((0, 3), (3, 4))):
                regions[slice(*rows), slice(*columns)] = count
            regions = regions.view(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 4)
            apart = regions[:, None] - regions[:, :, None]
            mask = apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)
            scores = (scores.view(-1, 4, 2, 4, 4) + mask[:, None]).view(-1, 2, 4, 4)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, 8)
        y = self.out(y).view(-1, 2, 2, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, 8)
        return x + torch.roll(y, (self.shift, self.shift), (1, 2))


class Windows(nn.Module):
    """A network of two blocks: windows, and shifted windows."""

    def __init__(self, cosine: bool = False) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv2d(1, 8, 2, 2), nn.Linear(8, 3)
        self.blocks = nn.Sequential(WindowAttention(0, cosine), WindowAttention(1, cosine))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.blocks(self.enter(x).permute(0, 2, 3, 1))).mean((1, 2)))


class SequenceFirst(nn.Module):
    """Layers of torch that take (tokens, batch, features)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.head = kind, nn.Linear(8, 3)
        if kind == "encoder":
            self.layers: nn.Module = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False
            )
        elif kind == "decoder":
            self.layers = nn.TransformerDecoderLayer(8, 2, 16, norm_first=True)
        else:
            self.layers = nn.MultiheadAttention(8, 2)
        self.register_buffer("future", torch.full((5, 5), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        if self.kind == "encoder":
            y = self.layers(x)
        elif self.kind == "decoder":
            y = self.layers(x[:3], x)
        elif self.kind == "attention":
            y = self.layers(x, x, x, attn_mask=self.future, need_weights=False)[0]
        else:
            y = self.layers(x[:2], x, x)[0]
        return self.head(y[0] + y.mean(0))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "windows": (Windows, (1, 8, 8)),
    "windows of cosines": (lambda: Windows(cosine=True), (1, 8, 8)),
    "encoder": (lambda: SequenceFirst("encoder"), (5, 8)),
    "decoder": (lambda: SequenceFirst("decoder"), (5, 8)),
    "attention": (lambda: SequenceFirst("attention"), (5, 8)),
    "attention of two": (lambda: SequenceFirst("attention of two"), (5, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_a_merged_batch_is_captured_whole(name):
    make, shape = NETWORKS[name]
    graph = check(seeded(make), *shape)
    assert sum(isinstance(node.op, Normalise) for node in graph) == (4 if "cosines" in name else 0)


def test_the_masks_of_shifted_windows_are_constants():
    graph = check(seeded(Windows), 1, 8, 8)
    hidden = [value for node in graph for value in node.op.tensors().values() if bool((value == -100).any())]
    assert len(hidden) == 1
    assert int((hidden[0] == -100).sum()) == 2 * (8 + 8 + 12)  # two heads, pairs of regions in three windows


@pytest.mark.parametrize("recipe", ["sigma-delta", "burst-digits"])
@pytest.mark.parametrize("name", ["windows", "windows of cosines", "encoder"])
def test_a_network_with_a_merged_batch_converts(name, recipe):
    make, shape = NETWORKS[name]
    model, x = seeded(make), rand(4, *shape, seed=2)
    snn = ts.convert(model, recipe, calibration=[rand(32, *shape, seed=1)], on_unsupported="keep")
    assert any(isinstance(node.op, ts.neurons.SpikeProduct) for node in snn.graph), "attention multiplies in spikes"
    trace = ts.simulate(snn, x, timesteps=8 if recipe == "sigma-delta" else 1)
    with torch.no_grad():
        expected = model(x)
    assert float((trace.logits[-1] - expected).norm()) < 0.05 * float((expected - expected.mean(0)).norm())
    alone = ts.simulate(snn, x[:1], timesteps=trace.logits.shape[0])
    assert torch.equal(alone.logits[-1], trace.logits[-1][:1]), "no sample sees another"


class Cosines(nn.Module):
    """Products of vectors of length 1, some of which are 0; ``norm`` gives these vectors."""

    def __init__(self, norm: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.norm, self.layer, self.head = norm, nn.Linear(4, 4, bias=False), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.head(self.norm(y, -1) @ self.norm(y, 1).mT).mean(1)


@pytest.mark.parametrize(
    "norm",
    [
        lambda y, axis: F.normalize(y, dim=axis),
        lambda y, axis: y / y.norm(dim=axis, keepdim=True).clamp(min=1e-12),
        lambda y, axis: y / torch.linalg.vector_norm(y, dim=axis, keepdim=True).clamp_min(1e-12),
    ],
    ids=["normalize", "norm", "vector_norm"],
)
def test_a_quotient_of_a_wire_and_its_length_is_one_operator(norm):
    model, x = seeded(lambda: Cosines(norm)), rand(8, 3, 4)
    x[:, 1] = 0.0  # padding: a length of 0
    graph = ts.capture(model, x, on_unsupported="keep")
    assert [node.op.axis for node in graph if isinstance(node.op, Normalise)] == [2, 1]
    assert not [node for node in graph if "norm" in node.op.describe() and not isinstance(node.op, Normalise)]
    with torch.no_grad():
        expected = model(x)
    assert torch.allclose(graph.run(x), expected, atol=1e-6)
    snn = ts.convert(model, "sigma-delta", calibration=[x], on_unsupported="keep")
    answer = ts.simulate(snn, x, timesteps=8).logits[-1]
    assert float((answer - expected).norm()) < 0.02 * float(expected.norm())


@pytest.mark.parametrize(
    "other",
    [
        lambda y: y / y.norm(dim=-1, keepdim=True).clamp(min=1e-12, max=2.0),
        lambda y: y / y.norm(p=1, dim=-1, keepdim=True).clamp_min(1e-12),
        lambda y: y / (2 * y).norm(dim=-1, keepdim=True).clamp_min(1e-12),
        lambda y: y / y.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12),
    ],
    ids=["a largest length", "a sum", "another wire", "two axes"],
)
def test_other_quotients_are_left_as_they_are(other):
    graph = check(Cosines(lambda y, _: other(y)).eval(), 3, 4)
    assert not [node for node in graph if isinstance(node.op, Normalise)]


def library(name: str) -> object:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision of another build of torch
        pytest.skip(f"{name} cannot be imported: {error}")


def vision() -> object:
    return library("torchvision").models  # type: ignore[attr-defined]


def swin_v2() -> nn.Module:
    parts = library("torchvision.models.swin_transformer")
    kinds = {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2}  # type: ignore[attr-defined]
    return vision().SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=3, **kinds)  # type: ignore[attr-defined]


LIBRARIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Swin": (lambda: vision().SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=3), (3, 32, 32)),
    "Swin v2": (swin_v2, (3, 32, 32)),
    "MaxViT": (lambda: vision().MaxVit((32, 32), 16, 4, [16], [1], 8, 0.0, num_classes=3), (3, 32, 32)),
    "timm Swin": (
        lambda: library("timm").models.SwinTransformer(  # type: ignore[attr-defined]
            32, 4, num_classes=3, window_size=2, embed_dim=8, depths=(2, 2), num_heads=(2, 2)
        ), (3, 32, 32)
    ),
    "timm ConvNeXt": (
        lambda: library("timm").models.ConvNeXt(depths=(1,) * 4, dims=(8,) * 4, num_classes=3), (3, 32, 32)  # type: ignore[attr-defined]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARIES)
def test_networks_of_libraries_are_captured_whole(name):
    make, shape = LIBRARIES[name]
    check(seeded(make), *shape)
