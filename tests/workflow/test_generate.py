"""Decoders continue sequences: a new number costs its own position, and earlier positions remain silent."""

import functools
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import transpike as ts
from decoders import Decoder
from seeded import random
from stored import FOLDER
from transpike.core.inputs import Inputs
from transpike.engines import Dense, engine_named
from transpike.errors import DataError, SettingError, UnsupportedModel
from transpike.lowering.positions import multiplications
from transpike.neurons import SigmaDelta, SpikeProduct
from transpike.recipes import ECC, BurstDigits, StreamingSigmaDelta

WORDS, LENGTH = 11, 6
RECIPES = {
    "sigma-delta": StreamingSigmaDelta(timesteps=12),
    "short": StreamingSigmaDelta(timesteps=2, threshold_count=6),
    "burst": BurstDigits(),
}
FORMS = {
    "products": {},
    "torch": {"masked": False},
    "no norm": {"norm": False},
    "deep": {"depth": 2, "heads": 1},
    "soft mask": {"soft": True},
}


def words(samples: int, length: int = LENGTH, seed: int = 0) -> Tensor:
    return torch.randint(0, WORDS, (samples, length), generator=torch.Generator().manual_seed(seed))


def decoder(**options: object) -> Decoder:
    model = Decoder(WORDS, LENGTH, **options)
    for parameter in model.parameters():
        parameter.data = random(*parameter.shape) / (2 if parameter.ndim > 1 else 4)
    return model.eval()


@functools.cache
def converted(recipe: str, form: str = "products") -> ts.SNN:
    return ts.convert(decoder(**FORMS[form]), RECIPES[recipe], words(16))


def layers(count: Tensor) -> list[float]:
    return [float(value) for value in count]


@pytest.mark.parametrize("form", FORMS)
def test_bursts_give_the_spikes_and_logits_of_a_run_over_everything(form):
    """A burst is a function of the present estimate alone, so that the order of arrival leaves no trace."""
    snn, ids = converted("burst", form), words(3, seed=1)
    whole = snn.run(ids, engine="reference")
    run = engine_named("reference").start(snn.program, snn.prepare(Inputs.of((ids,))), torch.arange(3))
    for positions in (2, 3, 4, LENGTH):
        run.grow(run.x, positions)
        logits = run.advance(1)[-1]
        assert torch.equal(logits[:, :positions].float(), whole.logits[-1][:, :positions])
    found = run.finish().activity
    for one, other in zip(found.layers, whole.activity.layers, strict=True):
        assert float(one.spikes.sum()) == float(other.spikes.sum()), one.name
    if form not in ("torch", "soft mask"):  # one operator is evaluated as a whole; unknown masks hide nothing
        assert found.evaluated == {k: (v[0] * 4, v[1]) for k, v in whole.activity.evaluated.items()}
    made = ts.generate(snn, ids[:, :2], LENGTH - 2)
    assert torch.equal(made.logits, snn(made.ids)[:, 1:-1])
    assert torch.equal(made.ids[:, 2:], made.logits.argmax(-1)) and torch.equal(made.ids[:, :2], ids[:, :2])


@pytest.mark.parametrize("form", FORMS)
def test_settled_positions_remain_silent_and_new_ones_cost_their_own(form):
    snn, model, ids = converted("sigma-delta", form), decoder(**FORMS[form]), words(4, 3, seed=2)
    made = ts.generate(snn, ids, 3)
    assert not bool(made.repeated.any())
    assert bool((made.operations[1:] < 0.6 * made.operations[0]).all())
    expected = model(made.ids)[:, 2:-1].detach()
    assert float((made.logits - expected).norm()) <= 0.04 * float(expected.norm())
    whole = snn(made.ids)[:, 2:-1]
    assert float((made.logits - whole).norm()) <= 0.04 * float(expected.norm())


@pytest.mark.parametrize("recipe", RECIPES)
def test_messages_and_estimates_agree(recipe):
    """The reference engine steps through everything; the dense one takes each layer's steps at once."""
    snn, ids = converted(recipe), words(5, 2, seed=3)
    one, other = (ts.generate(snn, ids, 4, engine=engine) for engine in ("reference", "dense"))
    third = ts.generate(snn, ids, 4, engine=Dense(memory=1))  # one sample at a time
    for again in (other, third):
        for name in ("ids", "logits", "operations", "product_operations", "repeated", "macs", "macs_recomputed"):
            assert torch.equal(getattr(one, name), getattr(again, name)), name
        assert {k: layers(v) for k, v in one.evaluations.items()} == {
            k: layers(v) for k, v in again.evaluations.items()
        }
    assert (recipe == "short") == bool(one.repeated.any()), "two steps are too few to settle"


