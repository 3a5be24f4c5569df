"""Exact spike times: the ReLU network in float64, and what happens where its conditions do not hold."""

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.neurons import ExactReLU
from transpike.recipes import ExactMapping


def source_of(snn: ts.SNN, x: torch.Tensor) -> torch.Tensor:
    return ts.passes.FoldBatchNorm().apply(snn.source, None).to(dtype=torch.float64).run(x.double())


@pytest.mark.parametrize("engine", ["reference", "sorted"])
def test_logits_are_those_of_the_relu_network_and_nothing_fires_early(digits, engine):
    snn = digits.converted(ExactMapping())
    x = digits.images[:60]
    trace, wanted = ts.simulate(snn, x, engine=engine), source_of(snn, x)
    assert trace.logits.dtype == torch.float64
    assert float((trace.logits[-1] - wanted).abs().max()) < 1e-9
    assert torch.equal(trace.logits[-1].argmax(1), wanted.argmax(1)) and trace.early == 0


def test_the_weights_of_every_neuron_add_up_to_less_than_one(digits):
    snn = digits.converted(ExactMapping())
    cells = [node.op for node in snn.graph if isinstance(node.op, ExactReLU)]
    assert cells and all(float(c.total.max()) < 1 and float(c.total.min()) >= -10.001 for c in cells)
    with pytest.raises(ts.errors.SettingError, match="must stay below 1"):
        ts.neurons.ExactReLU(None, torch.tensor(1.0), torch.tensor(0.0), total=torch.tensor(1.2))


def test_a_value_beyond_its_window_fires_early_and_is_reported(digits):
    snn = ts.convert(digits.model, ExactMapping(zeta=0.0), digits.calibration[:8] * 0.1).accepting_any_input()
    x = digits.images[:20]
    stepped, events = (ts.simulate(snn, x, engine=name) for name in ("reference", "sorted"))
    assert stepped.early > 0 and events.early > 0
    # followed in time, a neuron that fires before it has heard everything has another value
    assert float((events.logits[-1] - source_of(snn, x)).abs().max()) > 1e-3
    report = ts.evaluate(snn, (x, digits.labels[:20]), engine="reference")
    assert any("were sent before all of their inputs" in text for text in report.remarks)


def test_the_time_of_a_spike_is_worked_out_by_hand():
    # two inputs at 0.5 and 0.25 before the window's end, weights 0.4 and −0.2, bias 0.1: u = 0.25
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        for layer, weight, bias in ((0, torch.eye(2), [0.0, 0.0]), (2, torch.tensor([[0.4, -0.2]]), [0.1]),
                                    (4, torch.tensor([[1.0]]), [0.0])):  # fmt: skip
            model[layer].weight.copy_(weight)
            model[layer].bias.copy_(torch.tensor(bias))
    snn = ts.convert(model, ExactMapping(), torch.rand(64, 2))
    trace = ts.simulate(snn, torch.tensor([[0.5, 0.25]]), engine="sorted")
    assert float(trace.logits[-1]) == pytest.approx(0.25, abs=1e-7)  # weights are float32


def test_continuous_time_has_no_number_of_steps():
    with pytest.raises(ts.errors.SettingError, match="time is continuous"):
        ExactMapping(timesteps=8)
