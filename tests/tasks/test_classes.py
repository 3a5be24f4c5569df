"""Tasks with classes: the default is the largest logit, and the k best are a law in k."""

import dataclasses
import itertools
import json

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from transpike.cli import main
from transpike.core.task import Task
from transpike.errors import DataError, SettingError
from transpike.tasks import Classification, TopK


@st.composite
def answers(draw) -> tuple[Tensor, Tensor, Tensor]:
    """(times, samples, classes) logits, those of another network, and targets; few values, so that many are equal."""
    times, samples, classes = (draw(st.integers(1, 4)) for _ in range(3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    few = draw(st.sampled_from([2, 5, 1000]))
    logits, other = (torch.randint(few, (n, samples, classes), generator=random).double() for n in (times, 1))
    return logits, other[0], torch.randint(classes, (samples,), generator=random)


@given(answers())
def test_classification_is_the_largest_logit_and_so_is_the_first_of_k(case) -> None:
    logits, other, y = case
    expected = logits.argmax(-1) == y
    assert torch.equal(Classification().outcomes(logits, y), expected)
    assert torch.equal(TopK(1).outcomes(logits, y), expected)
    same = logits.argmax(-1) == other.argmax(-1)
    assert torch.equal(Classification().agrees(logits, other), same)
    assert torch.equal(TopK(1).agrees(logits, other), same)


@given(answers())
def test_more_of_the_best_are_never_fewer_right_and_all_classes_are_all_right(case) -> None:
    logits, other, y = case
    classes = logits.shape[-1]
    for what, of in (("outcomes", y), ("agrees", other)):
        found = [getattr(TopK(k), what)(logits, of) for k in range(1, classes + 1)]
        assert all(bool((fewer <= more).all()) for fewer, more in itertools.pairwise(found))
        assert bool(found[-1].all())
    counts = sum(TopK(k).outcomes(logits, y).int() for k in range(1, classes + 1))  # n − k + 1 times from its place on
    places = [sorted(range(classes), key=lambda c: (-row[c], c)).index(int(y[i])) for i, row in enumerate(logits[0])]
    assert counts[0].tolist() == [classes - place for place in places]


REFUSED = {
    "no numbers of classes": (
        lambda: TopK(2).check((4,), 3, torch.tensor([0.5, 1, 2])),
        r"float32 of shape \(3,\).*y\.long\(\)",
    ),
    "too large": (lambda: Classification().check((4,), 2, torch.tensor([0, 4])), "0 to 4, but the network has 4"),
    "negative": (lambda: Classification().check((4,), 2, torch.tensor([0, -1])), "are -1 to 0"),
    "too few": (
        lambda: Classification().check((4,), 2, torch.tensor([0]), "batch 3"),
        "batch 3 contains 2 inputs and 1",
    ),
    "maps": (lambda: Classification().check((4, 8, 8), 1, torch.tensor([0])), r"network returns \(batch, 4, 8, 8\)"),
    "fewer classes than k": (lambda: TopK(5).check((4,), 1, torch.tensor([0])), "at least 6 classes"),
    "as many classes as k": (lambda: TopK(4).check((4,), 1, torch.tensor([0])), "every answer would count as correct"),
    "a single output": (lambda: TopK(1).check((1,), 1, torch.tensor([0])), "single output"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused(what: str) -> None:
    provoke, words = REFUSED[what]
    with pytest.raises(DataError, match=words):
        provoke()


@pytest.mark.parametrize(("k", "words"), [(0, "of at least 1"), (1.5, "integer"), (True, "integer"), ("5", "integer")])
def test_k_is_a_whole_number(k, words) -> None:
    with pytest.raises(SettingError, match=words):
        TopK(k)


# --- what asks the task

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 6))
X = torch.rand(80, 7)
SNN = ts.convert(MODEL, ts.recipes.ECC(8), torch.rand(64, 7))
Y = torch.arange(80) % 6


@dataclasses.dataclass(frozen=True)
class Everything(Classification):
    """A task from outside in which every answer is correct."""

    name = "everything"

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.ones(output.shape[:-1], dtype=torch.bool)

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.outcomes(output, reference)


def accuracies(report: ts.Report) -> list[float]:
    return [report.ann_accuracy, *(answer.accuracy for answer in report.curve)]


def test_an_evaluation_counts_what_its_task_says() -> None:
    usual = ts.evaluate(SNN, (X, Y))
    assert usual.task == "classification" and not any("task" in remark for remark in usual.remarks)
    one, all_ = (ts.evaluate(SNN, (X, Y), task=task) for task in (TopK(1), Everything()))
    assert one.curve == usual.curve and torch.equal(one.ann_outcomes, usual.ann_outcomes)
    assert accuracies(all_) == [1.0] * 9 and all_.curve[-1].agreement == 1.0
    assert "accuracy and agreement are those of the task everything" in all_.remarks
    between = [ts.evaluate(SNN, (X, Y), task=TopK(k)) for k in range(1, 6)]
    for fewer, more in itertools.pairwise(between):
        assert all(a <= b for a, b in zip(accuracies(fewer), accuracies(more), strict=True))
        assert [a.spikes for a in fewer.curve] == [a.spikes for a in more.curve]
    with torch.no_grad():
        expected = float((MODEL(X).topk(3).indices == Y[:, None]).any(1).double().mean())
    assert between[2].ann_accuracy == expected and between[2].to_json()["task"] == "top-k(k=3)"


def test_cost_explanation_comparison_and_exit_ask_it_too(tmp_path) -> None:
    everything = Everything()
    cost = ts.cost(SNN, (X, Y), models=ts.energy.Operations(), task=everything)
    assert cost.quantised_baseline_accuracy == 1.0 and all(point.accuracy == 1.0 for point in cost.points)
    explained = ts.explain(SNN, (X, Y), samples=20, changes=False, task=everything)
    assert explained.accuracy == explained.ann_accuracy == 1.0 and "everything" in explained.remarks[0]
    settings = ts.ComparisonSettings(timesteps=(2, 4), task=everything)
    given = {"data": (X, Y), "store": tmp_path}
    found = ts.compare(MODEL, [ts.recipes.ECC()], X, settings, **given)
    assert [row.accuracy for row in found.measured] == [1.0, 1.0] and "everything" in found.remarks[0]
    usual = ts.compare(MODEL, [ts.recipes.ECC()], X, dataclasses.replace(settings, task=Classification()), **given)
    assert usual.measured[-1].accuracy < 1.0 and usual.remarks == ()  # not what the store kept for the other task
    fitted = ts.fit_exit(SNN, (X, Y), drop=20.0, task=everything)
    assert fitted.exit.task == "everything" and ts.evaluate(fitted, (X, Y), task=everything).exit.accuracy == 1.0
    assert any("fitted for everything" in remark for remark in ts.evaluate(fitted, (X, Y)).remarks)
    ts.save(fitted, tmp_path / "net.transpike")
    assert ts.load(tmp_path / "net.transpike").exit.task == "everything"


@pytest.mark.parametrize("wrong", ["top-k", 5, TopK])
def test_a_task_is_an_object(wrong) -> None:
    with pytest.raises(
        SettingError, match=r"task must be (one of transpike\.tasks|an object, not a class: write TopK)"
    ):
        ts.evaluate(SNN, (X, Y), task=wrong)
    with pytest.raises(
        SettingError, match=r"task must be (one of transpike\.tasks|an object, not a class: write TopK)"
    ):
        ts.ComparisonSettings(task=wrong)


@dataclasses.dataclass(frozen=True)
class Parity(Classification):
    """A task from outside: even or odd."""

    name = "parity"

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        return self.answers(output) % 2 == target % 2


def test_a_task_from_outside_is_asked_like_our_own() -> None:
    found, usual = ts.evaluate(SNN, (X, Y), task=Parity()), ts.evaluate(SNN, (X, Y))
    assert isinstance(Parity(), Task) and found.task == "parity"
    assert bool((usual.ann_outcomes <= found.ann_outcomes).all()) and found.ann_accuracy > usual.ann_accuracy


def test_the_command_line_takes_tasks_with_their_settings(tmp_path) -> None:
    torch.manual_seed(0)
    digits = ts.data.load("digits")
    model, spec = ts.models.build("zoo:small-cnn", input_shape=digits.image_shape)
    snn = ts.convert(model, ts.recipes.ECC(4), digits.train.images[:64], preprocessing=spec.preprocessing)
    ts.save(snn, tmp_path / "net.transpike")
    words = ["evaluate", str(tmp_path / "net.transpike"), "--limit", "64", "--json", "--task"]
    one, few, all_ = (CliRunner().invoke(main, [*words, task]) for task in ("classification", "top-k", "top-k:k=9"))
    found = [json.loads(result.stdout) for result in (one, few, all_)]
    accuracy = [report["snn"]["accuracy"] for report in found]
    assert accuracy[0] <= accuracy[1] <= accuracy[2] and found[2]["ann"]["accuracy"] > 0.5
    assert [report["task"] for report in found] == ["classification", "top-k(k=5)", "top-k(k=9)"]
    always = CliRunner().invoke(main, [*words, "top-k:k=10"])
    assert always.exit_code == 5 and "every answer would count as correct" in always.output
    wrong = CliRunner().invoke(main, [*words, "top-k:k=0"])
    assert wrong.exit_code == 2 and "k must be an integer of at least 1" in wrong.output
    wrong = CliRunner().invoke(main, [*words, "top-5"])
    assert wrong.exit_code == 2 and "choose from binary, classification, " in wrong.output
