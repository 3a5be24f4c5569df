"""Attention converts with sigma-delta neurons, however it is written, and masks hide what they hide."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike.core.pass_ import Context
from transpike.errors import DataError, UnsupportedModel
from transpike.ops import MaskedSoftmax
from transpike.passes import JoinMasks
from transpike.recipes import ECC, StreamingSigmaDelta
from transpike.workflow.batch_first import BatchFirstAttention, BatchFirstBag, keep_batch_first

INFINITE = float("inf")
FUTURE = torch.ones(5, 5, dtype=torch.bool).triu(1)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make().eval()


class Attention(nn.Module):
    """Queries, keys and values from one layer; ``masked`` changes the scores."""

    def __init__(self, masked: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv, self.out, self.head, self.masked = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3), masked
        self.register_buffer("future", torch.zeros(5, 5).masked_fill(FUTURE, -INFINITE))

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        q, k, v = self.qkv(x).reshape(b, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        weights = self.masked(q @ k.transpose(-1, -2) / 2).softmax(-1)
        return self.head(F.relu(self.out((weights @ v).transpose(1, 2).reshape(b, 5, 8))).mean(1))


class Added(Attention):
    def __init__(self) -> None:
        super().__init__(lambda scores: scores + self.future)


HIDDEN = torch.tensor(-INFINITE)
MASKS: dict[str, Callable[[], nn.Module]] = {
    "-inf": lambda: Attention(lambda s: s.masked_fill(FUTURE, -INFINITE)), "-1e9": lambda: Attention(lambda s: s.masked_fill(FUTURE, -1e9)),
    "where": lambda: Attention(lambda s: torch.where(FUTURE, HIDDEN, s)), "where not": lambda: Attention(lambda s: torch.where(~FUTURE, s, HIDDEN)),
    "two": lambda: Attention(lambda s: s.masked_fill(FUTURE, -INFINITE).masked_fill(torch.eye(5) * (torch.arange(5) > 2) > 0, -INFINITE)),
    "sum": Added,
}  # fmt: skip


@pytest.mark.parametrize("label", MASKS)
def test_a_constant_mask_is_part_of_the_softmax(label):
    model, x = seeded(MASKS[label]), rand(32, 5, 8)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12, threshold_count=12, percentile=100.0), x)
    assert "softmax after a mask" in str(snn.graph)
    context = Context(ts.capture(model, x, on_unsupported="keep"), (x,), timesteps=1)
    (op,) = (node.op for node in JoinMasks().apply(context.source, context) if isinstance(node.op, MaskedSoftmax))
    assert bool(op.mask[FUTURE].bool().all())
    assert int(op.mask.sum()) == int(FUTURE.sum()) + (2 if label == "two" else 0)
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.01 * float(expected.norm())


def test_what_a_mask_hides_has_no_weight_and_is_not_computed():
    op = MaskedSoftmax(FUTURE.float(), 2)
    x = rand(3, 5, 5)
    y = op.run(x)
    assert not bool(y[:, FUTURE].any())
    assert torch.allclose(y.sum(2), torch.ones(3, 5))
    assert torch.equal(op.run(x.masked_fill(FUTURE, 7.0)), y)
    changed = torch.zeros(1, 5, 5, dtype=torch.bool)
    changed[0, 0, 3] = changed[0, 3, 2] = True  # the first place is hidden
    needed = torch.zeros(5, 5, dtype=torch.bool)
    needed[3, :4] = True  # the places of a row that are not hidden
    assert op.parts(changed).tolist() == [needed[~FUTURE].tolist()]
    assert op.evaluations(((5, 5),), (5, 5)) == {"exp": 15, "division": 15}


def test_a_row_that_a_mask_hides_entirely_is_an_error_that_names_it():
    model, x = (
        seeded(lambda: Attention(lambda s: s.masked_fill(torch.arange(5)[:, None] == 2, -INFINITE))),
        rand(16, 5, 8),
    )
    with pytest.raises(
        (DataError, UnsupportedModel), match=r"softmax, on the calibration data: softmax after a mask gives NaN"
    ):
        ts.convert(model, StreamingSigmaDelta(timesteps=4), x)


def test_a_recipe_of_rates_keeps_a_masked_softmax_too():
    model, x = seeded(MASKS["-inf"]), rand(32, 5, 8)
    snn = ts.convert(model, ECC(timesteps=64), x, on_unsupported="keep")
    assert "softmax after a mask" in str(snn.graph)
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.05 * float(expected.norm())


class Twice(nn.Module):
    """Attention of a sequence to itself, and to another part of it."""

    def __init__(self, mask: Tensor | None = None, **options: object) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(8, 2, batch_first=True, **options)
        self.b = nn.MultiheadAttention(8, 2, batch_first=True, bias=False)
        self.head, self.mask = nn.Linear(8, 3), mask

    def forward(self, x: Tensor) -> Tensor:
        y, weights = self.a(x, x, x, attn_mask=self.mask)
        z, _ = self.b(y, x[:, :2], x[:, 1:3], need_weights=False)
        return self.head(F.relu(z + y)).mean(1) + weights.mean((1, 2))[:, None]


ATTENTION: dict[str, Callable[[], nn.Module]] = {
    "plain": Twice, "bool mask": lambda: Twice(FUTURE), "float mask": lambda: Twice(torch.zeros(5, 5).masked_fill(FUTURE, -INFINITE)),
    "other widths": lambda: Twice(kdim=8, vdim=8), "layer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "layers": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu"), 2),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("label", ATTENTION)
def test_attention_of_torch_converts(label):
    model, x = seeded(ATTENTION[label]), rand(32, 5, 8)
    plain = copy.deepcopy(model)
    keep_batch_first(plain)
    assert any(isinstance(part, BatchFirstAttention) for part in plain.modules())
    expected = model(x).detach()
    assert torch.allclose(plain(x), expected, rtol=1e-4, atol=1e-5)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12, threshold_count=12, percentile=100.0), x)
    assert float((snn(x) - expected).norm()) <= 0.01 * float(expected.norm())
    assert not any(isinstance(part, BatchFirstAttention) for part in model.modules()), "the model is not changed"
    missing = {key for key in model.state_dict() if key.endswith(("out_proj.weight", "linear1.weight"))}
    assert missing <= set(snn.source.parameters())


def test_what_the_replacement_does_not_know_is_left_to_torch():
    x = rand(4, 5, 8)
    for options in ({"add_bias_kv": True}, {"add_zero_attn": True}):
        model = seeded(lambda options=options: nn.MultiheadAttention(8, 2, batch_first=True, **options))
        plain = copy.deepcopy(model)
        keep_batch_first(plain)
        assert torch.allclose(plain(x, x, x)[0], model(x, x, x)[0], atol=1e-6)
    padding = torch.zeros(4, 5, dtype=torch.bool)
    padding[:, 4] = True
    model = seeded(lambda: nn.MultiheadAttention(8, 2, batch_first=True))
    plain = copy.deepcopy(model)
    keep_batch_first(plain)
    assert torch.allclose(plain(x, x, x, padding)[0], model(x, x, x, padding)[0], atol=1e-6)
    assert plain(x, x, x, average_attn_weights=False)[1].shape == (4, 2, 5, 5)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_looked_up_rows_convert(mode):
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.hidden, self.last = nn.EmbeddingBag(20, 8, mode=mode), nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.hidden(self.bag(x))))

    model, x = seeded(Bag), torch.randint(0, 20, (32, 6), generator=torch.Generator().manual_seed(0))
    snn = ts.convert(model, ECC(timesteps=256), x)
    assert torch.equal(snn.source.parameters()["bag.weight"], model.bag.weight)
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.03 * float(expected.norm())
    with pytest.raises(DataError, match="looked up among 20 rows, 0 to 19, but contains 25"):
        snn(x + 6 + (19 - x.max()))


def test_bags_with_offsets_are_left_to_torch():
    bag = BatchFirstBag(6, 4)
    assert bag(torch.tensor([1, 2, 3]), torch.tensor([0, 2])).shape == (2, 4)


class OneHot(nn.Module):
    def __init__(self, classes: int = 20) -> None:
        super().__init__()
        self.hidden, self.last, self.classes = nn.Linear(6 * 20, 16), nn.Linear(16, 3), classes

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.hidden(F.one_hot(x, self.classes).float().flatten(1))))


def test_whole_numbers_as_one_hot_vectors_are_a_look_up():
    model, x = seeded(OneHot), torch.randint(0, 20, (32, 6), generator=torch.Generator().manual_seed(0))
    snn = ts.convert(model, ECC(timesteps=256), x)
    assert snn.graph["one_hot"].op.is_look_up
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.03 * float(expected.norm())
    with pytest.raises(DataError, match="looked up among 20 rows"):
        snn(x + 1 + (19 - x.max()))
    with pytest.raises(UnsupportedModel, match="depends on values of its input"):
        ts.convert(seeded(lambda: OneHot(-1)), ECC(), x.clamp(max=19).index_fill(0, torch.tensor([0]), 19))
