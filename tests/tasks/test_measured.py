"""Tasks that measure answers: metrics of sums by their definitions, their intervals, and how results show them."""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import transpike as ts
from seeded import network, random
from transpike import report
from transpike.cli import main
from transpike.errors import DataError, SettingError
from transpike.results.statistics import percentiles, resampled
from transpike.tasks import Fidelity, PixelClassification, Regression

N = 60
X = torch.rand(N, 6, generator=torch.Generator().manual_seed(0))


LINE = network(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
TARGETS = LINE(X).detach() + random(N, 2) / 10
SNN = ts.convert(LINE, ts.recipes.ECC(16), X)
IMAGES = torch.rand(20, 2, 6, 6, generator=torch.Generator().manual_seed(1))
MAPS = network(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
CLASSES = MAPS(IMAGES).argmax(1)
CLASSES[:, 0] = 255
CLASSES[:5, 3] = (CLASSES[:5, 3] + 1) % 3
SEGMENTER = ts.convert(MAPS, ts.recipes.ECC(16), IMAGES)


def values(task, output: Tensor, target: Tensor) -> dict[str, float]:
    checked = task.check(tuple(output.shape[1:]), len(output), target)
    found = task.values(task.statistics(output, checked).sum(0))
    return dict(zip((metric.name for metric in task.metrics), found.tolist(), strict=True))


def test_errors_of_a_regression_are_those_of_their_definitions() -> None:
    o, y = random(7, 2, 3), random(7, 3, 2).reshape(7, 2, 3)
    found = values(Regression(peak=2.0), o, y)
    error, y = (o.double() - y.double()), y.double()
    mse = float((error**2).mean())
    assert found["MSE"] == pytest.approx(mse) and found["MAE"] == pytest.approx(float(error.abs().mean()))
    assert found["R²"] == pytest.approx(1 - float((error**2).sum() / ((y - y.mean()) ** 2).sum()))
    assert found["PSNR"] == pytest.approx(10 * math.log10(4 / mse))
    assert values(Regression(), torch.ones(3, 1), torch.ones(3))["MSE"] == 0
    assert math.isnan(values(Regression(), torch.ones(3, 1), torch.ones(3))["R²"])  # targets without spread
    with pytest.raises(SettingError, match="peak"):
        Regression(peak=0.0)


def test_the_mean_iou_is_that_of_one_confusion_matrix() -> None:
    logits, y = random(5, 4, 3, 3), torch.arange(45).reshape(5, 3, 3) * 7 % 4
    y[0] = 9
    y[y == 3] = 0  # a class that only answers have
    confusion = torch.zeros(4, 4)
    for target, answer in zip(y.flatten().tolist(), logits.argmax(1).flatten().tolist(), strict=True):
        if target != 9:
            confusion[target, answer] += 1
    shared = confusion.diag()
    expected = float((shared / (confusion.sum(0) + confusion.sum(1) - shared)).mean())
    found = values(PixelClassification(ignore_index=9), logits, y)
    assert found["mean IoU"] == pytest.approx(expected) and 0.1 < expected < 0.4
    assert found["pixel accuracy"] == pytest.approx(float(shared.sum() / confusion.sum()))
    absent = torch.cat([logits, torch.full((5, 1, 3, 3), -99.0)], 1)  # occurs nowhere, and does not count
    assert values(PixelClassification(classes=5, ignore_index=9), absent, y)["mean IoU"] == pytest.approx(expected)


def test_fidelity_is_that_of_its_definitions() -> None:
    o, r = random(6, 4), random(4, 6).reshape(6, 4)
    found = values(Fidelity(), o, r)
    assert found["relative error"] == pytest.approx(float((o - r).norm() / r.norm()), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(o.flatten(), r.flatten(), dim=0)
    assert found["cosine"] == pytest.approx(float(cosine), rel=1e-5)
    assert found["argmax agreement"] == float((o.argmax(1) == r.argmax(1)).double().mean())
    assert math.isnan(values(Fidelity(), o[:, :1], r[:, :1])["argmax agreement"])
    assert math.isnan(values(Fidelity(), o, 0 * r)["cosine"])


def test_an_interval_from_resampled_samples_is_that_of_the_mean_for_a_mean() -> None:
    """Of many samples, ±1.96 standard errors; of equal samples nothing; and paired draws of one network with itself."""
    x = random(400, 1).double()
    low, high = percentiles(resampled(x, lambda sums: sums / len(x)))[:, 0].tolist()
    error = float(x.std() / math.sqrt(len(x)))
    assert low == pytest.approx(float(x.mean()) - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(float(x.mean()) + 1.96 * error, abs=0.2 * error)
    assert percentiles(resampled(torch.ones(9, 1).double(), lambda sums: sums / 9)).tolist() == [[1], [1]]
    both = resampled(torch.stack([x, x], 1), lambda sums: sums)
    assert torch.equal(both[:, 0], both[:, 1]) and both.std() > 0


def test_a_regression_is_measured_at_every_step_next_to_its_source() -> None:
    found = ts.evaluate(SNN, (X, TARGETS), task=Regression())
    assert isinstance(found, ts.Measurement) and len(found.curve) == SNN.timesteps
    assert found.ann["MSE"].value == pytest.approx(float((LINE(X) - TARGETS).detach().square().mean()), rel=1e-5)
    for t in (3, SNN.timesteps):
        expected = float((ts.simulate(SNN, X).logits[t - 1] - TARGETS).square().mean())
        answer = found.at(t)
        assert answer.metrics["MSE"].value == pytest.approx(expected, rel=1e-5)
        assert answer.changes["MSE"].value == pytest.approx(expected - found.ann["MSE"].value, rel=1e-4)
    last = found.final.metrics["MSE"]
    assert last.low < last.value < last.high
    least = min(a.timesteps for a in found.curve if a.metrics["MSE"].value <= 1.05 * last.value and a.spike_rate > 0)
    assert found.recommended.timesteps == least
    in_parts = ts.evaluate(SNN, [(X[:7], TARGETS[:7]), (X[7:], TARGETS[7:])], task=Regression())
    assert in_parts.final.metrics["MSE"].value == pytest.approx(last.value, rel=1e-9)
    assert in_parts.final.spikes == found.final.spikes
    single = ts.evaluate(SNN, (X[:1], TARGETS[:1]), task=Regression()).final.metrics["MSE"]
    assert single.value > 0 and single.low is None and single.high is None
    with pytest.raises(DataError, match="no answer at T=99"):
        found.at(99)


def test_a_segmenter_is_measured_by_its_mean_iou() -> None:
    task = PixelClassification(ignore_index=255)
    found = ts.evaluate(SEGMENTER, (IMAGES, CLASSES), task=task)
    assert found.ann["mean IoU"].value == pytest.approx(values(task, MAPS(IMAGES), CLASSES)["mean IoU"])
    expected = values(task, SEGMENTER(IMAGES), CLASSES)["mean IoU"]
    assert found.final.metrics["mean IoU"].value == pytest.approx(expected) and expected > 0.5
    text = report.text(found)
    assert f"mean IoU {expected:.2%}" in text and "accuracy change" not in text
    with pytest.raises(DataError, match=r"255.*ignore_index"):
        ts.evaluate(SEGMENTER, (IMAGES, CLASSES), task=PixelClassification())


def test_fidelity_is_in_every_result_and_needs_no_targets() -> None:
    alone = ts.evaluate(SNN, X, task=Fidelity())
    o, r = SNN(X), LINE(X).detach()
    assert alone.final.metrics["relative error"].value == pytest.approx(float((o - r).norm() / r.norm()), rel=1e-4)
    assert alone.ann == {} and alone.final.changes == {}
    classes = ts.evaluate(SNN, (X, LINE(X).argmax(1)))
    measured = ts.evaluate(SNN, (X, TARGETS), task=Regression())
    assert alone.fidelity == classes.fidelity == measured.fidelity and len(alone.fidelity) == SNN.timesteps
    last = alone.fidelity[-1]
    assert last.largest_difference == pytest.approx(float((o - r).abs().max()), rel=1e-5)
    assert last.argmax_agreement == classes.final.agreement
    assert classes.to_json()["fidelity"][-1]["relative_error"] == last.relative_error
    with pytest.raises(DataError, match=r"evaluation needs targets.*task=transpike\.tasks\.Fidelity\(\)"):
        ts.evaluate(SNN, X)


WRONG = {
    "targets of another shape": (lambda: values(Regression(), random(4, 2), random(4, 3)), r"of shape \(4, 3\).*\(batch, 2\)"),
    "too few targets": (lambda: values(Regression(), random(4, 2), random(3, 2)), r"of shape \(3, 2\)"),
    "NaN": (lambda: values(Regression(), random(4, 1), torch.full((4,), math.nan)), "NaN or infinite"),
    "logits of no pixels": (lambda: values(PixelClassification(), random(4, 2), torch.zeros(4)), r"\(batch, classes, …\)"),
    "other classes": (lambda: values(PixelClassification(3), random(1, 2, 2, 2), torch.zeros(1, 2, 2).long()), r"\(batch, 3, …\)"),
    "maps of another size": (lambda: values(PixelClassification(), random(1, 2, 2, 2), torch.zeros(1, 3, 3).long()), "integers of shape"),
    "a class too many": (lambda: values(PixelClassification(), random(1, 2, 2, 2), torch.full((1, 2, 2), 2)), "0 to 1: exclude classes"),
    "one output": (lambda: ts.tasks.Classification().check((1,), 1, torch.tensor([0])), r"tasks\.Regression\(\)"),
    "dense outputs": (lambda: ts.tasks.Classification().check((2, 4, 4), 1, torch.tensor([0])), r"PixelClassification\(\).*Regression\(\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_outputs_and_targets_that_do_not_fit_are_refused(what: str) -> None:
    call, words = WRONG[what]
    with pytest.raises(DataError, match=words):
        call()


def test_every_presentation_shows_the_metrics_of_the_task(tmp_path, capsys) -> None:
    found = ts.evaluate(SNN, (X, TARGETS), task=Regression(peak=3.0))
    saved = json.loads(report.save(found, tmp_path / "a.json").read_text())
    assert saved["snn"]["curve"][-1]["metrics"]["MSE"]["value"] == found.final.metrics["MSE"].value
    assert (
        str(Regression()) == "regression"
        and str(PixelClassification(ignore_index=1)) == "pixel-classification(ignore_index=1)"
    )
    assert [one["name"] for one in saved["metrics"]] == ["MSE", "MAE", "R²", "PSNR"] and saved[
        "task"
    ] == "regression(peak=3.0)"
    report.show(found)
    shown = capsys.readouterr().out
    page = report.save(found, tmp_path / "a.html").read_text()
    texts = [
        shown,
        page,
        report.save(found, tmp_path / "a.csv").read_text(),
        report.save(found, tmp_path / "a.txt").read_text(),
    ]
    assert all("MSE" in text and "accuracy" not in text.split("<style")[0] for text in texts)
    assert "PSNR" in shown and f"{found.final.metrics['MSE'].value:.4g}" in page
    assert report.save(found, tmp_path / "a.png").stat().st_size > 1000


def test_the_command_line_measures_by_tasks_of_the_registry(tmp_path) -> None:
    digits = ts.data.load("digits")
    model, spec = ts.models.build("zoo:small-cnn", input_shape=digits.image_shape)
    snn = ts.convert(model, ts.recipes.ECC(4), digits.train.images[:64], preprocessing=spec.preprocessing)
    ts.save(snn, tmp_path / "net.transpike")
    words = ["evaluate", str(tmp_path / "net.transpike"), "--limit", "32"]
    found = json.loads(CliRunner().invoke(main, [*words, "--task", "fidelity", "--json"]).stdout)
    assert found["task"] == "fidelity" and found["snn"]["curve"][-1]["metrics"]["relative error"]["value"] > 0
    other = CliRunner().invoke(main, [*words, "--task", "pixel-classification:ignore_index=255"])
    assert other.exit_code == 5 and "pixel-classification" in other.output
    error = 100 * found["snn"]["curve"][-1]["metrics"]["relative error"]["value"]
    for bound, code in ((error / 2, 4), (2 * error, 0)):
        gate = CliRunner().invoke(main, [*words, "--task", "fidelity", "--max-drop", str(bound)])
        assert gate.exit_code == code and ("relative error at T=4 is" in gate.output) == (code == 4)
