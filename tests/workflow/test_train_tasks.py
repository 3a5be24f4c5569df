"""Training by a task: its loss, its metric, and targets that are no class indices."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seeded
import transpike as ts
from transpike.core.task import Task
from transpike.errors import DataError, SettingError
from transpike.tasks import (
    Binary,
    Fidelity,
    MultiLabel,
    PixelClassification,
    Regression,
    Sequence,
    TopK,
)

N = 40
IMAGES, SIGNALS = seeded.random(N, 1, 6, 6), seeded.random(N, 4, 5)


class Tagger(nn.Module):
    """Logits (batch, length, classes) of signals (batch, channels, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = seeded.network(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).movedim(1, 2)


class WithoutLoss(Regression):
    """A task that measures, and says nothing about training."""

    loss = Task.loss


def flat(outputs: int) -> nn.Module:
    return seeded.network(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, outputs))


def masks() -> nn.Module:
    return seeded.network(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))


TEACHER = seeded.network(nn.Flatten(), nn.Linear(36, 4))(IMAGES).detach()
PIXELS = torch.where(IMAGES[:, 0] > 0.5, 2, (IMAGES[:, 0] > -0.3).long())
WORDS = (SIGNALS[:, 0] > 0).long() + (SIGNALS[:, 1] > 0).long()
# task, network, inputs, targets, the loss from its definition, the metric of outputs and targets
CASES = {
    "regression": (Regression(), lambda: flat(4), IMAGES, TEACHER,
                   lambda o, y: (o - y).square().mean(), lambda o, y: float((o - y).double().square().mean())),
    "binary": (Binary(), lambda: flat(1), IMAGES, (TEACHER[:, 0] > 0).long(),
               lambda o, y: F.softplus(torch.where(y[:, None] == 1, -o, o)).mean(),
               lambda o, y: float(((o[:, 0] > 0).long() == y).double().mean())),
    "multi-label": (MultiLabel(), lambda: flat(4), IMAGES, (TEACHER > 0).long(),
                    lambda o, y: F.softplus(torch.where(y == 1, -o, o)).mean(),
                    lambda o, y: float(((o > 0).long() == y).all(1).double().mean())),
    "pixels": (PixelClassification(), masks, IMAGES, PIXELS,
               lambda o, y: -o.log_softmax(1).gather(1, y[:, None]).mean(),
               lambda o, y: sum(float(((o.argmax(1) == c) & (y == c)).sum() / ((o.argmax(1) == c) | (y == c)).sum())
                                for c in range(3)) / 3),
    "sequence": (Sequence(), Tagger, SIGNALS, WORDS,
                 lambda o, y: -o.log_softmax(-1).gather(-1, y[..., None]).mean(),
                 lambda o, y: float((-o.double().log_softmax(-1).gather(-1, y[..., None]).mean()).exp())),
}  # fmt: skip
SETTINGS = {"batch_size": N, "learning_rate": 0.05, "validation_fraction": 0.0}


