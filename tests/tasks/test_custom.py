"""Tasks of tokens, of boxes, and of functions of the user, in everything that asks a task; fine-tuning by their losses."""

import math
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from seeded import network, random
from transpike import report
from transpike.errors import DataError, MissingExtra, SettingError
from transpike.tasks import Binary, Detection, Fidelity, Function, MultiLabel, PixelClassification, Regression, Sequence

N = 40
X = torch.rand(N, 6, generator=torch.Generator().manual_seed(0))


LINE = network(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
SNN = ts.convert(LINE, ts.recipes.ECC(8), X)
TARGETS = LINE(X).detach() + random(N, 4) / 10
TOKENS = torch.rand(N, 5, 6, generator=torch.Generator().manual_seed(2))
TAGS = LINE(TOKENS).argmax(-1)
TAGS[:, 0], TAGS[:9, 2] = -100, 3
TAGGER = ts.convert(LINE, ts.recipes.ECC(8), TOKENS)


def hinge(answer: Tensor, target: Tensor) -> Tensor:
    return (answer - target).abs().clamp(max=1).mean(1)


def closeness(answer: Tensor, target: Tensor) -> Tensor:
    return 1 - hinge(answer, target)


def test_a_sequence_is_judged_by_all_tokens_that_count() -> None:
    found = ts.evaluate(TAGGER, (TOKENS, TAGS), task=Sequence())
    logits, counted = TAGGER(TOKENS), TAGS != -100
    expected = math.exp(float(F.cross_entropy(logits[counted].double(), TAGS[counted])))
    assert found.final.metrics["perplexity"].value == pytest.approx(expected, rel=1e-6)
    right = float((logits.argmax(-1) == TAGS)[counted].double().mean())
    assert found.final.metrics["token accuracy"].value == pytest.approx(right) and 0.5 < right < 1
    same = float((logits.argmax(-1) == LINE(TOKENS).argmax(-1)).double().mean())
    assert found.fidelity[-1].argmax_agreement == same  # of the tokens: the last axis holds the classes
    settings = ts.ComparisonSettings(timesteps=(8,), task=Sequence())
    rows = ts.compare(LINE, ["ecc"], TOKENS, settings, data=(TOKENS, TAGS))
    assert rows.pick("min=perplexity").value == pytest.approx(expected, rel=1e-6)
    assert ts.explain(TAGGER, (TOKENS, TAGS), task=Sequence(), changes=False).metric.name == "perplexity"


def test_a_function_is_measured_by_its_mean_over_samples() -> None:
    found = ts.evaluate(SNN, (X, TARGETS), task=hinge)
    each = hinge(SNN(X), TARGETS).double()
    last, ann = found.final.metrics["hinge"], hinge(LINE(X), TARGETS).double().mean().item()
    assert last.value == pytest.approx(float(each.mean()), rel=1e-6)
    error = 1.96 * float(each.std()) / math.sqrt(N)
    assert last.low == pytest.approx(last.value - error, abs=0.3 * error)
    assert last.high == pytest.approx(last.value + error, abs=0.3 * error)
    assert found.final.changes["hinge"].value == pytest.approx(last.value - ann, rel=1e-5)
    assert found.task == "function(hinge)" and "lower is better" in report.text(found)


@pytest.mark.parametrize(
    ("task", "word", "aim"), [(hinge, "hinge", "min"), (Function(closeness, True), "closeness", "max")]
)
def test_everything_takes_a_function(task, word: str, aim: str) -> None:
    settings = ts.ComparisonSettings(timesteps=(2, 8), task=task)
    rows = ts.compare(LINE, [ts.recipes.ECC(), "few-steps"], X, settings, data=(X, TARGETS))
    assert rows.pick(f"{aim}={word}").value == (min if aim == "min" else max)(row.value for row in rows.measured)
    assert ts.cost(SNN, (X, TARGETS), task=task).metric.name == word
    found = ts.explain(SNN, (X, TARGETS), task=task, changes=False)
    gap = abs(found.value - found.ann_value)
    assert found.layers[0].regained == pytest.approx(gap, abs=1e-5)
    assert ts.record(SNN, (X, TARGETS), samples=1, task=task).samples[0].values
    with pytest.raises(SettingError, match="neither correct nor wrong"):
        ts.fit_exit(SNN, (X, TARGETS), task=task)


def broken(answer: Tensor, target: Tensor) -> Tensor:
    raise ValueError("no luck")


FUNCTIONS = {
    "one number": (lambda o, y: (o - y).mean(), SettingError, r"must return one number per sample, of shape \(40,\), not \(\)"),
    "a list": (lambda o, y: [0.0] * len(o), SettingError, "not list"),
    "NaN": (lambda o, y: o[:, 0] * math.nan, DataError, "NaN or infinite for some samples"),
    "broken": (broken, SettingError, r"broken\(answer, target\) failed .* float32 \(40, 4\): ValueError: no luck"),
}  # fmt: skip


@pytest.mark.parametrize("what", FUNCTIONS)
def test_a_function_that_does_not_fit_is_refused(what: str) -> None:
    function, error, words = FUNCTIONS[what]
    with pytest.raises(error, match=words):
        ts.evaluate(SNN, (X, TARGETS), task=function)


def test_a_local_function_is_refused_for_several_processes() -> None:
    settings = ts.ComparisonSettings(timesteps=(4,), jobs=2, task=lambda o, y: (o - y).abs().mean(1))
    with pytest.raises(SettingError, match=r"cannot be sent to 2 processes .* top level of a module, or use jobs=1"):
        ts.compare(LINE, ["ecc"], X, settings, data=(X, TARGETS))


def test_an_exit_plays_no_part_where_answers_are_measured() -> None:
    snn = ts.fit_exit(SNN, (X.repeat(4, 1), LINE(X).argmax(1).repeat(4)), drop=5)
    assert "the exit was ignored" in " ".join(ts.evaluate(snn, (X, TARGETS), task=hinge).remarks)
    assert "the exit was ignored" not in " ".join(ts.evaluate(SNN, (X, TARGETS), task=hinge).remarks)


def boxes_of(answer: Tensor) -> list[dict[str, Tensor]]:
    """One box per sample, whose corner is the first two outputs."""
    corners = torch.cat([answer[:, :2], answer[:, :2] + 4], 1)
    return [
        {"boxes": box[None], "scores": row[2:3].sigmoid(), "labels": torch.zeros(1, dtype=torch.long)}
        for box, row in zip(corners, answer, strict=True)
    ]


def boxed(shift: float = 0.0) -> list[dict[str, Tensor]]:
    return [{"boxes": one["boxes"] + shift, "labels": one["labels"]} for one in boxes_of(LINE(X).detach())]


def test_detections_need_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.detection.mean_ap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'transpike\[detection\]'"):
        ts.evaluate(SNN, [(X, boxed())], task=Detection(boxes_of))


class FirstBoxes:
    """In place of torchmetrics: the share of targets that the most certain detection of their sample overlaps by half."""

    def __init__(self, box_format: str, max_detection_thresholds: list[int]) -> None:
        assert box_format == "xyxy" and max_detection_thresholds == [1, 10, 100]
        self.found: list[float] = []

    def update(self, found: list[dict[str, Tensor]], given: list[dict[str, Tensor]]) -> None:
        for one, target in zip(found, given, strict=True):
            for box, label in zip(target["boxes"], target["labels"], strict=True):
                low, high = torch.maximum(one["boxes"][0, :2], box[:2]), torch.minimum(one["boxes"][0, 2:], box[2:])
                both = float((high - low).clamp(min=0).prod())
                self.found.append(float(both / (32 - both) >= 0.5 and int(one["labels"][0]) == int(label)))

    def compute(self) -> dict[str, Tensor]:
        value = torch.tensor(sum(self.found) / len(self.found) if self.found else -1.0)
        return {"map": value, "map_50": value, "map_75": torch.tensor(-1.0)}


@pytest.fixture
def a_metric_of_boxes(monkeypatch) -> None:
    for name in ("torchmetrics", "torchmetrics.detection", "torchmetrics.detection.mean_ap"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["torchmetrics.detection.mean_ap"].MeanAveragePrecision = FirstBoxes


def test_detections_and_targets_of_all_batches_reach_the_metric(a_metric_of_boxes) -> None:
    targets = boxed(0.5)
    targets[3] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}  # an image without boxes
    targets[5] = {
        name: torch.cat([value, value + 20]) for name, value in targets[5].items()
    }  # another box, of class 20
    task = Detection(boxes_of, resamplings=20)
    found = ts.evaluate(SNN, [(X[:13], targets[:13]), (X[13:], targets[13:])], answers=(1, 8), task=task)
    assert found.ann["mAP"].value == pytest.approx((N - 1) / N)  # all but the box of class 20
    assert found.ann["mAP 75"].value is None
    expected = [box["boxes"][0] for box in boxes_of(SNN(X))]
    hits = 0
    for index, (box, target) in enumerate(zip(expected, targets, strict=True)):
        if index != 3:
            side = (4 - (box - target["boxes"][0]).abs()[:2]).clamp(min=0).prod()
            hits += float(side / (32 - side)) >= 0.5
    last = found.final.metrics["mAP"]
    assert last.value == pytest.approx(hits / N) and last.low <= last.value <= last.high and last.low < last.high
    assert found.final.changes["mAP"].value == pytest.approx(last.value - found.ann["mAP"].value)
    none = ts.evaluate(SNN, [(X, targets)], answers=(8,), task=Detection(boxes_of)).final.metrics["mAP"]
    assert none.value == pytest.approx(last.value) and none.low is None
    settings = ts.ComparisonSettings(timesteps=(8,), task=Detection(boxes_of))
    rows = ts.compare(LINE, ["ecc"], X, settings, data=[(X, targets)])
    assert rows.pick("map-50>=2 min=steps").value == pytest.approx(last.value)
    assert ts.cost(SNN, [(X, targets)], task=Detection(boxes_of)).quantised_baseline_value > 0.5
    assert ts.explain(SNN, [(X, targets)], task=Detection(boxes_of), changes=False).ann_value == found.ann["mAP"].value


DETECTIONS = {
    "no boxes": (lambda: ts.evaluate(SNN, (X, TARGETS), task=Detection(boxes_of)), DataError, "dictionaries of boxes"),
    "one list": (lambda: ts.evaluate(SNN, [(X, boxed())], task=Detection(lambda o: [o])), SettingError, "must return a list of 40 dictionaries"),
    "no tensors": (lambda: ts.evaluate(SNN, [(X, boxed())], task=Detection(lambda o: [{}] * len(o))), SettingError, "dictionaries of the tensors boxes, scores, labels"),
    "shapes": (lambda: ts.evaluate(SNN, [(X, boxed())], task=Detection(lambda o: [{k: v[0] for k, v in one.items()} for one in boxes_of(o)])), SettingError, r"must return boxes \(n, 4\)"),
    "too many": (lambda: ts.evaluate(SNN, [(X, [{"boxes": torch.ones(3, 4), "labels": torch.ones(3)}] * N)], task=Detection(boxes_of, most=2)), DataError, "has 3 boxes, .* takes 2: raise most"),
    "a label too few": (lambda: ts.evaluate(SNN, [(X, [{"boxes": torch.ones(3, 4), "labels": torch.ones(2)}] * N)], task=Detection(boxes_of)), DataError, "3 boxes and 2 labels"),
    "no function": (lambda: Detection(3), SettingError, "decode must be a function"),
}  # fmt: skip


@pytest.mark.parametrize("what", DETECTIONS)
def test_boxes_that_do_not_fit_are_refused(what: str, monkeypatch, a_metric_of_boxes) -> None:
    monkeypatch.setattr(FirstBoxes, "__init__", lambda *_, **__: None)
    call, error, words = DETECTIONS[what]
    with pytest.raises(error, match=words):
        call()


def test_detections_are_judged_by_the_mean_average_precision() -> None:
    for package in ("torchmetrics", "pycocotools", "torchvision"):
        pytest.importorskip(package, reason="the extra detection is not installed")
    task = Detection(boxes_of, resamplings=20)
    found = ts.evaluate(SNN, [(X[:13], boxed()[:13]), (X[13:], boxed()[13:])], answers=(1, 8), task=task)
    assert found.ann["mAP"].value == pytest.approx(1) and found.ann["mAP 50"].value == pytest.approx(1)
    assert found.final.metrics["mAP"].low < found.final.metrics["mAP"].value <= 1
    assert found.final.metrics["mAP"].value > found.at(1).metrics["mAP"].value
    # a box of 4 × 4, shifted by s in both directions, overlaps by (4 − s)²/(32 − (4 − s)²)
    shifted = ts.evaluate(SNN, [(X, boxed(0.5))], answers=(8,), task=Detection(boxes_of))
    overlap = 3.5**2 / (32 - 3.5**2)
    assert 0.6 < overlap < 0.65
    assert shifted.ann["mAP"].value == pytest.approx(0.3, abs=0.01)  # thresholds 0.5, 0.55 and 0.6 of ten
    assert shifted.ann["mAP 75"].value == 0 and shifted.ann["mAP"].low is None


IMAGES = torch.rand(40, 2, 6, 6, generator=torch.Generator().manual_seed(1))
MAPS = network(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
SEGMENTER = ts.convert(MAPS, ts.recipes.ECC(4), IMAGES)
MASKS = MAPS(IMAGES).argmax(1)
MASKS[:, 0] = 255
ONE = network(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
BINARY = ts.convert(ONE, ts.recipes.ECC(4), X)
SIGNS = (ONE(X)[:, 0] > ONE(X).median()).long()
TUNED = {
    "regression": (SNN, X, TARGETS, Regression(), lambda o, y: F.mse_loss(o, y)),
    "binary": (BINARY, X, SIGNS, Binary(), lambda o, y: F.binary_cross_entropy_with_logits(o[:, 0], y.float())),
    "labels": (SNN, X, (TARGETS > 0).float(), MultiLabel(), lambda o, y: F.binary_cross_entropy_with_logits(o, y.float())),
    "masks": (SEGMENTER, IMAGES, MASKS, PixelClassification(ignore_index=255), lambda o, y: F.cross_entropy(o, y, ignore_index=255)),
    "tokens": (TAGGER, TOKENS, TAGS, Sequence(), lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten())),
    "function": (SNN, X, TARGETS, Function(hinge), lambda o, y: hinge(o, y).mean()),
    "a larger one": (SNN, X, TARGETS, Function(closeness, True), lambda o, y: hinge(o, y).mean() - 1),
}  # fmt: skip


@pytest.mark.parametrize("what", TUNED)
def test_fine_tuning_minimises_the_loss_of_the_task(what: str) -> None:
    snn, x, y, task, loss = TUNED[what]
    settings = ts.FineTuning(epochs=3, learning_rate=0.01, batch_size=20, validation_fraction=0.0, augment="none")
    assert float(task.loss(snn(x), task.check(tuple(snn(x).shape[1:]), len(x), y))) == pytest.approx(
        float(loss(snn(x), y)), rel=1e-5
    )
    tuned = ts.finetune(snn, (x, y), settings, task=task)
    facts = tuned.provenance["fine_tuning"][-1]
    assert float(loss(tuned(x), y)) < float(loss(snn(x), y))
    assert facts["settings"]["loss"] == ["OfTask", {}] and facts["settings"]["task"] == str(task)
    grid = facts["grid"]
    value = ts.evaluate(tuned, (x, y), task=task).final.score[0]
    assert grid["accuracy_on" if what in ("binary", "labels") else "value_on"] == pytest.approx(value, rel=1e-4)


def test_fine_tuning_selects_the_epoch_by_the_loss_where_there_is_no_accuracy(tmp_path) -> None:
    settings = ts.FineTuning(epochs=4, learning_rate=0.03, batch_size=10, validation_fraction=0.3)
    path = tmp_path / "c.safetensors"
    tuned = ts.finetune(SNN, (X, TARGETS), settings, task=Regression(), checkpoint=path)
    facts = tuned.provenance["fine_tuning"][-1]
    losses = [row["validation_loss"] for row in facts["history"]]
    assert facts["best_epoch"] == 1 + losses.index(min(losses)) and facts["history"][0]["train_accuracy"] is None
    again = ts.finetune(SNN, (X, TARGETS), settings, task=Regression(), checkpoint=path)
    assert torch.equal(again(X), tuned(X))


REFUSED = {
    "no targets": (lambda: ts.finetune(SNN, (X, TARGETS), epochs=1, task=Fidelity()), SettingError, "no targets to train"),
    "a loss of classes": (lambda: ts.finetune(SNN, (X, TARGETS), epochs=1, loss="tet", task=Regression()), SettingError, "TET compares the logits of several classes, but the task is regression"),
    "other targets": (lambda: ts.finetune(SNN, (X, TARGETS[:, :2]), epochs=1, task=Regression()), DataError, r"targets of the training data .*one real number per output"),
    "no gradient": (lambda: ts.finetune(SNN, (X, TARGETS), epochs=1, task=Function(lambda o, y: (o > y).float().mean(1))), SettingError, "has no gradient"),
    "no loss": (lambda: ts.finetune(SNN, [(X, boxed())], epochs=1, task=Detection(boxes_of)), SettingError, "has no loss to train with"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_fine_tuned_is_refused(what: str, a_metric_of_boxes) -> None:
    call, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        call()
