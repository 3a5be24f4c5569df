"""Optimisers, what weight decay touches, 16-bit products, and what a fingerprint sees."""

import copy

import pytest
import torch
from torch import nn

from transpike import convert, data, prepare, recipes
from transpike.activations import RateNorm
from transpike.errors import CheckpointError, SettingError
from transpike.training import checkpoint, connectivity, settings
from transpike.training.source import precision
from transpike.training.source.optimisers import is_threshold, optimiser
from transpike.workflow.train import Training, train


class _Clipped(nn.Module):
    """A linear network with a threshold for all, one a channel, and a scale."""

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.thresh = nn.Parameter(torch.full((1,), 4.0))
        self.thresholds = nn.Parameter(torch.full((10,), 4.0))
        self.scale = nn.Parameter(torch.ones(()))
        self.levels = levels

    def forward(self, x):
        x = torch.minimum(x.flatten(1).relu(), self.thresh)
        return torch.minimum(self.linear(x) * self.scale, self.thresholds)


THRESHOLDS = ("thresh", "thresholds", "scale")


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weight_decay_leaves_thresholds_alone_when_told_to(name):
    """The loss is 0, so that decay is all that moves a parameter."""
    for decayed in (True, False):
        module = _Clipped()
        before = copy.deepcopy(dict(module.named_parameters()))
        steps = optimiser(name, dict(module.named_parameters()), 0.1, 0.9, 0.1, decayed)
        for _ in range(2):
            sum(0 * p.sum() for p in module.parameters()).backward()
            steps.step()
        moved = {key for key, p in module.named_parameters() if not torch.equal(p, before[key])}
        assert moved == {"linear.weight", "linear.bias"} | (set(THRESHOLDS) if decayed else set())


def test_thresholds_are_known_by_name_or_size():
    parameters = dict(_Clipped().named_parameters())
    assert {name for name, p in parameters.items() if is_threshold(f"layer.{name}", p)} == set(THRESHOLDS)


def test_adam_is_torch_s_with_momentum_as_its_first_beta():
    group = optimiser("adam", dict(_Clipped().named_parameters()), 0.01, 0.8, 0.1).param_groups[0]
    assert (group["betas"], group["lr"], group["weight_decay"]) == ((0.8, 0.999), 0.01, 0.1)
    assert (
        Training().to_json()["learning_rate"] == 0.1 and Training(optimiser="adam").to_json()["learning_rate"] == 1e-3
    )
    assert Training(optimiser="adam", learning_rate=0.3).to_json()["learning_rate"] == 0.3


def test_a_network_of_thresholds_only_can_be_trained():
    module = _Clipped()
    module.linear.requires_grad_(False)
    before = module.scale.detach().clone()
    train(module, data.load("digits"), Training(epochs=1, decay_thresholds=False, learning_rate=0.01))
    assert not torch.equal(before, module.scale)


def test_grad_r_trains_a_sparse_network_that_converts_without_the_lost_synapses():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    digits = data.load("digits")
    result = train(module, digits, Training(epochs=10, optimiser="grad-r", learning_rate=5e-3, alpha=0.5))
    assert result.settings["sparsity"] == 0.9 and result.settings["alpha"] == 0.5
    assert result.settings["weight_decay"] == 0
    assert result.test_accuracy > 0.5  # it learns: chance is 0.1
    zeros = sum(int((p == 0).sum()) for p in module.parameters() if p.ndim > 1)
    total = connectivity(module).total
    assert result.best_epoch == 10  # the last, for earlier ones are denser
    assert zeros / total.weights > 0.5 and total.weights - total.connections == zeros
    snn = convert(module, recipes.ECC(), digits.train.batches(50, limit=100))
    assert connectivity(snn.graph).total.connections == total.connections


def test_only_activations_learn_where_that_is_asked_for():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)]
    module = prepare(nn.Sequential(*layers), RateNorm(momentum=0.5, regulariser=0.1))
    norm = module.get_submodule("3")
    digits = data.load("digits")
    norm.p.data.fill_(0.0)
    train(module, digits, Training(epochs=1, learning_rate=0.1))  # the first stage: weights, and the range M
    before = copy.deepcopy(module.state_dict())
    found = train(module, digits, Training(epochs=1, learning_rate=0.1, validation_fraction=0, learn="activations"))
    moved = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"3.p"} and found.settings["learn"] == "activations"
    assert all(p.requires_grad for p in module.parameters()) and not module.training and not norm.locked
    with pytest.raises(SettingError, match="Omit stages"):
        train(module, digits, Training(epochs=2, learn="activations", stages={"quantise": 2}))
    norm.stage = "relu"
    with pytest.raises(SettingError, match="set the attribute stage"):
        train(module, digits, Training(epochs=2, learn="activations"))


