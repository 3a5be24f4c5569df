"""Everything that runs a network compares its inputs with those of the calibration, and begins with what it found."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import transpike as ts
from stored import stored
from transpike import report
from transpike.errors import DataError, SettingError
from transpike.recipes import ECC
from transpike.workflow.cascade import cascade

DIGITS = ts.data.load("digits")
NORMAL = DIGITS.preprocessing
X, Y = DIGITS.test.batch(torch.arange(64))
RIGHT, RAW = (NORMAL(X), Y), (X, Y)
START = "the inputs do not look like those of the calibration.*raw 0..255"


@pytest.fixture(scope="module")
def snn() -> ts.SNN:
    """Converted through a loader that normalises, so that the network has no preprocessing of its own."""
    images, labels = DIGITS.train.batch(torch.arange(200))
    return ts.convert(stored("two-layers"), ECC(4), [(NORMAL(images), labels)])


def compared(snn: ts.SNN, data: Any, any_input: bool = False) -> ts.Comparison:
    images = NORMAL(DIGITS.train.batch(torch.arange(200))[0])
    settings = ts.ComparisonSettings(timesteps=(4,), any_input=any_input)
    return ts.compare(snn.source, [ECC()], images, settings, data=data)


RUNS: dict[str, Callable[[ts.SNN, Any], Any]] = {
    "evaluate": ts.evaluate,
    "cost": ts.cost,
    "explain": lambda snn, data: ts.explain(snn, data, changes=False),
    "record": lambda snn, data: ts.record(snn, data, samples=2),
    "fit_exit": lambda snn, data: ts.fit_exit(snn, data, drop=30.0),
    "finetune": lambda snn, data: ts.finetune(snn, data, epochs=1, timesteps=4),
    "simulate": lambda snn, data: ts.simulate(snn, data[0]),
    "call": lambda snn, data: snn(data[0]),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_run_refuses_inputs_of_another_scale(snn: ts.SNN, name: str) -> None:
    RUNS[name](snn, RIGHT)
    with pytest.raises(DataError, match=START):
        RUNS[name](snn, RAW)


def test_a_comparison_refuses_them_before_its_work(snn: ts.SNN) -> None:
    with pytest.raises(DataError, match=START):
        compared(snn, RAW)
    found = compared(snn, RAW, any_input=True)
    assert "differ" in found.warnings[0] and found.measured[0].remarks[0] == found.warnings[0]
    assert found.snn(found.measured[0]).inputs.any_input
    assert not compared(snn, RIGHT).warnings


def test_a_comparison_uses_all_of_two_equal_calibration_batches(snn: ts.SNN) -> None:
    """Two batches of one length are no pair of inputs and targets."""
    images = NORMAL(DIGITS.train.batch(torch.arange(200))[0])
    batches = [images[:100], 3 * images[100:]]
    settings = ts.ComparisonSettings(timesteps=(4,))
    found = ts.compare(snn.source, [ECC()], batches, settings, data=RIGHT)
    alone = ts.convert(snn.source, ECC(4), batches)
    assert alone.inputs.samples == 200 and alone.inputs.high == (batches[1].max().item(),)
    assert found.snn(found.measured[0]).inputs == alone.inputs
    assert found.measured[0].accuracy == ts.evaluate(alone, RIGHT).final.accuracy
    assert found.measured[0].spikes == ts.evaluate(alone, RIGHT).final.spikes


def test_an_early_answer_and_a_cascade_check_their_inputs(snn: ts.SNN) -> None:
    fitted = ts.fit_exit(snn, RIGHT, drop=30.0)
    assert not ts.answer_early(fitted, RIGHT[0]).warnings
    with pytest.raises(DataError, match=START):
        ts.answer_early(fitted, RAW[0])
    assert "differ" in ts.answer_early(fitted.accepting_any_input(), RAW[0]).warnings[0]
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    screen = ts.convert(module.eval(), ECC(4), NORMAL(DIGITS.train.batch(torch.arange(200))[0]))
    assert not cascade(screen, snn, RIGHT).warnings
    with pytest.raises(DataError, match=START):
        cascade(screen, snn, RAW)
    assert "differ" in cascade(screen.accepting_any_input(), snn.accepting_any_input(), RAW).warnings[0]


def test_a_deliberate_run_goes_on_with_a_warning_that_leads_every_result(snn: ts.SNN) -> None:
    """The numbers are those without a check; only the results say more."""
    free, unchecked = snn.accepting_any_input(), dataclasses.replace(snn, inputs=None)
    assert torch.equal(free(X), unchecked(X)) and "raw 0..255" in ts.simulate(free, X).warnings[0]
    found = ts.evaluate(free, RAW)
    results = [
        found,
        ts.cost(free, RAW),
        RUNS["explain"](free, RAW),
        RUNS["record"](free, RAW),
        compared(snn, RAW, True),
    ]
    assert [one.accuracy for one in found.curve] == [one.accuracy for one in ts.evaluate(unchecked, RAW).curve]
    for result in results:
        assert report.text(result).startswith(
            "Warning: the inputs differ from those of the calibration: they have values"
        )
        shown = io.StringIO()
        report.show(result, Console(file=shown, width=200))
        assert shown.getvalue().startswith("Warning: the inputs differ")
        content = json.dumps(result.to_json())
        assert '"warnings": ["the inputs differ' in content
        page = report.page(result)
        assert page.index("Warning: the inputs differ") < page.index("<h2>")


def test_right_inputs_give_no_warning(snn: ts.SNN) -> None:
    found = ts.evaluate(snn, RIGHT)
    assert (
        found.warnings == () and "Warning" not in report.text(found) and '"warnings": []' in json.dumps(found.to_json())
    )


def test_the_advice_is_right(snn: ts.SNN) -> None:
    """Preprocessing that a message proposes gives the accuracy of the normalised inputs."""
    expected = ts.evaluate(snn, RIGHT)
    found = ts.evaluate(snn.with_preprocessing(NORMAL), RAW)
    assert found.final.accuracy == expected.final.accuracy and not found.warnings


def test_a_fine_tuned_network_is_checked_against_its_training_inputs(snn: ts.SNN) -> None:
    tuned = ts.finetune(snn.accepting_any_input().with_preprocessing(ts.Preprocessing()), RAW, epochs=1, timesteps=4)
    assert any(remark.startswith("fine-tuned although the inputs differ") for remark in tuned.remarks)
    assert tuned.inputs.high == (1.0,) and not tuned.inputs.any_input
    assert not ts.evaluate(tuned, RAW).warnings


def test_files_keep_the_statistics_and_say_what_is_unknown(snn: ts.SNN, tmp_path: Path) -> None:
    path = ts.save(snn, tmp_path / "net.transpike")
    assert ts.load(path).inputs == snn.inputs and ts.load(path).preprocessing is None
    with pytest.raises(DataError, match=START):
        ts.evaluate(ts.load(path), RAW)
    assert "preprocessing: unknown; calibrated on 200 samples from -0.813 to 1.85" in str(ts.load(path))
    older = dataclasses.replace(snn, inputs=None, preprocessing=NORMAL)
    assert ts.load(ts.save(older, path)).inputs is None
    assert "preprocessing: (x - 0.305299) / 0.375726; calibrated on unknown inputs" in str(ts.load(path))
    assert "preprocessing: bytes / 255" in str(snn.with_preprocessing(ts.Preprocessing()))


def test_files_of_the_first_format_have_unknown_inputs() -> None:
    for path in sorted((Path(__file__).parents[1] / "golden/format1").glob("*.transpike"))[:3]:
        assert ts.load(path).inputs is None and "calibrated on unknown inputs" in str(ts.load(path))


def test_bytes_without_preprocessing_are_mentioned_by_the_conversion() -> None:
    images = DIGITS.train.batch(torch.arange(100))[0]
    found = ts.convert(stored("two-layers"), ECC(4), images)
    assert "receives 0..255" in found.remarks[0] and found.inputs.high == (255.0,)
    assert not ts.convert(stored("two-layers"), ECC(4), images, preprocessing=NORMAL).remarks


def test_recordings_take_no_other_preprocessing() -> None:
    frames = (torch.rand(16, 4, 2, 4, 4) < 0.3).float()
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(32, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    ).eval()
    found = ts.convert(model, ECC(4, encoder=ts.encoders.EventFrames()), frames)
    with pytest.raises(SettingError, match="silent pixels"):
        found.with_preprocessing(NORMAL)
    assert found.with_preprocessing(ts.Preprocessing()).preprocessing is None
    assert found.sample_shape is None and ts.simulate(found, frames).warnings == ()
