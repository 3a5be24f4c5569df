"""What source activations ask of the training loop: their penalties, and their stages."""

import copy
import json

import pytest
import torch
from torch import nn

from transpike import data
from transpike.data import Dataset
from transpike.errors import DataError, SettingError
from transpike.training.source import penalties, stages
from transpike.workflow.train import Training, train


class _Activation(nn.Module):
    """A ReLU, its clip or its staircase, as ``stage`` says; ``weight`` times its mean is its penalty."""

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.thresh = nn.Parameter(torch.tensor([2.0]))
        self.weight, self.stage, self.penalty = weight, "quantise", None
        self.seen: list[str] = []

    def forward(self, x):
        if self.training:
            self.seen.append(self.stage)
        if self.weight and self.training:
            self.penalty = self.weight * x.relu().mean()
        if self.stage == "relu":
            return x.relu()
        x = torch.minimum(x.relu(), self.thresh)
        if self.stage == "clip":
            return x
        level = self.thresh.detach() / 4
        return x + (torch.round(x / level) * level - x).detach()


def _net(weight: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), _Activation(weight), nn.Linear(24, 10))


def _digits(count: int = 300) -> Dataset:
    full = data.load("digits")
    return Dataset("digits", full.train.subset(torch.arange(count)), full.test, full.classes, full.preprocessing)


SETTINGS = {"epochs": 6, "learning_rate": 0.05, "batch_size": 50}


def test_a_penalty_is_trained_on_and_written_down(tmp_path):
    found = {}
    for weight in (0.0, 1e-6, 3.0):
        module = _net(weight)
        history = train(module, _digits(), Training(**SETTINGS), checkpoint=tmp_path / f"{weight}.safetensors").history
        lines = [json.loads(line) for line in (tmp_path / f"{weight}.jsonl").read_text().splitlines()]
        assert [line["penalty"] for line in lines] == [row.penalty for row in history]
        assert all((row.penalty > 0) == (weight > 0) for row in history)
        copy.deepcopy(module)  # no graph is left behind
        found[weight] = history[-1].penalty / (weight or 1)
    assert 0 < found[3.0] < 0.5 * found[1e-6]


def test_the_loss_is_written_without_the_penalty():
    plain, heavy = (
        train(_net(weight), _digits(), Training(**{**SETTINGS, "epochs": 1, "learning_rate": 0.0}))
        for weight in (0.0, 100.0)
    )
    assert plain.history[0].train_loss == heavy.history[0].train_loss
    assert heavy.history[0].penalty > 5


def test_a_penalty_of_an_earlier_forward_is_not_counted_again():
    module = _net(1.0)
    penalised = penalties.Penalised(module)
    first = penalised(torch.rand(3, 64))[1]
    assert first is not None and first.requires_grad
    module[2].weight = 0.0  # this time it sets none
    assert penalised(torch.rand(3, 64))[1] is None


def test_only_what_a_forward_has_set_is_a_penalty():
    module = _net(1.0)
    module.register_buffer("penalty", torch.ones(3))
    module[1].penalty = "l2"
    assert penalties.Penalised(module)(torch.rand(3, 64))[1].shape == ()
    module[2].weight = torch.ones(2, 1)
    module[2].forward = lambda x: (setattr(module[2], "penalty", torch.ones(2)), x.relu())[1]
    with pytest.raises(DataError, match=r"penalty of 2 must be one number, not \(2,\)"):
        train(module, _digits(), Training(**SETTINGS))


def test_a_penalty_that_is_not_finite_names_the_place():
    with pytest.raises(DataError, match=r"penalty of the activations is inf in epoch 1, step 1"):
        train(_net(float("inf")), _digits(), Training(**SETTINGS))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"clip": 3, "quantise": 5}, ["relu", "relu", "clip", "clip", "quantise", "quantise"]),
        ({"quantise": 2}, ["relu"] + ["quantise"] * 5),
        ({"clip": 1, "quantise": 6}, ["clip"] * 5 + ["quantise"]),
        ({"quantise": 4, "relu": 1}, ["relu"] * 3 + ["quantise"] * 3),
        ({"clip": 1}, ["clip"] * 6),
    ],
)
def test_stages_come_in_their_epochs(given, expected):
    module = _net()
    result = train(module, _digits(), Training(stages=given, **SETTINGS))
    steps = len(module[2].seen) // 6
    assert module[2].seen[::steps] == expected and module[2].stage == expected[-1]
    assert result.best_epoch >= max(given.values())


def test_without_stages_nothing_is_switched():
    module = _net()
    module[2].stage = "clip"
    train(module, _digits(), Training(**SETTINGS))
    assert set(module[2].seen) == {"clip"}


def test_the_best_epoch_is_one_of_the_last_stage(monkeypatch):
    """Every epoch is worse than the one before, so that the best of all is the first."""
    from transpike.training.source import loop

    numbers = iter([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    monkeypatch.setattr(loop, "measure", lambda *_: (1.0, next(numbers)))
    assert train(_net(), _digits(), Training(stages={"quantise": 4}, **SETTINGS)).best_epoch == 4


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("epoch", [2, 3, 5])
def test_a_run_with_stages_and_penalties_resumes_to_the_same_bits(tmp_path, epoch):
    def kill(news):
        if getattr(news, "step", 0) == 2 and news.epoch == epoch:
            raise _KilledError

    settings = {**SETTINGS, "stages": {"clip": 3, "quantise": 5}, "optimiser": "adam", "learning_rate": 1e-2}
    whole, broken = _net(0.1), _net(0.1)
    expected = train(whole, _digits(), Training(**settings))
    with pytest.raises(_KilledError):
        train(broken, _digits(), Training(**settings), checkpoint=tmp_path / "run.safetensors", progress=kill)
    broken = _net(0.1)
    result = train(broken, _digits(), Training(**settings), checkpoint=tmp_path / "run.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))
    assert [r.penalty for r in result.history] == [r.penalty for r in expected.history]
    assert broken[2].stage == "quantise"
    with pytest.raises(SettingError, match="stages was"):
        train(
            _net(0.1),
            _digits(),
            Training(**{**settings, "stages": {"clip": 3}}),
            checkpoint=tmp_path / "run.safetensors",
        )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"round": 3}, "not 'round'"),
        ({}, "whole epochs from 1 to 6"),
        ({"clip": 0}, "whole epochs from 1 to 6"),
        ({"clip": 7}, "whole epochs from 1 to 6"),
        ({"clip": 2.0}, "whole epochs from 1 to 6"),
        ({"clip": True}, "whole epochs from 1 to 6"),
        ({"clip": 3, "quantise": 3}, "at increasing epochs"),
        ({"clip": 5, "quantise": 3}, "at increasing epochs"),
    ],
)
def test_stages_that_make_no_sense(given, says):
    with pytest.raises(SettingError, match=says):
        train(_net(), _digits(), Training(stages=given, **SETTINGS))


def test_other_attributes_called_stage_are_left_alone():
    module = nn.Sequential(_Activation(), nn.Linear(2, 2))
    module[1].stage = "last"
    assert list(stages.staged(module)) == ["0"]