def of(case: str, **splits: Tensor) -> ts.data.Dataset:
    task, _, x, y, *_ = CASES[case]
    parts = {name: ts.data.Split(x[rows], y[rows], name, any_targets=True) for name, rows in splits.items()}
    empty = ts.data.Split(x[:0], y[:0], "none", any_targets=True)
    return ts.data.Dataset(
        case, parts.get("train", empty), parts.get("test", empty), (), ts.Preprocessing(), task=task,
        validation=parts.get("validation"),
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_the_metric_are_those_of_the_task(case: str) -> None:
    task, network, x, y, loss, metric = CASES[case]
    module = network()
    with torch.no_grad():
        first = float(loss(module(x), y))
    found = ts.train(module, (x, y), ts.Training(epochs=40, task=task, **SETTINGS))
    assert found.history[0].train_loss == pytest.approx(first, rel=1e-5)
    assert found.history[-1].train_loss < 0.8 * first and found.test_accuracy is None
    with torch.no_grad():
        assert float(loss(module(x), y)) < 0.8 * first
    rows = torch.arange(N)
    module = network()
    result = ts.train(
        module, of(case, train=rows[:24], validation=rows[24:32], test=rows[32:]),
        ts.Training(epochs=2, batch_size=8, learning_rate=0.05),
    )  # fmt: skip
    with torch.no_grad():
        expected = metric(module(x[32:]), y[32:])
        kept = float(loss(module(x[24:32]), y[24:32]))
    outcomes = case in ("binary", "multi-label")
    assert (result.test_accuracy if outcomes else result.test_value) == pytest.approx(expected)
    assert result.metric.name == {"regression": "MSE", "pixels": "mean IoU", "sequence": "perplexity"}.get(
        case, "accuracy"
    )
    best = result.history[result.best_epoch - 1]
    assert best.validation_loss == pytest.approx(kept, rel=1e-4)
    assert (best.validation_accuracy is not None) == outcomes == hasattr(best, "train_accuracy") * outcomes
    if not outcomes:
        assert best.train_accuracy is None and best.metric == task.first.name and best.validation_value is not None
        assert result.best_epoch == min(result.history, key=lambda row: row.validation_loss).epoch


def test_a_training_by_a_metric_is_resumed_with_its_history(tmp_path) -> None:
    data, settings = (
        of("pixels", train=torch.arange(30), test=torch.arange(30, N)),
        ts.Training(epochs=2, batch_size=10),
    )
    first = ts.train(masks(), data, settings, checkpoint=tmp_path / "a.safetensors")
    again = ts.train(masks(), data, settings, checkpoint=tmp_path / "a.safetensors")
    assert again.history == first.history and again.test_value == first.test_value
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert all(line["metric"] == "mean IoU" and 0 <= line["validation_value"] <= 1 for line in lines)
    assert first.to_json()["settings"]["task"] == "pixel-classification" and first.to_json()["test_value"]
    with pytest.raises(SettingError, match="task was 'pixel-classification', now"):
        other = ts.Training(epochs=2, batch_size=10, task=PixelClassification(ignore_index=1))
        ts.train(masks(), data, other, checkpoint=tmp_path / "a.safetensors")


def test_a_task_of_classes_counts_by_its_own_rule() -> None:
    """Top-2 accuracy; without a task nothing changes, not even the keys of the result."""
    y = TEACHER.argmax(1)
    module, settings = flat(4), ts.Training(epochs=1, batch_size=8, seed=3)
    plain = ts.train(module, (IMAGES, y), settings)
    weights = [value.clone() for value in module.state_dict().values()]
    module = flat(4)
    top = ts.train(module, (IMAGES, y), ts.Training(epochs=1, batch_size=8, seed=3, task=TopK(2)))
    assert all(torch.equal(a, b) for a, b in zip(weights, module.state_dict().values(), strict=True))
    assert top.history[0].train_loss == plain.history[0].train_loss
    assert top.history[0].train_accuracy > plain.history[0].train_accuracy
    assert (
        "task" not in plain.settings and set(plain.to_json()) == set(top.to_json()) and "metric" not in plain.to_json()
    )


def test_what_no_task_can_train_is_refused_before_the_work() -> None:
    def train(task: ts.tasks.Task, network: nn.Module, y: Tensor, **settings: object) -> None:
        ts.train(network, (IMAGES, y), ts.Training(epochs=1, task=task, **settings))

    with pytest.raises(SettingError, match="fidelity has no targets to train with"):
        train(Fidelity(), flat(4), TEACHER)
    with pytest.raises(SettingError, match="label_smoothing is for classes, but the task is regression"):
        train(Regression(), flat(4), TEACHER, label_smoothing=0.1)
    with pytest.raises(SettingError, match=r"moves the pixels of an image, and not those of its target, \(6, 6\)"):
        train(PixelClassification(), masks(), PIXELS, augment="crop")
    with pytest.raises(
        DataError, match=r"regression needs one real number per output: the network returns \(batch, 3\)"
    ):
        train(Regression(), flat(3), TEACHER)
    with pytest.raises(SettingError, match="has no loss to train with"):
        train(WithoutLoss(), flat(4), TEACHER)


def test_fine_tuning_does_not_shift_images_whose_targets_have_pixels() -> None:
    x, y = seeded.random(24, 2, 16, 16), (seeded.random(24, 16, 16) > 0).long()
    network = seeded.network(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    snn = ts.convert(network, ts.recipes.ECC(timesteps=4), x)
    tuned = ts.finetune(snn, (x, y), task=PixelClassification(), epochs=1, batch_size=8)
    assert tuned.provenance["fine_tuning"][-1]["settings"]["augment"] == "none"
    with pytest.raises(SettingError, match="moves the pixels of an image"):
        ts.finetune(snn, (x, y), task=PixelClassification(), epochs=1, augment="crop-flip")
    classes = seeded.network(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 2))
    snn = ts.convert(classes, ts.recipes.ECC(timesteps=4), x)
    tuned = ts.finetune(snn, (x, torch.arange(24) % 2), epochs=1, batch_size=8)
    assert tuned.provenance["fine_tuning"][-1]["settings"]["augment"] == "crop-flip"