def test_what_does_not_exist_is_not_computed():
    """Two norms: one evaluation each per position. Silu: one per feature."""
    made = ts.generate(converted("burst"), words(3, 2), 3)
    assert layers(made.evaluations["rsqrt"]) == [4.0, 2.0, 2.0]
    assert layers(made.evaluations["silu"]) == [16.0, 8.0, 8.0]
    snn = converted("burst")
    run = engine_named("dense").start(snn.program, snn.prepare(Inputs.of((words(3),))), torch.arange(3))
    run.grow(run.x, 2)
    run.advance(1)
    run.grow(run.x, 5)
    run.advance(2)
    updates = {layer.name: layer.updates for layer in run.finish().activity.layers if layer.role == "neuron"}
    assert updates["blocks.0.silu"] == 3 * 8 * (2 + 2 * 5)


@pytest.mark.parametrize("form", ["products", "no norm"])
def test_multiplications_with_a_cache(form):
    """Those of all positions are those of a pass over everything; from one position to the next attention has more."""
    snn = converted("burst", form)
    made = ts.generate(snn, words(2, 2), 4)
    whole = multiplications(snn.program.lowered, {k: torch.ones_like(v) > 0 for k, v in snn.program.positions.items()})
    again = made.macs_recomputed
    assert torch.allclose(made.macs.cumsum(0), again)
    shapes = {node.name: node.shape for node in snn.graph}
    passed = 0
    for node in snn.graph:
        op = node.op.op if isinstance(node.op, SpikeProduct) else node.op
        passed += op.macs(tuple(shapes[name] for name in node.inputs), node.shape) or 0
    assert float(again[-1]) < whole == float(passed)
    steps = made.macs[2:] - made.macs[1:-1]
    assert steps.tolist() == [2 * 8, 2 * 8], "one more pair of positions in both products"


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_long_runs_stay_exact_while_sums_are_small(engine):
    """The grid has room for the sums of 63 steps, which a run whose input grows does not reach by its length."""
    snn, ids = converted("sigma-delta"), words(2, 2)
    assert not snn.run(words(2), 80, engine=engine).exact
    made = ts.generate(snn, ids, 4, timesteps=20, engine=engine)
    assert made.exact and made.why == ""
    with mock.patch.object(SigmaDelta, "most", 1 / 4):  # as if neurons could have sent less in a step
        assert "exact up to 63 steps only" in ts.generate(snn, ids, 4, timesteps=20, engine=engine).why


