"""One number for one thing: page and JSON agree, every change has one sign, every number names its samples."""

import re

import pytest

from pages import Tags
from reported import EXPLAINED, SAMPLES
from transpike import report as reports
from transpike.workflow.compare.comparison import Comparison

POINTS = "accuracy change, points"


@pytest.fixture(scope="module")
def page(found) -> Tags:
    return Tags(found.html)


@pytest.fixture(scope="module")
def content(found) -> dict:
    return reports.to_json(found.results)


def shown(share: float) -> str:
    return f"{100 * share:.2f}"


def curve(report: dict) -> dict[int, dict]:
    return {answer["timesteps"]: answer for answer in report["snn"]["curve"]}


def test_every_row_of_accuracies_is_that_of_the_json(page, content) -> None:
    tables = [table for table in page.tables if table and POINTS in table[-1]]
    assert len(tables) == 2  # one for each evaluation
    for table, report in zip(tables, (content["report"], content["report-2"]), strict=True):
        answers, ann = curve(report), report["ann"]["accuracy"]
        rows = [row for row in table if row]
        assert len(rows) == len(answers)
        for row in rows:
            answer = answers[int(row["T"])]
            assert row["accuracy"] == f"{shown(answer['accuracy'])}%"
            assert row[POINTS] == f"{100 * (answer['accuracy'] - ann) + 0.0:+.2f}"
            assert row["95 % interval"] == f"{shown(answer['low'])}% … {shown(answer['high'])}%"
            assert int(row["total steps"]) == answer["total_steps"]


def test_every_accuracy_that_names_its_t_is_that_of_the_json(found, page, content) -> None:
    """In the decision, in the key figures, in sentences, and in what the slider shows."""
    answers, ann = curve(content["report"]), content["report"]["ann"]["accuracy"]
    words = re.findall(
        r"T=(\d+): (\d+\.\d\d)% \((\d+\.\d\d)% to (\d+\.\d\d)%\), change ([+-]\d+\.\d\d) points", found.html
    )
    assert len(words) == len(answers)
    for t, accuracy, low, high, change in words:
        answer = answers[int(t)]
        assert (accuracy, low, high) == tuple(shown(answer[key]) for key in ("accuracy", "low", "high"))
        assert change == f"{100 * (answer['accuracy'] - ann) + 0.0:+.2f}"
    (t, accuracy), *others = re.findall(r"accuracy at T=(\d+) (\d+\.\d\d)%", page.text)
    best = content["report"]["snn"]["recommended"]
    assert not others and int(t) == best == content["cost"]["timesteps"]
    assert accuracy == shown(answers[best]["accuracy"])
    sentences = re.findall(r"Recommended: T=(\d+), after \d+ total steps: (\d+\.\d\d)%", page.text)
    assert all(accuracy == shown(answers[int(t)]["accuracy"]) for t, accuracy in sentences)


def test_every_change_in_a_sentence_is_snn_minus_ann_of_an_answer(found, page, content) -> None:
    known = {
        f"{100 * (answer['accuracy'] - report['ann']['accuracy']) + 0.0:+.2f}"
        for report in (content["report"], content["report-2"])
        for answer in report["snn"]["curve"]
    }
    changes = re.findall(r"change ([+-]\d+\.\d\d)", page.text)
    assert changes and set(changes) <= known
    assert not re.search(r"\b(drop|lost|loses)\b [+-]?\d", page.text)


def test_the_same_recipe_has_the_same_accuracy_in_the_comparison(found, content) -> None:
    """ECC is converted with the same calibration there, and does not depend on T."""
    answers, comparison = curve(content["report"]), next(r for r in found.results if isinstance(r, Comparison))
    rows = [row for row in comparison.measured if row.recipe.startswith("ecc") and row.schedule == "streaming"]
    assert rows and all(row.accuracy == answers[row.timesteps]["accuracy"] for row in rows)
    assert comparison.ann["accuracy"] == content["report"]["ann"]["accuracy"]


def test_every_number_of_samples_is_that_of_its_section(page) -> None:
    """Fewer samples are named where they are used, and nowhere else."""
    for name, text in page.sections.items():
        counts = {int(n.replace(",", "")) for n in re.findall(r"(\d[\d,]*) samples\b", text)}
        assert counts <= ({EXPLAINED} if name == "explain" else {SAMPLES}), name
    assert f"first {EXPLAINED} samples" in page.sections["explain"]
    assert f"{SAMPLES} samples" in page.sections["accuracy"] and f"{SAMPLES} samples" in page.sections["compare"]


def test_both_networks_cost_the_same_in_the_decision_and_in_the_json(page, content) -> None:
    cost = content["cost"]
    favours = re.findall(r"energy models that favour the SNN at T=(\d+) (\d+) of (\d+)", page.text)
    models = [one for one in cost["models"] if one["judges"] and one["ratio"] is not None]
    assert favours == [(str(cost["timesteps"]), str(sum(m["ratio"] < 1 for m in models)), str(len(models)))]
    ann = re.search(r"quantised ANN with [\d and]+-bit activations \((\d+\.\d\d)%\)", page.text)
    assert ann is not None and ann[1] == shown(cost["twin"]["accuracy"])
