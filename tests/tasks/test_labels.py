"""No accuracy without a meaning: every place that uses labels refuses outputs and targets that are no classes."""

import re

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.data import Dataset, Split
from transpike.errors import DataError
from transpike.tasks import Classification
from transpike.workflow.cascade import cascade

N = 48
torch.manual_seed(0)
X = torch.rand(N, 1, 8, 8)


def network(outputs: int) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, outputs))


def converted(outputs: int) -> ts.SNN:
    return ts.convert(network(outputs), ts.recipes.ECC(8), X)


NETWORKS = {outputs: converted(outputs) for outputs in (1, 2, 10)}
ENTRANCES = {
    "evaluate": lambda n, y: ts.evaluate(NETWORKS[n], (X, y)),
    "cost": lambda n, y: ts.cost(NETWORKS[n], (X, y)),
    "cost of a task": lambda n, y: ts.cost(NETWORKS[n], (X, y), task=Classification()),
    "explain": lambda n, y: ts.explain(NETWORKS[n], (X, y), changes=False),
    "compare": lambda n, y: ts.compare(network(n), [ts.recipes.ECC()], X, ts.ComparisonSettings(timesteps=(4,)), data=(X, y)),
    "exit": lambda n, y: ts.fit_exit(NETWORKS[n], (X, y), drop=20),
    "exit by gap": lambda n, y: ts.fit_exit(NETWORKS[n], (X, y), drop=20, score="gap"),
    "exit of a comparison": lambda n, y: ts.compare(
        network(n), [ts.recipes.ECC()], X, ts.ComparisonSettings(timesteps=(4,), exits=(ts.exits.Exit("gap", 20),)),
        data=(X, torch.arange(N) % n), exit_data=(X, y),
    ),
    "finetune": lambda n, y: ts.finetune(NETWORKS[n], (X, y), epochs=1),
    "record": lambda n, y: ts.record(NETWORKS[n], (X, y)),
    "cascade": lambda n, y: cascade(NETWORKS[2], NETWORKS[n], (X, y)),
}  # fmt: skip


@pytest.mark.parametrize("entrance", sorted({*ENTRANCES} - {"cost"}))
def test_a_single_output_has_no_accuracy_and_the_error_names_the_way_out(entrance: str) -> None:
    """Also where all targets are 0, the only class that it has: 100 % would be no achievement."""
    for y in (torch.zeros(N, dtype=torch.int64), torch.arange(N) % 2):
        with pytest.raises(DataError, match=r"single output, \(batch, 1\).*use two outputs"):
            ENTRANCES[entrance](1, y)


WRONG = {
    "counted from 1": (torch.arange(N) % 10 + 1, r"1 to 10, but the network has 10 classes, 0 to 9: .*write y - 1"),
    "with -1": (torch.arange(N) % 10 - 1, r"-1 to 8, .*drop samples without a class"),
    "one-hot": (torch.eye(10)[torch.arange(N) % 10], r"write y\.argmax\(1\)"),
    "soft": (torch.full((N, 10), 0.1), r"soft labels and several classes per sample are not supported"),
    "a column of reals": (torch.rand(N, 1), r"float32 of shape \(48, 1\).*real targets, as of a regression"),
    "real": ((torch.arange(N) % 10).float(), r"float32 of shape \(48,\).*write y\.long\(\)"),
    "not a number": (torch.full((N,), float("nan")), r"real targets, as of a regression, have no accuracy"),
    "true or false": (torch.arange(N) % 2 == 0, r"bool of shape \(48,\).*write y\.long\(\)"),
    "maps": (torch.zeros(N, 8, 8, dtype=torch.int64), r"of shape \(48, 8, 8\), but the task needs \(batch,\) class"),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("what", WRONG)
def test_targets_that_are_no_classes_are_refused(entrance: str, what: str) -> None:
    y, words = WRONG[what]
    with pytest.raises(DataError) as refused:
        ENTRANCES[entrance](10, y)
    assert re.search(words, str(refused.value)), str(refused.value)


def test_two_outputs_as_the_error_says_give_the_accuracy_of_the_single_one() -> None:
    single = network(1)
    y = (X.mean((1, 2, 3)) > X.mean()).long()
    last = single[-1]
    single[-1].bias.data -= single(X).median()  # about half of the answers are positive
    two = nn.Linear(12, 2)
    two.weight.data = torch.cat([torch.zeros_like(last.weight.data), last.weight.data])
    two.bias.data = torch.cat([torch.zeros_like(last.bias.data), last.bias.data])
    expected = float(((single(X)[:, 0] > 0).long() == y).double().mean())
    report = ts.evaluate(ts.convert(nn.Sequential(*single[:-1], two), ts.recipes.ECC(32), X), (X, y))
    assert report.ann_accuracy == expected and 0.2 < expected < 0.8
    assert report.final.agreement > 0.9


def images(labels: Tensor, classes: int) -> Dataset:
    split = Split(X, labels)
    names = tuple(map(str, range(classes)))
    return Dataset("ones", split, split, names, ts.Preprocessing((0.0,), (1.0,)))


@pytest.mark.parametrize("classes", [1, 2])
def test_training_a_single_output_is_refused(classes: int) -> None:
    """The cross-entropy of one class is always 0."""
    with pytest.raises(DataError, match=r"logits of shape \(\d+, 1\), not \(batch, 2\)"):
        ts.train(network(1), images(torch.arange(N) % classes, classes), ts.Training(epochs=1))


def test_a_data_set_of_images_needs_class_numbers_too() -> None:
    with pytest.raises(DataError, match="integers of at least 0"):
        Split(X, torch.full((N,), float("nan")))
    with pytest.raises(DataError, match="integers of at least 0"):
        Split(X, torch.full((N,), -1))


def test_an_ann_at_chance_is_remarked_on() -> None:
    """As with shifted classes: the numbers are in range, and mean nothing."""
    x = torch.cat([X] * 10)
    with torch.no_grad():
        own = NETWORKS[10].source.run(x).argmax(1)
    wrong, right = (ts.evaluate(NETWORKS[10], (x, y)) for y in ((own + 1) % 10, own))
    assert wrong.ann_accuracy == 0 and right.ann_accuracy == 1
    says = [[r for r in report.remarks if "more accurate than chance (10.0%)" in r] for report in (wrong, right)]
    assert len(says[0]) == 1 and says[1] == []
    few = ts.evaluate(NETWORKS[10], (X[:19], (own[:19] + 1) % 10))
    assert not any("chance" in remark for remark in few.remarks)
    assert (Classification().chance((4,)), ts.tasks.TopK(3).chance((10,))) == (0.25, 0.3)


def test_labels_of_any_integer_type_and_of_single_samples_are_class_numbers() -> None:
    found = [ts.evaluate(NETWORKS[10], (X, (torch.arange(N) % 10).to(kind))) for kind in (torch.int64, torch.uint8)]
    assert found[0].curve == found[1].curve
    one_by_one = [(X[k : k + 1], k % 10) for k in range(N)]
    assert ts.evaluate(NETWORKS[10], one_by_one).curve == found[0].curve
    assert torch.equal(Classification().check((3,), 2, torch.tensor([0, 2])), torch.tensor([0, 2]))
