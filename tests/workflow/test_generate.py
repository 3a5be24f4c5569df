"""Decoders continue sequences: a new number costs its own position, and earlier positions remain silent."""

import functools
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from decoders import Decoder
from seeded import random
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
    assert bool((steps == steps[0]).all()) and float(steps[0]) == 2 * (8 + 8), (
        "one more pair of positions in both products"
    )


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
    with pytest.raises(UnsupportedModel, match="single input is a sequence of whole numbers"):
        ts.generate(ts.convert(images, RECIPES["burst"], random(16, 4)), words(1, 2), 1)
    with pytest.raises(SettingError, match=r"not for ecc.*sigma-delta or burst-digits"):
        ts.generate(ts.convert(images, ECC(), random(16, 4)), words(1, 2), 1)


@pytest.mark.parametrize(
    ("ids", "settings", "error", "says"),
    [
        (words(1, 2), {"n": 5}, SettingError, "takes 6 numbers, and 2 with 5 more are 7"),
        (words(1, 2), {"n": 0}, SettingError, "n must be a whole number of at least 1"),
        (words(1, 2), {"n": True}, SettingError, "n must be a whole number"),
        (words(1, 2), {"n": 1, "temperature": -1.0}, SettingError, "temperature must be 0 or a positive"),
        (words(1, 2), {"n": 1, "temperature": float("nan")}, SettingError, "temperature must be"),
        (words(1, 2), {"n": 1, "timesteps": 0}, SettingError, "timesteps must be"),
        (words(1, 2).float(), {"n": 1}, DataError, "ids must be whole numbers of shape"),
        (words(1, 2)[0], {"n": 1}, DataError, r"not torch.int64 of shape \(2,\)"),
        ([[1, 2]], {"n": 1}, DataError, "not list"),
        (words(1, 2)[:, :0], {"n": 1}, DataError, "at least one"),
        (words(1, 2) + WORDS, {"n": 1}, DataError, "looked up among 11 rows"),
    ],
)
def test_settings_and_prompts_are_checked(ids, settings, error, says):
    with pytest.raises(error, match=says):
        ts.generate(converted("burst"), ids, **settings)
