"""Later words change no spike of earlier positions, and streams of differences send what changes."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import transpike as ts
from decoders import Decoder
from seeded import network, random
from transpike.recipes import BurstDigits, StreamingSigmaDelta

WORDS, LENGTH = 7, 5
RECIPES = {"sigma-delta": StreamingSigmaDelta(timesteps=5), "burst": BurstDigits(timesteps=2)}
FORMS = (
    {"depth": 2, "width": 4, "heads": 1},
    {"heads": 2, "masked": False},
    {"heads": 4, "norm": False},
)


@functools.cache
def converted(recipe: str, form: int) -> ts.SNN:
    model = Decoder(WORDS, LENGTH, **FORMS[form])
    for parameter in model.parameters():
        parameter.data = random(*parameter.shape) / 2
    calibration = torch.randint(0, WORDS, (16, LENGTH), generator=torch.Generator().manual_seed(form))
    return ts.convert(model.eval(), RECIPES[recipe], calibration)


@pytest.mark.parametrize("engine", ["reference", "dense"])
@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=8)
@given(
    st.integers(0, len(FORMS) - 1), st.lists(st.integers(0, WORDS - 1), min_size=LENGTH, max_size=LENGTH),
    st.integers(1, LENGTH - 1), st.integers(1, WORDS - 1),
)  # fmt: skip
def test_later_words_change_no_spike_of_earlier_positions(recipe, engine, form, sentence, first, shift):
    snn = converted(recipe, form)
    one = torch.tensor([sentence])
    other = one.clone()
    other[:, first:] = (other[:, first:] + shift) % WORDS
    waits = snn.program.positions
    spiking = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
    a, b = (snn.run(ids, engine=engine, record=spiking) for ids in (one, other))
    assert torch.equal(a.logits[:, :, :first], b.logits[:, :, :first])
    assert not torch.equal(a.logits[:, :, first:], b.logits[:, :, first:])
    for name in spiking:
        before = (waits[name] < first).expand(a.trains[name].shape)
        assert torch.equal(a.trains[name][before], b.trains[name][before]), name
    hidden = [name for name in spiking if snn.graph[name].shape[:1] == (LENGTH,)]  # (positions, features)
    assert len(hidden) >= 4
    for name in hidden:
        assert torch.equal(a.trains[name][:, :, :first], b.trains[name][:, :, :first]), name
        assert waits[name][0].amax(1).tolist() == list(range(LENGTH)), name


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_a_stream_of_differences_sends_what_changes(engine):
    """An unchanged input costs nothing; another word costs its position and those after it."""
    snn, steps = converted("sigma-delta", 0), 12
    one = torch.tensor([[1, 2, 3, 4, 5], [0, 6, 5, 0, 1]])
    other = one.clone()
    other[:, 3:] = (other[:, 3:] + 2) % WORDS
    stream = snn.start(2, engine=engine, count=True)
    answers = [stream.step(one)] + [stream.step() for _ in range(steps - 1)]
    assert torch.equal(torch.stack(answers), snn.run(one, steps, engine=engine).logits)
    again = stream.step(one)
    assert torch.equal(again, answers[-1])
    changed = [stream.step(other)] + [stream.step() for _ in range(steps - 1)]
    assert all(torch.equal(now[:, :3], again[:, :3]) for now in changed)
    expected = snn.source.run(snn.prepare((other,)))
    assert float((changed[-1] - expected).norm()) <= 0.05 * float(expected.norm())
    spikes = torch.stack([layer.spikes for layer in stream.finish().activity.layers]).sum(0)
    assert float(spikes[steps]) == 0 < float(spikes[steps + 1])
    assert float(spikes[steps + 1 :].sum()) < 0.7 * float(spikes[:steps].sum())
    assert float(spikes[-1]) == 0, "it has settled again"


def test_both_engines_stream_the_same_images():
    model = network(nn.Conv2d(2, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 3))
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=4), random(16, 2, 6, 6))
    frames = random(3, 2, 2, 6, 6)
    found = []
    for engine in ("reference", "dense"):
        stream = snn.start(frames[0], engine=engine)
        found.append(torch.stack([stream.step(), stream.step(), *(stream.step(f) for f in frames), stream.step()]))
    assert torch.equal(*found)
    assert float((found[0][-1] - model(frames[2]).detach()).norm()) < 0.2 * float(model(frames[2]).detach().norm())
