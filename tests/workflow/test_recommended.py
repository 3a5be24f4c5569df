"""One verdict, at the T that the report recommends, and one sign of accuracy changes, in every form of a result."""

import dataclasses
import io
import itertools
import json
import re

import pytest
import torch
from rich.console import Console
from torch import nn

import transpike as ts
from transpike.energy import Operations
from transpike.errors import DataError
from transpike.workflow.cost.quantised_baseline import quantised
from transpike.workflow.cost.result import Cost
from transpike.workflow.evaluate.report import NEAR

N = 200


def network(outputs: int = 4, dense: bool = False) -> nn.Module:
    torch.manual_seed(3)
    if dense:
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, outputs))


torch.manual_seed(0)
X = torch.randn(N, 8)
MODEL = network()
with torch.no_grad():
    Y = MODEL(X + 0.3 * torch.randn(N, 8)).argmax(1)  # the network is correct on some
IMAGES = torch.rand(24, 1, 6, 6)


@pytest.fixture(scope="module")
def cost() -> Cost:
    return ts.cost(ts.convert(MODEL, ts.recipes.ECC(64), X), (X, Y))


def test_the_recommended_answer_is_the_first_within_half_a_point_of_the_last(cost) -> None:
    report = cost.report
    first = next(a for a in report.curve if a.accuracy >= report.final.accuracy - NEAR)
    assert report.recommended == first and 1 < first.timesteps < 64
    assert report.to_json()["snn"]["recommended"] == first.timesteps == cost.timesteps


def test_an_answer_without_spikes_is_not_recommended(cost) -> None:
    mute = dataclasses.replace(cost.report.curve[0], accuracy=1.0, spikes=0.0, spike_rate=0.0)
    changed = dataclasses.replace(cost.report, curve=(mute, *cost.report.curve[1:]))
    assert changed.recommended == cost.report.recommended


def test_the_table_prices_the_pair_that_the_verdict_names(cost) -> None:
    """Every number of the card can be computed from the counts of the recommended answer and of that ANN."""
    activity = cost.report.activities[cost.timesteps]
    bits = max(cost.activation_bits.values())
    ann = next(p for p in cost.points if p.kind == "ANN" and p.activation_bits == bits)
    snn = next(p for p in cost.points if p.kind == "SNN" and p.timesteps == cost.timesteps)
    for one in cost.models:
        assert one.snn_joule == ts.energy.table[one.model]().joule(activity) == snn.energy_joule[one.model]
        assert one.ann_joule == ann.energy_joule[one.model]
    assert ann.accuracy == cost.quantised_baseline_accuracy >= cost.report.final.accuracy - NEAR
    assert cost.spike_rate == pytest.approx(cost.report.recommended.spike_rate)
    assert f"SNN at T={cost.timesteps}" in cost.verdict and f"ANN with {bits}-bit activations" in cost.verdict


def test_the_advice_of_every_model_agrees_with_the_verdict(cost) -> None:
    """Where no further widths are measured, the advice is about the same pair."""
    for one in cost.judged:
        line = cost.advice(one.model)
        assert f"SNN at T={cost.timesteps}" in line
        assert f"ANN with {max(cost.activation_bits.values())}-bit activations" in line
        cheapest = re.search(r"or more is the (SNN|ANN)", line)
        assert cheapest is not None and (cheapest[1] == "SNN") == (one.ratio < 1)
    assert cost.cheaper == sum(one.ratio < 1 for one in cost.judged)


def test_fewer_steps_than_the_run_are_judged_where_they_suffice(cost) -> None:
    """The verdict at the last step alone would be another one: at T=64 no model favours the SNN."""
    activity = cost.report.activities[64]
    late = [ts.energy.table[one.model]().joule(activity) / one.dense_joule for one in cost.judged]
    assert min(late) > 1 > min(one.dense_ratio for one in cost.judged)
    assert all(early.dense_ratio < ratio for early, ratio in zip(cost.judged, late, strict=True))
    assert "do if the ANN does not skip zeros" in cost.verdict


def test_the_ann_has_the_levels_of_the_recommended_steps_where_they_suffice_it(cost) -> None:
    snn = ts.convert(MODEL, ts.recipes.ECC(64), X)
    few, many = quantised(snn, cost.timesteps).bits, quantised(snn, 64).bits
    measured = {p.activation_bits: p.accuracy for p in cost.points if p.kind == "ANN"}
    wanted, low, high = cost.report.final.accuracy - NEAR, max(few.values()), max(many.values())
    chosen = min((bits for bits, accuracy in measured.items() if accuracy >= wanted), default=high)
    assert set(cost.activation_bits.values()) == {chosen} and set(measured) == {*range(low, chosen + 1), high}


