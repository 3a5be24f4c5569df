"""Masks that are inputs: padding of each sample, and what hidden pairs of tokens cost, which is nothing."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike.core.inputs import Inputs
from transpike.core.pass_ import Context
from transpike.errors import DataError
from transpike.neurons import SigmaDelta, SpikeProduct
from transpike.ops import MaskedSoftmax, Product, Scale
from transpike.passes import FoldFactors
from transpike.recipes import BurstDigits, StreamingSigmaDelta

TOKENS, WIDTH = 5, 8


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval()


def sentences(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Integers of words, and 1 where a sentence has one; the first sentence is full."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 20, (count, TOKENS), generator=random)
    lengths = torch.randint(1, TOKENS + 1, (count, 1), generator=random)
    lengths[0] = TOKENS
    mask = torch.arange(TOKENS)[None] < lengths
    return ids * mask, mask.long()


class Attention(nn.Module):
    """Two heads of queries, with one head of keys and values for both if ``shared``; ``attend`` does the rest."""

    def __init__(self, attend: Callable[..., Tensor], shared: bool = False) -> None:
        super().__init__()
        self.shared, self.attend = shared, attend
        self.q, self.o = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.kv = nn.Linear(WIDTH, WIDTH if shared else 2 * WIDTH)

    def forward(self, x: Tensor, mask: Tensor, other: Tensor | None = None) -> Tensor:
        source = x if other is None else other
        q = self.q(x).unflatten(2, (2, 4)).transpose(1, 2)
        k, v = self.kv(source).unflatten(2, (-1, 4)).transpose(1, 2).chunk(2, 1)
        return self.o(self.attend(q, k, v, mask).transpose(1, 2).flatten(2))


def manual(q: Tensor, k: Tensor, v: Tensor, hide: Callable[[Tensor], Tensor]) -> Tensor:
    return hide(q @ k.transpose(-1, -2) / 2).softmax(-1) @ v


LEAST = torch.finfo(torch.float32).min
FUTURE = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
sdpa = F.scaled_dot_product_attention
WAYS: dict[str, Callable[..., Tensor]] = {
    "sdpa": lambda q, k, v, m: sdpa(q, k, v, attn_mask=m.bool()[:, None, None]),
    "sdpa with a scale": lambda q, k, v, m: sdpa(q, k, v, m.bool()[:, None, None], scale=0.3),
    "sdpa, one head of keys": lambda q, k, v, m: sdpa(q, k, v, m.bool()[:, None, None], enable_gqa=True),
    "sdpa with a sum": lambda q, k, v, m: sdpa(q, k, v, ((1.0 - m.float()) * LEAST)[:, None, None]),
    "sum": lambda q, k, v, m: manual(q, k, v, lambda s: s + (1.0 - m[:, None, None].float()) * -1e4),
    "where": lambda q, k, v, m: manual(q, k, v, lambda s: torch.where(m[:, None, None] > 0, s, -torch.inf)),
    "masked_fill": lambda q, k, v, m: manual(q, k, v, lambda s: s.masked_fill(m[:, None, None] == 0, -torch.inf)),
    "causal too": lambda q, k, v, m: manual(q, k, v, lambda s: s.masked_fill(~(m[:, None, None].bool() & ~FUTURE), -1e9)),
    "two masks": lambda q, k, v, m: manual(q, k, v, lambda s: s.masked_fill(m[:, None, None] == 0, LEAST).masked_fill(FUTURE, LEAST)),
    "where, then a sum": lambda q, k, v, m: manual(q, k, v, lambda s: s + torch.where(m[:, None, None].bool(), 0.0, LEAST)),
}  # fmt: skip


class Sentence(nn.Module):
    """Words and the mask of a sentence → the mean, or the sum, of its words after attention."""

    def __init__(self, way: str, mean: bool = True) -> None:
        super().__init__()
        self.mean = mean
        self.words, self.out = nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 3)
        self.attention = Attention(WAYS[way], shared="one head" in way)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.words(ids) + self.attention(self.words(ids), mask)
        m = mask.unsqueeze(-1).to(h.dtype)
        total = (h * m).sum(1)
        return self.out(total / m.sum(1).clamp(min=1e-9) if self.mean else total)


def converted(model: nn.Module, *inputs: Tensor, recipe: object = None) -> ts.SNN:
    recipe = StreamingSigmaDelta(timesteps=12, threshold_count=12, percentile=100.0) if recipe is None else recipe
    return ts.convert(model, recipe, [(inputs, torch.zeros(len(inputs[0])))])


def close(snn: ts.SNN, model: nn.Module, *inputs: Tensor, error: float = 0.01) -> bool:
    expected = model(*inputs).detach()
    return float((snn(*inputs) - expected).norm()) <= error * float(expected.norm())


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_that_is_an_input_hides_the_words_that_a_sentence_has_not(way):
    model, inputs = seeded(lambda: Sentence(way)), sentences(24)
    snn = converted(model, *inputs)
    assert close(snn, model, *inputs)
    ops = [node.op.op for node in snn.graph if hasattr(node.op, "op")]
    assert [op.by_sample for op in ops if isinstance(op, MaskedSoftmax)] == [True]
    assert [op.hides for op in ops if isinstance(op, Product)] == ["output", "first"]
    ids, mask = inputs
    assert torch.equal(snn(ids + 3 * (1 - mask), mask), snn(ids, mask)), "what is hidden has no influence"
    with pytest.raises(DataError, match=r"mask must be Boolean \(0 or 1\)"):
        snn(ids, 2 * mask)


def test_a_mask_may_be_of_bool_and_may_be_computed_from_the_words():
    class Words(Sentence):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids, ids != 0)

    ids, mask = sentences(24)
    model = seeded(lambda: Words("sdpa"))
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12, threshold_count=12, percentile=100.0), ids)
    assert close(snn, model, ids)
    model = seeded(lambda: Sentence("sdpa"))
    snn = converted(model, ids, mask.bool())
    assert close(snn, model, ids, mask.bool())
    assert torch.equal(snn(ids, mask), snn(ids, mask.bool()))
    assert ts.capture(model, Inputs.of((ids, mask.bool())), on_unsupported="keep").static >= {"mask"}


def test_whole_numbers_alone_are_captured_as_they_are_converted():
    model = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    ids = sentences(16)[0]
    graph = ts.capture(model, ids)
    assert torch.allclose(graph.run(ids.float()), model(ids), atol=1e-5)


def pairs_seen(op: object, shape: tuple[int, ...], masks: list[Tensor]) -> Tensor:
    """True where neither the constant mask nor that of a sample hides, in ``shape`` (batch, …)."""
    seen = torch.ones(shape, dtype=torch.bool)
    if op.mask is not None:
        seen &= (op.mask == 0).expand(shape)
    return seen & (masks[0] == 0).expand(shape) if masks else seen


def words_read(op: Product, first: Tensor, second: Tensor, masks: list[Tensor]) -> tuple[int, int]:
    """By one loop over the spikes of each side, (batch, heads, rows, columns): one word for each pair that is seen.

    A spike of a sum of levels counts as often as it has signed binary digits.
    """
    batch, heads, rows, inner = first.shape
    columns = second.shape[3]
    pairs = (batch, heads, rows, columns) if op.hides == "output" else (batch, heads, rows, inner)
    seen = pairs_seen(op, pairs, masks)
    found = [0, 0]
    for b, h, r, i in first.nonzero().tolist():
        spikes = int(first[b, h, r, i])
        found[0] += spikes * (int(seen[b, h, r].sum()) if op.hides == "output" else columns * int(seen[b, h, r, i]))
    for b, h, i, c in second.nonzero().tolist():
        found[1] += int(second[b, h, i, c]) * int(seen[b, h, :, c if op.hides == "output" else i].sum())
    return found[0], found[1]


def digits(levels: Tensor) -> Tensor:
    """The signed binary digits other than 0 in each level."""
    whole = levels.abs().long()
    return sum(((whole ^ (3 * whole)) >> k) & 1 for k in range(40))


COUNTED = ["sdpa", "sdpa, one head of keys", "causal too", "two masks"]


@pytest.mark.parametrize("engine", ["reference", "dense"])
@pytest.mark.parametrize(
    "recipe", [StreamingSigmaDelta(timesteps=5), BurstDigits(timesteps=2)], ids=["stream", "burst"]
)
@pytest.mark.parametrize("way", COUNTED)
def test_the_operations_of_products_are_those_of_a_loop_over_spikes_and_pairs(way, recipe, engine):
    model, inputs = seeded(lambda: Sentence(way)), sentences(10)
    snn = converted(model, *inputs, recipe=recipe)
    products = [node for node in snn.graph if isinstance(node.op, SpikeProduct)]
    neurons = [node.name for node in snn.graph if isinstance(node.op, SigmaDelta)]
    trace = ts.simulate(snn, Inputs.of(inputs), engine=engine, record=neurons)
    expected: dict[str, int] = {}
    hidden = (inputs[1] == 0)[:, None, None]
    hidden = hidden | FUTURE if way == "causal too" else hidden  # one mask, computed from both
    for node in products:
        sides = []
        for name in node.inputs[:2]:
            moves = [snn.graph[name]]
            while not isinstance(moves[0].op, SigmaDelta):
                moves.insert(0, snn.graph[moves[0].inputs[0]])
            train = digits(trace.trains[moves[0].name])
            for move in moves[1:]:
                train = torch.stack([move.op.run(now) for now in train])
            sides.append((moves[0].name, train))
        for now in zip(*(train for _, train in sides), strict=True):
            reads = words_read(node.op.op, *now, [hidden])
            for (name, _), count in zip(sides, reads, strict=True):
                expected[name] = expected.get(name, 0) + count
    found = {row.name: float(row.product_operations.sum()) for row in trace.activity.layers}
    assert {name: found[name] for name in expected} == expected
    assert sum(expected.values()) == sum(found.values()) > 0
    shared = [node for node in snn.graph if "repeat" in node.name and node.name.endswith("encoded")]
    assert not shared, "one neuron sends the spikes of a head of keys to all queries"


def test_the_engines_agree_and_count_the_same_functions_of_each_sample():
    model, inputs = seeded(lambda: Sentence("two masks", mean=False)), sentences(12)
    snn = converted(model, *inputs, recipe=StreamingSigmaDelta(timesteps=6))
    names = [node.name for node in snn.graph if isinstance(node.op, SigmaDelta)]
    traces = [ts.simulate(snn, Inputs.of(inputs), engine=one, record=names) for one in ("reference", "dense")]
    assert traces[0].ties == 0 and traces[0].exact
    assert all(torch.equal(traces[0].trains[name], traces[1].trains[name]) for name in names)
    assert traces[0].activity.evaluated == traces[1].activity.evaluated
    pairs = (~FUTURE & (inputs[1] == 1)[:, None]).sum((1, 2)).float()
    first = traces[0].activity.until(1, traces[0].activity.macs).evaluated["exp"]
    assert first == (2 * 15, 2 * float(pairs.mean())), "two heads: the executed network hides what is constant"


def test_samples_that_leave_a_run_take_their_masks_with_them():
    model, inputs = seeded(lambda: Sentence("sdpa")), sentences(8)
    snn = converted(model, *inputs, recipe=StreamingSigmaDelta(timesteps=4))
    x, ids = snn.prepare(Inputs.of(inputs)), torch.arange(8)
    for engine in ("reference", "dense"):
        run = ts.engines.table[engine]().start(snn.program, x, ids)
        run.advance(1)
        run.keep(torch.arange(8) >= 5)
        run.advance(3)
        three = ts.engines.table[engine]().start(snn.program, x[[5, 6, 7]], ids[5:])
        all_steps = three.advance(4), three.finish().activity
        one = ts.engines.table[engine]().start(snn.program, x, ids)
        one.advance(1)
        before, both = one.finish().activity, run.finish().activity
        after = {row.name: row.product_operations for row in all_steps[1].layers}
        for row in both.layers:
            assert torch.equal(row.product_operations[1:], after[row.name][1:])
        assert torch.equal(both.layers[0].spikes[:1], before.layers[0].spikes[:1])


def test_constant_masks_are_no_work_of_the_source_network_either():
    def causal(q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
        return sdpa(q, k, v, is_causal=True)

    x, mask = torch.randn(16, TOKENS, WIDTH), torch.ones(16, TOKENS)
    graph = ts.capture(seeded(lambda: Attention(causal)), Inputs.of((x, mask)), on_unsupported="keep")
    macs = {node.op.hides: graph.macs(node) for node in graph if isinstance(node.op, Product)}
    assert macs == {"output": 2 * 15 * 4, "first": 2 * 15 * 4}


@pytest.mark.parametrize("way", ["sdpa", "sum", "sdpa, one head of keys"])
def test_the_factor_of_attention_becomes_a_part_of_weights(way):
    model, inputs = seeded(lambda: Sentence(way)), sentences(12)
    before = ts.capture(model, Inputs.of(inputs), on_unsupported="keep")
    context = Context(before, (), timesteps=1)
    after = FoldFactors().apply(before, context)
    x = torch.cat([value.float() for value in inputs], 1)

    def factors(graph: ts.Graph) -> int:
        signals = [node for node in graph if isinstance(node.op, Scale) and node.name not in graph.static]
        return sum(node.op.weight.numel() == 1 and float(node.op.weight) != 1 for node in signals)

    assert factors(before) == 1 and factors(after) == 0
    assert torch.allclose(after.run(x), before.run(x), atol=1e-6)


def test_a_factor_stays_where_something_else_reads_the_same_channels():
    class Net(nn.Module):
        def __init__(self, apart: bool) -> None:
            super().__init__()
            self.qk, self.apart = nn.Linear(WIDTH, 2 * WIDTH), apart

        def forward(self, x: Tensor) -> Tensor:
            both = self.qk(x)
            q, k = both.chunk(2, -1) if self.apart else (both[..., :WIDTH], both[..., 4 : 4 + WIDTH])
            return (q * 0.25 @ k.transpose(1, 2)).softmax(-1)

    x = torch.randn(8, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))
    for apart in (True, False):
        before = ts.capture(seeded(lambda apart=apart: Net(apart)), x, on_unsupported="keep")
        after = FoldFactors().apply(before, Context(before, (), timesteps=1))
        assert torch.allclose(after.run(x), before.run(x), atol=1e-6)
        assert (len(after.nodes) < len(before.nodes)) == apart


class Decoder(nn.Module):
    """An encoder, and a decoder that does not see the future, both with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Transformer(WIDTH, 2, 1, 1, 16, batch_first=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        hidden = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        return self.both(x, x[:, :3], tgt_mask=FUTURE[:3, :3], **hidden)


class Cross(nn.Module):
    """Attention of torch with padding, to the sequence itself and to another one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.b = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.o = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y = self.a(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        return self.o(y[:, :2] + self.b(x[:, :2], y, y, key_padding_mask=padding)[0]).flatten(1)


class Layers(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, norm_first=True)
        self.layers, self.causal = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), causal

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.layers(x, mask=FUTURE if self.causal else None, src_key_padding_mask=padding)


@pytest.mark.parametrize(
    "make", [Cross, lambda: Layers(False), lambda: Layers(True), Decoder], ids=["cross", "encoder", "causal", "decoder"]
)
def test_padding_of_torch_s_own_attention_hides(make):
    model, mask = seeded(make), sentences(24)[1]
    x = torch.randn(24, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    snn = converted(model, x, mask == 0)
    assert close(snn, model, x, mask == 0)
    assert any(getattr(getattr(node.op, "op", None), "by_sample", False) for node in snn.graph)
