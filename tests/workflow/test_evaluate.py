"""What an evaluation does with each batch."""

import dataclasses

import pytest
import torch
from torch import Tensor

import transpike as ts
from networks import Case, small_cnn
from transpike.recipes import BSNN, ECC
from transpike.schedules import LayerSynchronous


@pytest.fixture(scope="module")
def case() -> Case:
    return small_cnn()


@pytest.mark.parametrize(
    "recipe", [ECC(8), ECC(8, schedule=LayerSynchronous()), BSNN(16)], ids=["streaming", "windows", "cycles"]
)
def test_each_batch_is_prepared_once_for_both_networks_and_all_runs(case, recipe, monkeypatch):
    snn, seen = ts.convert(case.graph, recipe, case.calibration), []
    labels = torch.arange(len(case.x)) % 3
    expected = ts.evaluate(snn, [(case.x[:3], labels[:3]), (case.x[3:], labels[3:])])
    original = ts.SNN.prepare

    def counted(self: ts.SNN, x: Tensor) -> Tensor:
        seen.append(len(x))
        return original(self, x)

    monkeypatch.setattr(ts.SNN, "prepare", counted)
    found = ts.evaluate(snn, [(case.x[:3], labels[:3]), (case.x[3:], labels[3:])])
    assert seen == [3, len(case.x) - 3]
    assert [dataclasses.asdict(a) for a in found.curve] == [dataclasses.asdict(a) for a in expected.curve]


def test_answers_are_those_of_simulations_of_the_raw_inputs(case):
    """Preprocessing enters once, not twice."""
    shift = ts.Preprocessing(mean=(0.1, -0.2), std=(0.5, 2.0))
    raw = case.x * torch.tensor([0.5, 2.0]).reshape(1, 2, 1, 1) + torch.tensor([0.1, -0.2]).reshape(1, 2, 1, 1)
    snn = dataclasses.replace(ts.convert(case.graph, ECC(8), case.calibration), preprocessing=shift)
    answers = ts.simulate(snn, raw).logits.argmax(-1)
    for t, answer in enumerate(answers, 1):
        assert ts.evaluate(snn, (raw, answer)).at(t).accuracy == 1.0