def test_steps_go_down_by_epoch():
    found = train(
        _Clipped(), data.load("digits"), Training(epochs=5, schedule="step", step_size=2, gamma=0.5, warmup_epochs=1)
    )
    rates = [row.learning_rate for row in found.history]
    assert rates[1:] == [0.1, 0.1, 0.05, 0.05] and 0.09 < rates[0] < 0.1
    assert found.settings["gamma"] == 0.5


def test_a_plain_setting_of_a_layer_is_part_of_the_fingerprint(tmp_path):
    """The levels of an activation are in none of its tensors."""
    assert settings.fingerprint(_Clipped()) == settings.fingerprint(_Clipped()) != settings.fingerprint(_Clipped(8))
    path = tmp_path / "run.safetensors"
    train(_Clipped(), data.load("digits"), Training(epochs=1), checkpoint=path)
    with pytest.raises(SettingError, match="network was"):
        train(_Clipped(8), data.load("digits"), Training(epochs=1), checkpoint=path)


def test_what_was_noted_is_part_of_the_settings(tmp_path):
    path = tmp_path / "run.safetensors"
    train(_Clipped(), data.load("digits"), Training(epochs=1), checkpoint=path, notes={"prepare": "a"})
    with pytest.raises(SettingError, match=r"notes was \{'prepare': 'a'\}, now \{'prepare': 'b'\}"):
        train(_Clipped(), data.load("digits"), Training(epochs=1), checkpoint=path, notes={"prepare": "b"})


def test_float16_scales_the_loss_and_resumes_with_its_scale(tmp_path, monkeypatch):
    """On a CPU, where torch can do it too, though nobody should."""
    monkeypatch.setattr(precision, "check", lambda *_: None)
    digits, seen = data.load("digits"), []
    common = {"precision": "float16", "learning_rate": 0.01, "validation_fraction": 0.0, "batch_size": 48}
    # Short of its first growth a scale stays as it began: 2 ** 16, doubled after 2000 steps
    monkeypatch.setattr(precision.torch.amp, "GradScaler", _quick(torch.amp.GradScaler))
    whole, broken = _Clipped(), _Clipped()
    broken.load_state_dict(whole.state_dict())
    train(whole, digits, Training(epochs=3, **common), checkpoint=tmp_path / "whole.safetensors")
    path = tmp_path / "broken.safetensors"
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda *words: (save(*words), seen.append(words[-1].scaler), 1 / (len(seen) - 2))
    )
    with pytest.raises(ZeroDivisionError):
        train(broken, digits, Training(epochs=3, **common), checkpoint=path)
    monkeypatch.setattr(checkpoint, "save", save)
    train(broken, digits, Training(epochs=3, **common), checkpoint=path)
    assert seen[0]["scale"] > 16 and seen[0]["scale"] != seen[1]["scale"]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))
    # A scale is a power of two, so that weights cannot tell whether it went on from where it was
    ends = [checkpoint._read(tmp_path / f"{name}.safetensors")[1]["scaler"] for name in ("whole", "broken")]
    assert ends[0] == ends[1] != "{}"
    assert {p.dtype for p in broken.parameters()} == {torch.float32}


def _quick(kind):
    return lambda device: kind(device, init_scale=16.0, growth_interval=7)


def test_a_damaged_state_of_the_optimiser_is_refused(tmp_path):
    path, digits = tmp_path / "run.safetensors", data.load("digits")
    train(_Clipped(), digits, Training(epochs=1, optimiser="adam"), checkpoint=path)
    tensors, metadata = checkpoint._read(path)
    tensors["optimiser.exp_avg.linear.weight"] = torch.zeros(3)
    checkpoint._write(path, tensors, metadata)
    with pytest.raises(CheckpointError, match="is damaged"):
        train(_Clipped(), digits, Training(epochs=1, optimiser="adam"), checkpoint=path)
