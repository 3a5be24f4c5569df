"""Operations of a transformer, of its burst twin and of the quantised ANN, and which of them is recommended."""

import json

import pytest
import torch

import transpike as ts
from networks import mlp
from stored import stored
from transpike.neurons import SigmaDelta
from transpike.recipes import ECC, BurstDigits, StreamingSigmaDelta
from transpike.report import energy_card
from transpike.workflow.cost.operations import NetworkOperations, burst_twin, recommendation


@pytest.fixture(scope="module")
def measured() -> tuple[ts.SNN, object, torch.Tensor]:
    data = ts.data.load("digits")
    calibration = data.preprocessing(data.train.batch(torch.arange(48))[0])
    x, y = data.test.batch(torch.arange(16))
    snn = ts.convert(stored("vision-transformer"), StreamingSigmaDelta(timesteps=5), calibration)
    x = data.preprocessing(x)
    return snn, ts.cost(snn, (x, y)), x


def test_the_operations_of_three_networks_stand_next_to_each_other(measured):
    snn, result, x = measured
    stream, burst, ann = result.operations
    assert stream.network == result.snn_name and ann.network == "quantised ANN"
    activity = ts.simulate(snn, x, result.timesteps).activity
    assert stream.total == pytest.approx(activity.events) and stream.products == pytest.approx(
        activity.product_operations
    )
    assert stream.evaluations == pytest.approx({name: changed for name, (_, changed) in activity.evaluated.items()})
    once = ts.simulate(burst_twin(snn), x).activity
    assert burst.total == pytest.approx(once.events) and burst.products == pytest.approx(once.product_operations)
    # every row of a norm, every score and every GELU once, as in the ANN; the stream comes back to them
    assert burst.evaluations == ann.evaluations and set(ann.evaluations) == {"rsqrt", "exp", "division", "gelu"}
    assert all(stream.evaluations[name] > count for name, count in ann.evaluations.items())
    macs = {node.name: snn.source.macs(node) for node in snn.source}
    assert ann.multiplications <= sum(macs.values()) and ann.total <= ann.multiplications
    most = 2 * 2 * 2 * 17 * 17 * 8  # blocks, products, heads, pairs of tokens, features
    assert 0.8 * most < ann.products <= most  # without those that have a zero


def test_the_burst_twin_has_the_same_thresholds_and_answers_in_one_step(measured):
    snn, _, x = measured
    twin = burst_twin(snn)
    assert isinstance(twin.recipe, BurstDigits) and twin.timesteps == 1
    for node in snn.graph:
        if isinstance(node.op, SigmaDelta):
            other = twin.graph[node.name].op
            assert torch.equal(other.threshold, node.op.threshold) and other.rule == "all"
    settled, once = ts.simulate(snn, x, 12).logits[-1], ts.simulate(twin, x).logits[-1]
    assert float((settled - once).norm()) <= 0.06 * float(settled.norm())
    assert burst_twin(twin) is None
    case = mlp()
    assert burst_twin(ts.convert(case.graph, ECC(4), case.calibration)) is None


def test_one_sentence_recommends_a_network(measured):
    _, result, _ = measured
    stream, burst, _ = result.operations
    assert result.burst_advice == recommendation(stream, burst)
    assert f"The burst twin at T=1 (burst-digits) takes {burst.total / stream.total:.2f} " in result.burst_advice
    assert result.burst_advice in energy_card.text(result)
    found = json.loads(json.dumps(result.to_json()))
    assert found["burst_advice"] == result.burst_advice and [one["total"] for one in found["operations"]] == [
        one.total for one in result.operations
    ]
    dear, cheap = NetworkOperations("SNN at T=4", 90.0, 10.0, 0.0), NetworkOperations("burst", 60.0, 12.0, 0.0)
    assert recommendation(dear, cheap).startswith(
        "The burst takes 0.72 of the operations of the SNN at T=4: prefer it unless"
    )
    assert "takes 1.39 times the operations" in recommendation(cheap, dear)


def test_a_network_of_rates_has_no_twin_and_no_such_sentence():
    case = mlp()
    snn = ts.convert(case.graph, ECC(8), case.calibration)
    x = case.calibration[:16]
    result = ts.cost(snn, (x, case.graph.run(x).argmax(1)))
    assert [one.network for one in result.operations] == [result.snn_name, "quantised ANN"]
    assert result.burst_advice == "" and result.to_json()["burst_advice"] == ""
    assert result.operations[0].products == 0
