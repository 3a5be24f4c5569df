"""Runs, evaluations and conversions that cannot be are refused with the reason; those that can be, are."""

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.activations import QuantisedClip
from transpike.errors import DataError, SettingError, TranspikeError
from transpike.recipes import BSNN, ECC
from transpike.schedules import LayerSynchronous

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 10))
CALIBRATION, X, Y = torch.rand(64, 7), torch.rand(6, 7), torch.arange(6)
ECC8, CYCLES = ts.convert(MODEL, ECC(8), CALIBRATION), ts.convert(MODEL, BSNN(16, period=4), CALIBRATION)


def compared(recipes=None, **settings):
    return ts.compare(
        MODEL, recipes, CALIBRATION, ts.ComparisonSettings(**{"timesteps": (4,), **settings}), data=(X, Y)
    )


REFUSED = {
    "broken cycles": (lambda: ts.simulate(CYCLES, X, 6, engine="dense"), SettingError, "not whole cycles of 4"),
    "less than a cycle": (lambda: CYCLES(X, 3), SettingError, "not whole cycles of 4"),
    "broken cycles, evaluated": (lambda: ts.evaluate(CYCLES, (X, Y), answers=(5,)), SettingError, "not whole cycles"),
    "total steps of 0": (lambda: ECC8.total_steps(0), SettingError, "integer of at least 1"),
    "total steps of a half": (lambda: ECC8.total_steps(2.5), SettingError, "integer"),
    "too many steps": (lambda: ECC(10**20), SettingError, "at most 16,777,216"),
    "answers after the end": (lambda: ts.evaluate(ECC8, (X, Y), timesteps=4, answers=(2, 8)), SettingError, "pass timesteps=8"),
    "one-hot targets": (lambda: ts.evaluate(ECC8, (X, torch.eye(10)[Y])), DataError, r"for one-hot labels write y\.argmax\(1\)"),
    "too few targets": (lambda: ts.evaluate(ECC8, (X, Y[:3])), DataError, "6 inputs and 3 targets"),
    "maps as answers": (lambda: ts.evaluate(ts.convert(nn.Conv2d(1, 2, 1), ECC(4), torch.rand(16, 1, 3, 3), allow_no_neurons=True), (torch.rand(6, 1, 3, 3), Y)), DataError, r"needs logits \(batch, classes\)"),
    "beyond float32": (lambda: ECC8(X.double() * 1e300), DataError, "values beyond float32"),
    "numpy": (lambda: ECC8(X.numpy()), DataError, "not a ndarray"),
    "complex": (lambda: ECC8(X + 0j), DataError, "not a complex tensor"),
    "sample ids": (lambda: ts.simulate(ECC8, X, sample_ids=torch.arange(3)), DataError, "6 integers"),
    "a number as calibration": (lambda: ts.convert(MODEL, ECC(8), torch.tensor(1.0)), DataError, "first axis"),
    "half a sample": (lambda: ts.convert(MODEL, ECC(8), CALIBRATION, calibration_samples=2.5), SettingError, "calibration_samples must be an integer"),
    "a word as seed": (lambda: ts.convert(MODEL, ECC(8), CALIBRATION, seed="a"), SettingError, "seed must be an integer"),
    "half a level": (lambda: QuantisedClip(1.5), SettingError, "levels must be an integer"),
    "one recipe": (lambda: compared(recipes=ECC()), SettingError, "recipes must be a tuple or a list"),
    "one number of steps": (lambda: compared(timesteps=4), SettingError, "timesteps must be a tuple or a list"),
    "half a job": (lambda: compared(jobs=1.5), SettingError, "jobs must be an integer"),
    "a number as a sentence": (lambda: compared().pick(3), SettingError, "text like 'drop<=1"),
    "a bound without end": (lambda: compared().pick("steps<=inf min=steps"), SettingError, "is not a condition"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_the_reason(what):
    provoke, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        provoke()


def test_a_broken_weight_has_the_name_that_the_model_gives_it():
    model = nn.Sequential(nn.Linear(7, 3))
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(TranspikeError, match=r"0\.weight contains NaN"):
        ts.convert(model, ECC(8), CALIBRATION)


@pytest.mark.parametrize("recipe", [ECC(8), ECC(8, schedule=LayerSynchronous()), BSNN(8)], ids=str)
@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)), nn.Identity()], ids=["linear", "nothing"]
)
def test_a_network_without_neurons_gives_what_it_gave(model, recipe):
    snn = ts.convert(model, recipe, CALIBRATION, allow_no_neurons=True)
    with torch.no_grad():
        expected = model(X)
    for engine in ("auto", "dense", "reference", *(["event"] if ts.engines.event_status()[0] else [])):
        assert torch.allclose(ts.simulate(snn, X, engine=engine).logits[-1], expected, atol=1e-5)
    assert ts.evaluate(snn, (X, expected.argmax(1))).final.accuracy == 1.0


def test_targets_in_a_column_are_targets():
    expected = ts.evaluate(ECC8, (X, Y)).outcomes
    found = ts.evaluate(ECC8, (X, Y[:, None])).outcomes
    assert all(torch.equal(found[t], outcome) for t, outcome in expected.items())


def test_answers_beyond_the_recipe_s_steps_lengthen_the_run():
    assert [a.timesteps for a in ts.evaluate(ECC8, (X, Y), answers=(2, 16)).curve] == [2, 16]


def test_a_sentence_may_have_spaces():
    comparison = compared(timesteps=(4, 8))
    assert comparison.pick("steps <= 4 min = steps") is comparison.pick("steps<=4 min=steps")
