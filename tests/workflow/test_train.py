"""The training loop: learns, resumes to the same bits, refuses what makes no sense."""

import json
import math
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from measured import chance, nearest_mean
from transpike import data, models
from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset, Split
from transpike.errors import CheckpointError, DataError, SettingError
from transpike.training import schedule
from transpike.training.source import augmentation
from transpike.workflow.train import Progress, Row, Training, save_weights, train


def _digits(count: int = 400) -> Dataset:
    full = data.load("digits")
    return Dataset("digits", full.train.subset(torch.arange(count)), full.test, full.classes, full.preprocessing)


class _Net(nn.Module):
    """With dropout and batch normalisation, so that a resumed run has more to get right than weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.bn(self.conv(x))), 2)
        return self.linear(self.dropout(x.flatten(1)))


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return _Net()


SETTINGS = {"epochs": 4, "augment": "crop-flip", "warmup_epochs": 1, "batch_size": 48, "label_smoothing": 0.1}


class _KilledError(Exception):
    pass


def _kill_after(epoch: int):
    def progress(news):
        if isinstance(news, Progress) and (news.epoch, news.step) == (epoch + 1, 3):
            raise _KilledError

    return progress


@pytest.mark.parametrize(
    ("extra", "kills"),
    [
        ({}, (1, 3)),
        ({}, (2,)),
        ({}, (4,)),
        ({"momentum": 0.0}, (2,)),
        ({"validation_fraction": 0.0}, (1, 2, 3)),
        ({"padding": "reflect", "seed": 5}, (3,)),
        ({"schedule": "step", "step_size": 1, "gamma": 0.7}, (2,)),
        ({"optimiser": "adam", "learning_rate": 3e-3, "decay_thresholds": False}, (2, 3)),
        ({"optimiser": "adam", "schedule": "step", "step_size": 2, "momentum": 0.0}, (3,)),
        ({"optimiser": "grad-r", "learning_rate": 5e-3, "sparsity": 0.8}, (1, 3)),
    ],
)
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, extra, kills):
    settings, digits = {**SETTINGS, **extra}, _digits()
    whole, broken = _net(), _net()
    expected = train(whole, digits, Training(**settings), checkpoint=tmp_path / "whole.safetensors")
    path = tmp_path / "broken.safetensors"
    for epoch in kills:
        if epoch < settings["epochs"]:
            with pytest.raises(_KilledError):
                train(broken, digits, Training(**settings), checkpoint=path, progress=_kill_after(epoch))
        else:
            train(broken, digits, Training(**settings), checkpoint=path)
        torch.manual_seed(epoch + 100)
        broken = _net(seed=epoch)  # a new process knows nothing but the file
    result = train(broken, digits, Training(**settings), checkpoint=path)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, broken.state_dict()[name]), name
    assert result.test_accuracy == expected.test_accuracy
    assert result.best_epoch == expected.best_epoch
    rows = [
        [(r.epoch, r.learning_rate, r.train_loss, r.validation_loss) for r in x.history] for x in (result, expected)
    ]
    assert rows[0] == rows[1]
    lines = [json.loads(line) for line in (tmp_path / "broken.jsonl").read_text().splitlines()]
    assert [Row(**line) for line in lines] == list(result.history)


def test_a_kill_while_the_checkpoint_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path, digits = tmp_path / "run.safetensors", _digits(100)
    fsync, written = os.fsync, []

    def fail_the_second_time(descriptor):
        written.append(path.read_bytes() if path.exists() else b"")
        if b"progress" in written[-1]:
            raise _KilledError
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_the_second_time)
    with pytest.raises(_KilledError):
        train(_net(), digits, Training(**SETTINGS), checkpoint=path)
    monkeypatch.undo()
    assert path.read_bytes() == written[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.jsonl", "run.safetensors"]
    assert len(train(_net(), digits, Training(**SETTINGS), checkpoint=path).history) == 4


def test_other_settings_are_refused_by_name(tmp_path):
    path, digits = tmp_path / "run.safetensors", _digits(100)
    train(_net(), digits, Training(**SETTINGS), checkpoint=path)
    for change in ({"learning_rate": 0.05}, {"seed": 1}, {"epochs": 5}):
        with pytest.raises(SettingError, match=f"other settings: {next(iter(change))} was"):
            train(_net(), digits, Training(**{**SETTINGS, **change}), checkpoint=path)
    with pytest.raises(SettingError, match="other settings: preprocessing was"):
        train(_net(), digits, Training(**SETTINGS), checkpoint=path, preprocessing=Preprocessing())
    with pytest.raises(SettingError, match="labels was"):
        train(_net(), _digits(101), Training(**SETTINGS), checkpoint=path)
    with pytest.raises(SettingError, match="network was"):
        train(models.build("small-cnn")[0], digits, Training(**SETTINGS), checkpoint=path)
    assert (
        len(
            train(
                _net(), digits, Training(**{**SETTINGS, "epochs": 1, "warmup_epochs": 0}), checkpoint=path, resume=False
            ).history
        )
        == 1
    )


def test_a_checkpoint_of_an_older_version_is_not_gone_on_from(tmp_path):
    path, digits = tmp_path / "run.safetensors", _digits(100)
    train(_net(), digits, Training(**SETTINGS), checkpoint=path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["version"]
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"version 1, but this transpike resumes only version 2.*resume=False"):
        train(_net(), digits, Training(**SETTINGS), checkpoint=path)


def test_it_learns_and_writes_weights_that_load(tmp_path):
    torch.manual_seed(0)
    module, spec = models.build("small-cnn")
    news = []
    result = train(
        module,
        data.load("digits"),
        Training(epochs=12),
        checkpoint=tmp_path / "net.safetensors",
        notes={"spec": "zoo:small-cnn"},
        progress=news.append,
        threads=1,
    )
    assert not module.training
    assert [r for r in news if isinstance(r, Row)] == list(result.history)
    steps = [p for p in news if isinstance(p, Progress)]
    assert (steps[-1].step, steps[-1].epoch) == (steps[-1].steps, 12)
    again, _ = models.build("small-cnn")
    metadata = models.load_weights(again, tmp_path / "net.weights.safetensors")
    assert metadata["spec"] == "zoo:small-cnn"
    assert json.loads(metadata["facts"])["test_accuracy"] == result.test_accuracy
    test = data.load("digits").test
    right = torch.cat([again.eval()(spec.preprocessing(x)).argmax(1) == y for x, y in test.batches()])
    assert int(right.sum()) / len(test) == result.test_accuracy
    assert chance(right, nearest_mean(data.load("digits"))) < 0.01
    assert json.loads(json.dumps(result.to_json()))["best_epoch"] == result.best_epoch


def test_the_best_epoch_is_chosen_on_validation_images(tmp_path):
    result = train(_net(), _digits(), Training(**{**SETTINGS, "epochs": 6}))
    best = max(result.history, key=lambda row: (row.validation_accuracy, -row.validation_loss))
    assert result.best_epoch == best.epoch
    last = train(_net(), _digits(), Training(validation_fraction=0, **SETTINGS))
    assert last.best_epoch == 4
    assert last.history[0].validation_accuracy is None


def test_neither_test_nor_validation_images_are_trained_on(monkeypatch):
    digits, seen = _digits(100), []
    batch = Split.batch

    def watched(self, indices):
        if self is digits.train:
            seen.extend(torch.as_tensor(indices).tolist())
        assert self is not digits.test or not training.module.training
        return batch(self, indices)

    class training:  # noqa: N801
        module = _net()

    monkeypatch.setattr(Split, "batch", watched)
    result = train(training.module, digits, Training(validation_fraction=0.2, **SETTINGS))
    assert len(set(seen)) == 80
    assert result.test_images == 540


def test_the_global_generator_is_given_back():
    module = _net()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(module, _digits(100), Training(**SETTINGS))
    assert torch.equal(torch.rand(3), expected)


def test_divergence_names_the_place():
    with pytest.raises(DataError, match=r"epoch \d+, step \d+ of \d+.*lower learning_rate"):
        train(_net(), _digits(), Training(**{**SETTINGS, "learning_rate": 1e30, "warmup_epochs": 0}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": math.nan}, "learning_rate must be"),
        ({"validation_fraction": 1.0}, "validation_fraction must be"),
        ({"warmup_epochs": 4}, "warmup_epochs must be"),
        ({"augment": "flip"}, "crop-flip"),
        ({"padding": "wrap"}, "reflect"),
        ({"threads": 0}, "threads"),
        ({"precision": "float16"}, "needs a GPU; on cpu use bfloat16"),
        ({"precision": "float8"}, "bfloat16"),
        ({"optimiser": "adamw"}, "'sgd', 'adam'"),
        ({"schedule": "linear"}, "'cosine', 'step'"),
        ({"schedule": "step"}, "needs step_size"),
        ({"schedule": "step", "step_size": 0}, "step_size must be"),
        ({"schedule": "step", "step_size": 1, "gamma": 1.5}, "gamma must be"),
        ({"schedule": "step", "step_size": 1, "gamma": 0.0}, "gamma must be above 0"),
        ({"gamma": 0.5}, "need schedule='step'"),
        ({"step_size": 3}, "need schedule='step'"),
        ({"optimiser": "grad-r", "weight_decay": 1e-4}, "instead of weight decay"),
        ({"optimiser": "grad-r", "decay_thresholds": False}, "instead of weight decay"),
        ({"epochs": 1.5}, "epochs must be an integer"),
        ({"epochs": True}, "epochs must be an integer"),
        ({"learning_rate": "a"}, "learning_rate must be a number"),
        ({"momentum": "x"}, "momentum must be a number"),
        ({"schedule": "step", "step_size": 1.5}, "step_size must be an integer"),
        ({"device": "bogus"}, "no device 'bogus' here"),
        ({"optimiser": "grad-r", "sparsity": 0.3}, "sparsity at least 0.5"),
        ({"optimiser": "grad-r", "alpha": 0}, "alpha above 0"),
        ({"sparsity": 0.9}, "need optimiser='grad-r'"),
        ({"learn": "thresholds"}, "learn is one of"),
        ({"learn": "activations"}, "no activation of _Net has parameters"),
        ({"stages": {"clip": 2}}, "no activation of the network has stages"),
        ({"cutout": 8}, "less than the image's 8x8"),
        ({"cutout": -1}, " integer number of pixels"),
        ({"cutout": 2.5}, " integer number of pixels"),
        ({"augment": "auto-augment"}, "at least 16 pixels.*not 1x8x8"),
        ({"notes": {"training": "mine"}}, "'training' is reserved"),
        ({"log_to": f"tensorboard:{__file__}"}, "is a file"),
        ({"log_to": "csv"}, "'csv' is not a place for logs: write csv:FILE, tensorboard:FOLDER or wandb:PROJECT"),
        ({"log_to": [3]}, "a logger has log_metrics"),
        ({"tensorboard": "board"}, 'write log_to="tensorboard:FOLDER" instead'),
    ],
)
def test_settings_that_make_no_sense(change, says):
    with pytest.raises(SettingError, match=says):
        own = {name: change[name] for name in ("threads", "device", "notes", "log_to", "tensorboard") if name in change}
        settings = {name: value for name, value in change.items() if name not in own}
        train(_net(), _digits(100), Training(**{**SETTINGS, **settings}), **own)


def test_weights_that_are_not_finite_are_named_before_training(tmp_path):
    net = _net()
    with torch.no_grad():
        next(net.parameters()).flatten()[0] = math.nan
    with pytest.raises(SettingError, match=next(iter(net.state_dict())) + " contains NaN"):
        train(net, _digits(100), Training(**SETTINGS), checkpoint=tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_bfloat16_multiplies_in_16_bits_and_keeps_weights_in_32():
    nets, losses = {}, {}
    for precision in ("float32", "bfloat16"):
        nets[precision] = _net()
        losses[precision] = (
            train(nets[precision], _digits(), Training(precision=precision, **SETTINGS)).history[-1].train_loss
        )
    assert losses["float32"] != losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.1)
    assert {p.dtype for p in nets["bfloat16"].parameters()} == {torch.float32}


def test_data_and_networks_that_do_not_fit():
    digits = _digits(100)
    with pytest.raises(DataError, match=r"returns logits of shape \(\d+, 5\), not \(batch, 10\)"):
        train(models.build("small-cnn", num_classes=5)[0], digits, Training(epochs=1))
    with pytest.raises(SettingError, match="no parameters"):
        train(nn.Flatten(), digits, Training(epochs=1))
    with pytest.raises(DataError, match="two images"):
        train(_net(), _digits(1), Training(epochs=1))


def test_a_last_batch_of_one_image_is_left_out():
    assert len(train(_net(), _digits(49), Training(epochs=1, batch_size=16, validation_fraction=0)).history) == 1


def test_shared_tensors_can_be_saved(tmp_path):
    module = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    module["b"].weight = module["a"].weight
    save_weights(module, tmp_path / "folder" / "x.safetensors", {"note": "shared"})
    assert models.load_weights(module, tmp_path / "folder" / "x.safetensors")["note"] == "shared"


def _draw(mode, seed=0, padding="zero", pixels=None, images=None):
    if images is None:
        images = torch.arange(1, 6 * 2 * 16 * 16 + 1).reshape(6, 2, 16, 16).float()
    return images, augmentation.augment(images, mode, torch.Generator().manual_seed(seed), padding, pixels)


def test_augmentation_equals_pad_flip_and_crop():
    for padding, mode in (("zero", "constant"), ("reflect", "reflect")):
        images, found = _draw("crop-flip", padding=padding, pixels=3)
        padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode=mode)
        moved = 0
        for image, around in zip(found, padded, strict=True):
            crops = [a[:, i : i + 16, j : j + 16] for a in (around, around.flip(2)) for i in range(7) for j in range(7)]
            hits = [n for n, crop in enumerate(crops) if torch.equal(crop, image)]
            assert len(hits) == 1
            moved += hits[0] not in (24, 73)
        assert moved >= 4


def test_augmentation_is_drawn_from_the_generator():
    assert torch.equal(_draw("crop-flip")[1], _draw("crop-flip")[1])
    assert not torch.equal(_draw("crop-flip")[1], _draw("crop-flip", seed=1)[1])
    images, same = _draw("none")
    assert same is images
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert _draw("crop-flip", images=pixels, padding="reflect")[1].dtype == torch.uint8
    flips = sum(torch.equal(_draw("crop-flip", s, pixels=0)[1][0], images[0].flip(2)) for s in range(40))
    assert 10 <= flips <= 30


def test_cosine():
    factors = [schedule.cosine(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] < 0.001
    assert max(factors) == 1
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert schedule.cosine(0, 5) == 1


def test_steps_down():
    factors = [schedule.steps_down(step, 100, 10, 30, 0.5) for step in range(100)]
    assert factors[:10] == [schedule.cosine(step, 100, 10) for step in range(10)]
    assert factors[10:] == [1.0] * 30 + [0.5] * 30 + [0.25] * 30
    for wrong in ({"step": 100}, {"every": 0}, {"gamma": 0.0}, {"gamma": 1.1}, {"warmup": 100}):
        with pytest.raises(SettingError):
            schedule.steps_down(**{"step": 99, "steps": 100, "warmup": 0, "every": 5, "gamma": 0.5, **wrong})


def test_cosine_refuses_steps_outside():
    with pytest.raises(SettingError):
        schedule.cosine(5, 5)
