"""The sentences that a page begins with, in every case."""

import dataclasses

import pytest
import torch
from torch import nn

import seeded
import transpike as ts
from transpike.report import decision
from transpike.results.statistics import paired_difference
from transpike.workflow.cost.result import Cost
from transpike.workflow.evaluate.measurement import Estimate, Measurement
from transpike.workflow.evaluate.report import Report

N = 200
X = seeded.random(N, 6)
NETWORK = seeded.network(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
SNN = ts.convert(NETWORK, ts.recipes.ECC(4), X)


@pytest.fixture(scope="module")
def cost() -> Cost:
    return ts.cost(SNN, (X, NETWORK(X).argmax(1)))


@pytest.fixture(scope="module")
def errors() -> Measurement:
    return ts.evaluate(SNN, (X, NETWORK(X).detach() + 0.1), task=ts.tasks.Regression())


def correct(count: int) -> torch.Tensor:
    return torch.arange(N) < count


def with_answers(cost: Cost, *counts: int, ann: int = 180, rates: tuple[float, ...] = (0.1,) * 4) -> Report:
    """The report with this many correct answers after 1, 2, … steps, and of the ANN."""
    curve = tuple(
        dataclasses.replace(answer, accuracy=count / N, spike_rate=rate)
        for answer, count, rate in zip(cost.report.curve, counts, rates, strict=False)
    )
    outcomes = {answer.timesteps: correct(count) for answer, count in zip(curve, counts, strict=True)}
    return dataclasses.replace(
        cost.report, curve=curve, outcomes=outcomes, ann_accuracy=ann / N, ann_outcomes=correct(ann)
    )


def with_ratios(cost: Cost, *ratios: float, timesteps: int = 4) -> Cost:
    """The cost at ``timesteps`` under as many models, whose ANN costs one joule; the SNN costs that much per step."""
    models = tuple(
        dataclasses.replace(cost.models[0], model=f"model {k}", ratio=ratio, ann_joule=1.0, judges=True)
        for k, ratio in enumerate(ratios)
    )
    points = tuple(
        dataclasses.replace(
            point, energy_joule={f"model {k}": r * (point.timesteps or 0) / timesteps for k, r in enumerate(ratios)}
        )
        for point in cost.points
    )
    return dataclasses.replace(cost, models=models, points=points, timesteps=timesteps)


def test_the_fewest_steps_within_a_point_are_named_with_both_accuracies_and_the_paired_interval(cost) -> None:
    report = with_answers(cost, 100, 178, 150, 181)
    _, low, high = paired_difference(report.ann_outcomes, report.outcomes[2])
    assert decision.sentences(report) == (
        f"2 time steps suffice to stay within 1 point of the ANN: 89.00% against 90.00% on 200 samples, accuracy change "
        f"-1.00 points (95 % interval {-100 * high:+.2f} to {-100 * low:+.2f}: not certain on these samples).",
    )
    assert decision.sufficient(report).timesteps == 2  # exactly one point, whatever 0.9 - 0.01 is as a float
    assert decision.sentences(with_answers(cost, 180, 1, 1, 1))[0].startswith("1 time step suffices")


def test_a_decision_that_the_samples_do_not_settle_says_so(cost) -> None:
    clear = decision.sentences(with_answers(cost, 180, 180, 180, 180))[0]  # the same answers as the ANN
    far = decision.sentences(with_answers(cost, 20, 20, 20, 20))[0]
    close = decision.sentences(with_answers(cost, 20, 20, 20, 177))[0]
    assert "not certain" in close and "not certain" not in far
    assert ("not certain" in clear) == (100 * paired_difference(correct(180), correct(180))[2] > 1)


@pytest.mark.parametrize("ann", [130, 150, 160, 200])
def test_the_decision_names_the_steps_of_the_latency_table(cost, ann) -> None:
    report = with_answers(cost, 110, 140, 159, 170, ann=ann)
    near = decision.sufficient(report)
    assert (near and near.total_steps) == report.latency.within[1.0]


def test_total_steps_are_named_where_the_answer_is_ready_later(cost) -> None:
    report = with_answers(cost, 100, 178, 150, 181)
    late = tuple(dataclasses.replace(answer, total_steps=answer.timesteps + 7) for answer in report.curve)
    found = decision.sentences(dataclasses.replace(report, curve=late))[0]
    assert found.startswith("2 time steps (9 total steps) suffice")


def test_no_number_of_steps_suffices(cost) -> None:
    found = decision.sentences(with_answers(cost, 100, 120, 177, 150))
    assert found[0].startswith(
        "No number of time steps up to 4 suffices to stay within 1 point of the ANN; the most accurate is T=3: 88.50% against 90.00% on 200 samples, "
        "accuracy change -1.50 points (95 % interval "
    )


def test_a_network_with_one_answer(cost) -> None:
    whole = with_answers(cost, 170)
    assert decision.sentences(whole)[0].startswith("The SNN at T=1 is not within 1 point of the ANN: 85.00% against")


def test_answers_without_spikes_do_not_suffice(cost) -> None:
    report = with_answers(cost, 180, 180, 180, 180, rates=(0.0, 0.0, 0.2, 0.2))
    assert decision.sufficient(report).timesteps == 3
    mute = with_answers(cost, 180, 180, 180, 180, rates=(0.0,) * 4)
    assert decision.sentences(mute) == ("Nothing spikes up to T=4, so this is not a spiking network.",)
    (only,) = decision.sentences(mute, dataclasses.replace(cost, spike_rate=0.0))
    assert only.startswith(f"Nothing spikes at T={cost.timesteps}")


ANN = "over the quantised ANN with"


@pytest.mark.parametrize(
    ("ratios", "begin"),
    [
        ((1.2, 3.0), "No energy model favours the SNN at T=4 " + ANN),
        ((0.9, 3.0, 2.0), "1 of 3 energy models favours the SNN at T=4 " + ANN),
        ((0.9, 0.8, 2.0), "2 of 3 energy models favour the SNN at T=4 " + ANN),
        ((0.9, 0.8), "All 2 energy models favour the SNN at T=4 " + ANN),
        ((0.9,), "The energy model favours the SNN at T=4 " + ANN),
    ],
)
def test_every_number_of_models(cost, ratios, begin) -> None:
    priced = with_ratios(cost, *ratios)
    found = decision.sentences(with_answers(cost, 1, 1, 1, 180), priced)[1]
    assert found.startswith(begin) and f"({priced.quantised_baseline_value:.2%}" in found
    assert decision.favoured(priced, 4) == priced.cheaper


def test_fewer_steps_than_those_of_the_verdict_are_judged_too(cost) -> None:
    report, priced = with_answers(cost, 1, 179, 178, 181), with_ratios(cost, 1.2, 1.9, 3.0)
    assert decision.favoured(priced, 2) == 2
    assert decision.sentences(report, priced)[1].endswith("; at T=2 2 of 3.")
    assert decision.sentences(report, with_ratios(cost, 3.0, 4.0))[1].endswith("; at T=2 also none.")
    unpriced = dataclasses.replace(priced, points=())
    assert decision.favoured(unpriced, 2) is None and "at T=2" not in decision.sentences(report, unpriced)[1]


def test_an_ann_that_is_worse_than_the_snn_is_called_so(cost) -> None:
    for value, worse in ((0.9, False), (0.89, True)):  # half a point of room
        priced = dataclasses.replace(
            with_ratios(cost, 1.2, 0.9), quantised_baseline_value=value, room=0.005,
            report=with_answers(cost, 1, 1, 1, 180),
        )  # fmt: skip
        assert decision.sentences(priced.report, priced)[1].endswith("; none as good was measured).") == worse


def test_without_prices_the_verdict_says_why(cost) -> None:
    nothing = dataclasses.replace(cost, models=())
    assert decision.sentences(cost.report, nothing)[1] == "No energy model prices both networks."


def test_without_targets_only_energy_is_judged_and_the_reason_is_given() -> None:
    bare = ts.cost(SNN, X)
    first, second = decision.sentences(None, bare)
    assert f"the SNN at T={bare.timesteps}" in first and "%" not in first
    assert second == "Accuracy was not measured, because the data has no targets."
    assert decision.sentences(None) == ()


def with_values(found: Measurement, *values: float | None, ann: float | None = 2.0, share: bool = False) -> Measurement:
    metric = dataclasses.replace(found.metrics[0], unit="mV", share=share, higher_is_better=share)

    def estimate(value: float | None) -> Estimate:
        return Estimate(value, None if value is None else value - 0.01, None if value is None else value + 0.01)

    curve = tuple(
        dataclasses.replace(
            answer,
            metrics={**answer.metrics, metric.name: estimate(value)},
            changes={metric.name: estimate(None if value is None or ann is None else value - ann)},
        )
        for answer, value in zip(found.curve, values, strict=True)
    )
    known = {} if ann is None else {metric.name: estimate(ann)}
    return dataclasses.replace(found, curve=curve, metrics=(metric,), ann=known, recommended=curve[-1])


def test_metrics_are_close_within_a_tenth_of_the_ann_and_shares_within_a_point(errors) -> None:
    name = errors.metrics[0].name
    (found,) = decision.sentences(with_values(errors, 9.0, 2.2, 2.1, 2.0))
    assert found == (
        f"2 time steps suffice to stay within 10% of the ANN's {name}: 2.2 mV against 2 mV on 200 samples, change +0.2 "
        "mV (95 % interval +0.19 to +0.21)."
    )
    (found,) = decision.sentences(with_values(errors, 9.0, 4.0, 3.0, 3.5))
    assert found.startswith(
        f"No number of time steps up to 4 suffices to stay within 10% of the ANN's {name}; the best is T=3: 3 mV against 2 mV"
    )
    (found,) = decision.sentences(with_values(errors, 0.5, 0.6, 0.71, 0.7, ann=0.7, share=True))
    assert found.startswith("3 time steps suffice to stay within 1 point of the ANN: 71.00% against 70.00% on 200")
    (found,) = decision.sentences(with_values(errors, 0.5, 0.6, 0.6, 0.5, ann=0.7, share=True))
    assert found.startswith(
        "No number of time steps up to 4 suffices to stay within 1 point of the ANN; the best is T=2: 60.00% against 70.00%"
    )


def test_a_metric_that_is_not_defined_judges_nothing(errors) -> None:
    (found,) = decision.sentences(with_values(errors, None, None, None, None))
    assert "is not defined for these 200 samples" in found
    (found,) = decision.sentences(with_values(errors, 9.0, 4.0, 3.0, 3.5, ann=None))
    assert found.startswith("After 4 time steps the SNN reproduces the ANN with")
    unknown = dataclasses.replace(
        with_values(errors, 9.0, 4.0, 3.0, 3.5), ann={errors.metrics[0].name: Estimate(None, None, None)}
    )
    (found,) = decision.sentences(unknown)
    assert "of the ANN is not defined" in found and "3 mV at T=3" in found


def test_an_evaluation_by_fidelity_has_the_ann_as_its_reference() -> None:
    found = ts.evaluate(SNN, X, task=ts.tasks.Fidelity())
    (sentence,) = decision.sentences(found)
    metric, best = found.metrics[0], found.recommended
    assert sentence.startswith(f"After {best.timesteps} time step")
    assert f"{metric.name} {metric.text(best.score[0])} on 200 samples" in sentence
    assert decision.sufficient(found) is None


def test_a_page_begins_with_the_decision(cost) -> None:
    page = ts.report.page(cost)
    for sentence in decision.sentences(cost.report, cost):
        assert page.index(sentence.replace("'", "&#39;")) < page.index('class="tiles"') < page.index("<h2>")