def test_an_ann_that_is_not_accurate_enough_is_said() -> None:
    found = ts.cost(ts.convert(MODEL, ts.recipes.ECC(8), X), (X, Y), models=Operations())
    perfect = found.report.final.accuracy
    assert (found.quantised_baseline_accuracy < perfect - NEAR) == any("no quantised ANN" in n for n in found.notes)


def test_terminal_page_and_json_state_the_same_change_and_the_same_verdict(cost, tmp_path) -> None:
    explained = ts.explain(ts.convert(MODEL, ts.recipes.ECC(64), X), (X, Y), samples=50, changes=False)
    report = cost.report
    change = 100 * (report.final.accuracy - report.ann_accuracy)
    early = 100 * (report.recommended.accuracy - report.ann_accuracy)
    assert change != 0 or early != 0
    ts.report.save([cost, explained], tmp_path / "all.html")
    bare = re.sub(r"(?s)<(style|script).*?</\1>|<[^>]*>", " ", (tmp_path / "all.html").read_text())
    page = " ".join(bare.split())
    terminal = io.StringIO()
    ts.report.show(report, Console(file=terminal, width=200))
    card = ts.report.text(cost)
    content = json.loads(json.dumps(cost.to_json()))
    snn = content["snn"]["snn"]
    assert 100 * snn["accuracy_change"] == pytest.approx(change, abs=1e-9) and "drop" not in snn
    for text in (page, terminal.getvalue()):
        assert f"{change + 0.0:+.2f}" in text and f"{early + 0.0:+.2f}" in text
        assert f"T={cost.timesteps}" in text and f"{report.recommended.accuracy:.2%}" in text
    assert cost.verdict == content["verdict"] and cost.verdict in card and cost.verdict in page
    # a page has the accuracies of one sample set: the analysis of 50 samples states no accuracy of its own
    assert f"{explained.accuracy:.2%}" in ts.report.text(explained)
    assert "on 50 samples" not in page and "first 50 samples" in page
    assert not re.search(r"-\d[^ ]* (points )?lost|\d points (more|less)\b", page + card + terminal.getvalue())


def test_costs_without_targets_are_energy_without_accuracy(tmp_path) -> None:
    snn = ts.convert(MODEL, ts.recipes.ECC(8), X)
    labelled, bare = ts.cost(snn, (X, Y)), ts.cost(snn, X, activation_bits=(4,), weight_bits=(5,))
    assert bare.report is None and bare.timesteps == 8 and bare.quantised_baseline_accuracy is None
    of = {p.timesteps: p for p in labelled.points if p.kind == "SNN"}
    for one in bare.models:
        assert one.snn_joule == of[8].energy_joule[one.model]
    assert any("the data has no targets" in note for note in bare.notes)
    assert all(point.accuracy is None for point in bare.points) and bare.front("operations") == ()
    assert json.loads(json.dumps(bare.to_json(), allow_nan=False))["snn"] is None
    for ending in ("html", "json", "txt", "png"):
        assert ts.report.save(bare, tmp_path / f"bare.{ending}").stat().st_size > 500
    assert bare.verdict in (tmp_path / "bare.html").read_text() and bare._repr_html_()


@pytest.mark.parametrize("labels", [None, IMAGES, torch.zeros(24, dtype=torch.int64)])
def test_costs_of_dense_outputs_need_no_classes(labels) -> None:
    snn = ts.convert(network(dense=True), ts.recipes.ECC(8), IMAGES)
    found = ts.cost(snn, IMAGES if labels is None else (IMAGES, labels))
    assert found.report is None and found.judged and found.samples == 24
    assert "returns (batch, 1, 6, 6), which are not logits of several classes" in ts.report.text(found)
    with pytest.raises(DataError, match="needs logits"):
        ts.cost(snn, (IMAGES, torch.zeros(24, dtype=torch.int64)), task=ts.tasks.Classification())


def test_explanations_of_dense_and_unlabelled_data_are_refused_in_one_sentence() -> None:
    snn = ts.convert(network(dense=True), ts.recipes.ECC(8), IMAGES)
    for data, words in (
        ((IMAGES, IMAGES), r"needs logits \(batch, classes\), but the network returns \(batch, 1, 6, 6\)"),
        (IMAGES, "needs targets"),
    ):
        with pytest.raises(DataError, match=words) as refused:
            ts.explain(snn, data)
        assert "\n" not in str(refused.value)


def test_limits_hold_for_costs_without_targets() -> None:
    snn = ts.convert(MODEL, ts.recipes.ECC(8), X)
    batches = [X[i : i + 16] for i in range(0, N, 16)]
    assert ts.cost(snn, batches, limit=40, models=Operations()).samples == 40
    few, whole = (ts.cost(snn, data, limit=40, models=Operations()) for data in (iter(batches), X))
    assert few.models == whole.models
    with pytest.raises(DataError, match="no samples"):
        ts.cost(snn, [], models=Operations())
    assert list(itertools.islice(batches, 1))
