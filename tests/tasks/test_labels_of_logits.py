"""One logit and several labels: the answers are those of the sign, everywhere that answers are judged."""

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.core.exit import class_logits
from transpike.errors import DataError, SettingError
from transpike.results.statistics import wilson
from transpike.tasks import Binary, Classification, MultiLabel

N = 240
X = torch.rand(N, 6, generator=torch.Generator().manual_seed(0))


def network(outputs: int) -> nn.Sequential:
    """About half of its answers are positive."""
    random = torch.Generator().manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, outputs))
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) / 2
    module[2].bias.data -= module(X).detach().median(0).values
    return module


ONE, TWO = network(1), network(2)
TWO[2].weight.data = torch.cat([torch.zeros(1, 12), ONE[2].weight.data])
TWO[2].bias.data = torch.cat([torch.zeros(1), ONE[2].bias.data])
TWO[0] = ONE[0]
Y = (ONE(X)[:, 0] > 0).long() ^ (torch.arange(N) % 5 == 0).long()  # the ANN answers four of five
BINARY = ts.convert(ONE, ts.recipes.ECC(8), X)
CLASSES = ts.convert(TWO, ts.recipes.ECC(8), X)


def test_one_logit_is_right_where_its_sign_is_that_of_the_target() -> None:
    task, z = Binary(), torch.tensor([[[-1.0], [0.0], [2.0]], [[1.0], [1.0], [-1.0]]])
    y = task.check((1,), 3, torch.tensor([0, 0, 1]))
    assert task.outcomes(z, y).tolist() == [[True, True, True], [False, False, False]]
    assert task.agrees(z, z[0]).tolist() == [[True, True, True], [False, False, False]]
    forms = (torch.tensor([0.0, 0.0, 1.0]), torch.tensor([[0], [0], [1]]), torch.tensor([False, False, True]))
    assert all(torch.equal(task.check((1,), 3, form), y) for form in forms)


def test_an_evaluation_of_one_logit_is_that_of_its_two_classes() -> None:
    report = ts.evaluate(BINARY, (X, Y), task=Binary())
    right = int(((ONE(X)[:, 0] > 0) == Y.bool()).sum())
    assert right == int(0.8 * N)
    assert (report.ann_accuracy, report.ann_low, report.ann_high) == (right / N, *wilson(right, N))
    last = ((BINARY(X)[:, 0] > 0) == Y.bool()).double().mean()
    assert report.final.accuracy == float(last) and report.task == "binary"
    classes = ts.evaluate(CLASSES, (X, Y))
    assert classes.ann_accuracy == report.ann_accuracy and 0.8 < report.final.agreement <= 1


def test_comparison_explanation_and_cost_take_one_logit() -> None:
    settings = ts.ComparisonSettings(timesteps=(8,), task=Binary())
    found = ts.compare(ONE, [ts.recipes.ECC()], X, settings, data=(X, Y))
    assert found.measured[0].accuracy == ts.evaluate(BINARY, (X, Y), task=Binary()).final.accuracy
    assert ts.explain(BINARY, (X, Y), changes=False, task=Binary()).ann_accuracy == pytest.approx(0.8)
    report = ts.cost(BINARY, (X, Y), task=Binary()).report
    assert report is not None and report.ann_accuracy == pytest.approx(0.8)


@pytest.mark.parametrize("score", sorted(ts.exits.table))
def test_an_exit_of_one_logit_is_that_of_its_two_classes(score: str) -> None:
    """By the law that one logit z means the logits (0, z) of two classes."""
    z = torch.randn(9, 1)
    assert torch.equal(class_logits(z).softmax(-1)[:, 1], z[:, 0].sigmoid()) or torch.allclose(
        class_logits(z).softmax(-1)[:, 1], z[:, 0].sigmoid()
    )
    one = ts.fit_exit(BINARY, (X, Y), score=score, drop=5, task=Binary())
    two = ts.fit_exit(CLASSES, (X, Y), score=score, drop=5)
    assert one.exit is not None and two.exit is not None
    assert one.exit.checkpoints == two.exit.checkpoints and one.exit.task == "binary"
    assert one.exit.thresholds == pytest.approx(two.exit.thresholds, rel=1e-4)
    report = ts.evaluate(one, (X, Y), task=Binary())
    early = ts.answer_early(one, X)
    right = float((Binary().answers(early.logits) == Y).double().mean())
    assert report.exit is not None and report.exit.accuracy == right


def test_several_labels_are_right_only_together() -> None:
    task = MultiLabel()
    z = torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, -3.0]])
    y = torch.tensor([[1, 0, 1], [1, 0, 0]])
    assert task.outcomes(z, task.check((3,), 2, y)).tolist() == [True, False]
    assert MultiLabel(threshold=1.5).answers(z).tolist() == [[False, False, True], [False] * 3]
    module = network(3)
    labels = (module(X) > 0).float()
    labels[: N // 4, 1] = 1 - labels[: N // 4, 1]
    snn = ts.convert(module, ts.recipes.ECC(8), X)
    report = ts.evaluate(snn, (X, labels), task=task)
    assert report.ann_accuracy == 0.75
    assert report.final.accuracy == float(((snn(X) > 0) == labels.bool()).all(1).double().mean())
    with pytest.raises(SettingError, match=r"an early exit compares the classes of one answer, but multi-label"):
        ts.fit_exit(snn, (X, labels), task=task)


WRONG = {
    "logits of classes": (lambda: Binary().check((2,), 2, torch.tensor([0, 1])), r"one logit, \(batch, 1\).*\(batch, 2\)"),
    "class 2": (lambda: Binary().check((1,), 2, torch.tensor([0, 2])), "0 to 2"),
    "halves": (lambda: Binary().check((1,), 2, torch.tensor([0, 0.5])), "float32"),
    "one label of three": (lambda: MultiLabel().check((3,), 2, torch.tensor([0, 1])), "each of the 3 labels"),
    "a label of 2": (lambda: MultiLabel().check((2,), 1, torch.tensor([[0, 2]])), "0 or 1"),
    "soft labels": (lambda: MultiLabel().check((2,), 1, torch.tensor([[0.5, 1]])), "0 or 1"),
    "maps of labels": (lambda: MultiLabel().check((2, 4, 4), 1, torch.zeros(1, 2)), r"\(batch, labels\)"),
    "classification": (lambda: Classification().check((1,), 2, torch.tensor([0, 1])), r"task=transpike\.tasks\.Binary\(\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_targets_and_outputs_that_do_not_fit_are_refused(what: str) -> None:
    call, words = WRONG[what]
    with pytest.raises(DataError, match=words):
        call()