def test_sampling_is_reproducible():
    snn, ids = converted("short"), words(6, 2)
    greedy = ts.generate(snn, ids, 4)
    one, same, other = (ts.generate(snn, ids, 4, temperature=2.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.ids, same.ids) and not torch.equal(one.ids, other.ids)
    assert not torch.equal(one.ids, greedy.ids)
    assert torch.equal(ts.generate(snn, ids, 4, temperature=1e-4).ids, greedy.ids)
    assert "4 new after 2, 2 steps each" in str(greedy)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.head = decoder(), nn.Linear(5, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.max_pool1d(F.relu(self.decoder(ids)), 2))


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = decoder()

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(ids).mean(1)


def test_what_is_no_decoder_is_refused():
    with pytest.raises(UnsupportedModel, match="head: the answer at position 0 depends on the input at position 5"):
        ts.generate(ts.convert(decoder(causal=False), RECIPES["burst"], words(16)), words(1, 2), 1)
    with pytest.raises(UnsupportedModel, match=r"the answer is of shape \(11,\)"):
        ts.generate(ts.convert(Mean(), RECIPES["burst"], words(16)), words(1, 2), 1)
    with pytest.raises(UnsupportedModel, match=r"max_pool1d \(.*\) cannot begin later at some positions"):
        ts.generate(ts.convert(Pooled(), RECIPES["burst"], words(16)), words(1, 2), 1)
    images = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(UnsupportedModel, match="single input is a sequence of integers"):
        ts.generate(ts.convert(images, RECIPES["burst"], random(16, 4)), words(1, 2), 1)
    with pytest.raises(SettingError, match=r"not for ecc.*sigma-delta or burst-digits"):
        ts.generate(ts.convert(images, ECC(), random(16, 4)), words(1, 2), 1)


@pytest.mark.parametrize(
    ("ids", "settings", "error", "says"),
    [
        (words(1, 2), {"n": 5}, SettingError, "takes 6 numbers, but 2 with 5 more are 7"),
        (words(1, 2), {"n": 0}, SettingError, "n must be an integer of at least 1"),
        (words(1, 2), {"n": True}, SettingError, "n must be an integer"),
        (words(1, 2), {"n": 1, "temperature": -1.0}, SettingError, "temperature must be 0 or a positive"),
        (words(1, 2), {"n": 1, "temperature": float("nan")}, SettingError, "temperature must be"),
        (words(1, 2), {"n": 1, "timesteps": 0}, SettingError, "timesteps must be"),
        (words(1, 2).float(), {"n": 1}, DataError, "ids must be integers of shape"),
        (words(1, 2)[0], {"n": 1}, DataError, r"not torch.int64 of shape \(2,\)"),
        ([[1, 2]], {"n": 1}, DataError, "not list"),
        (words(1, 2)[:, :0], {"n": 1}, DataError, "at least one"),
        (words(1, 2) + WORDS, {"n": 1}, DataError, "looked up among 11 rows"),
    ],
)
def test_settings_and_prompts_are_checked(ids, settings, error, says):
    with pytest.raises(error, match=says):
        ts.generate(converted("burst"), ids, **settings)


def read_words(first: Tensor, second: Tensor, old: int, rows: bool) -> int:
    """By a loop over spikes: the stored words that spikes of a causal product read, of position ``old`` and before.

    ``first`` (batch, heads, i, k), ``second`` (batch, heads, k, j), as numbers of signed digits. ``rows``: queries and
    keys, of which pairs with j > i are hidden; else weights and values.
    """
    found = 0
    for (_, _, i, k), digits in zip(first.nonzero().tolist(), first[first != 0].tolist(), strict=True):
        there = range(old) if rows else range(second.shape[3])
        found += int(digits) * sum(1 for j in there if (j <= i if rows else k <= i))
    for (_, _, k, j), digits in zip(second.nonzero().tolist(), second[second != 0].tolist(), strict=True):
        found += int(digits) * sum(1 for i in range(old) if (j <= i if rows else k <= i))
    return found


def digits(levels: Tensor) -> Tensor:
    whole = levels.abs().long()
    return sum(((whole ^ (3 * whole)) >> k) & 1 for k in range(40))


def test_operations_of_products_equal_a_loop_over_spikes_and_positions():
    snn, ids = converted("burst", "no norm"), words(2, seed=4)
    neurons = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
    products = [node for node in snn.graph if isinstance(node.op, SpikeProduct)]
    assert [node.op.op.matrices for node in products] == [True, True, False]
    x = snn.prepare(Inputs.of((ids,)))
    run = engine_named("dense").start(snn.program, x, torch.arange(2), neurons)
    for positions in (2, 3, 5):
        run.grow(x, positions)
        run.advance(1)
    trace = run.finish()
    for step, positions in enumerate((2, 3, 5)):
        sides = [[digits(trace.trains[name][step]) for name in node.inputs] for node in products]
        expected = read_words(*sides[0], positions, True) + read_words(*sides[1], positions, False)
        expected += sum(int(side.sum()) for side in sides[2])  # of the gate each spike reads one word
        assert sum(float(layer.product_operations[step]) for layer in trace.activity.layers) == expected > 0


def characters() -> tuple[nn.Module, Tensor]:
    """The decoder of benchmarks/characters.py with its stored weights, and passages (n, 64) of the licence."""
    stored = {name: value.float() for name, value in load_file(FOLDER / "nanogpt.safetensors").items()}
    model, spec = ts.models.build("zoo:nanogpt")
    model.load_state_dict({**stored, "head.weight": stored["tokens.weight"]})
    text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="ascii")
    numbers = torch.tensor([0 if c == "\n" else ord(c) - 31 for c in text])
    length = spec.input_shape[0] + 1
    return model, numbers[: len(numbers) // length * length].reshape(-1, length)


def test_perplexity_of_a_trained_decoder_after_four_steps():
    model, passages = characters()
    x, y = passages[:, :-1], passages[:, 1:]
    calibration, test = slice(16, 28), slice(4)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=4), x[calibration])
    report = ts.evaluate(snn, ((x[test],), y[test]), task=ts.tasks.Sequence())
    ann = report.ann["perplexity"].value
    curve = [answer.metrics["perplexity"].value for answer in report.curve]
    assert 3 < ann < 12, "it has learned: a guess is 96"
    assert abs(curve[3] / ann - 1) < 0.01 < curve[0] / ann - 1


def test_a_published_decoder_generates():
    transformers = pytest.importorskip("transformers", reason="GPT-2 of Hugging Face needs transformers")
    sizes = {"vocab_size": WORDS, "n_positions": LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2}

    class GPT2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            ends = {"bos_token_id": None, "eos_token_id": None}
            self.inner = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends))

        def forward(self, ids: Tensor) -> Tensor:
            return self.inner(input_ids=ids, use_cache=False).logits

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2().eval()
    for parameter in model.parameters():
        parameter.data *= 8 if parameter.ndim > 1 else 1
    snn = ts.convert(model, BurstDigits(), words(16))
    made = ts.generate(snn, words(2, 2), 4)
    assert torch.equal(made.logits, snn(made.ids)[:, 1:-1]) and not bool(made.repeated.any())
    expected = model(made.ids)[:, 1:-1].detach()
    assert float((made.logits - expected).norm()) <= 0.05 * float(expected.norm())
