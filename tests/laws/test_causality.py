"""Later words change no spike of earlier positions, and streams of differences send what changes."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from decoders import Decoder
from seeded import random
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
