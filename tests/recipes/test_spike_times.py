"""First crossings and latched currents."""

import pytest
import torch
from torch import nn

import transpike as ts
from stored import stored
from transpike.errors import SettingError
from transpike.recipes import S4NN, ExactMapping, RueckauerLiu


def test_spike_times_are_those_of_cumulative_sums_above_the_threshold():
    torch.manual_seed(0)
    slots, threshold = 32, 1.0
    model = nn.Sequential(nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
    with torch.no_grad():
        model[0].weight.mul_(2).add_(0.1)
        model[2].weight.mul_(2).add_(0.2)
    x = torch.rand(20, 12)
    snn = ts.convert(model, S4NN(timesteps=slots, threshold=threshold), x)

    def crossing(arrivals: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """arrivals (batch, inputs) slots, `slots` for none → the first slot with a sum above the threshold."""
        train = (arrivals[:, None, :] == torch.arange(slots)[None, :, None]).double()
        over = (train @ weight.double().T).cumsum(1) > threshold
        return torch.where(over.any(1), over.double().argmax(1), slots)

    entered = torch.ceil(slots * (1 - x.double()) - 1e-5).clamp(min=0).long().clamp(max=slots)
    hidden = crossing(entered, model[0].weight)
    answer = crossing(hidden, model[2].weight)
    assert 0 < int((hidden < slots).sum()) < hidden.numel() and len(answer.unique()) > 2
    for engine in ("reference", "dense", "sorted"):
        trace = ts.simulate(snn, x, engine=engine, record=["1", "2.neuron"])
        assert torch.equal(trace.trains["2.neuron"].double().sum(0), (slots - answer).double())
        assert torch.equal(trace.trains["1"].double().sum(0) > 0, hidden < slots)


@pytest.fixture(scope="module")
def scores(digits):
    """Rule → (accuracy, spikes a sample), of a network of fully connected layers: "dynamic" knows no maximum pools."""
    model, found = stored("fully-connected"), {}
    for rule in ("first", "corrective", "dynamic"):
        snn = ts.convert(model, RueckauerLiu(rule=rule, timesteps=48, resolution=8), digits.calibration)
        report = ts.evaluate(snn, (digits.images, digits.labels))
        found[rule] = report.final.accuracy, report.final.spikes, snn
    return found


def test_corrective_spikes_take_back_and_cost_more(scores):
    assert scores["corrective"][1] > scores["first"][1]
    assert scores["corrective"][0] >= scores["first"][0] - 0.01 and scores["corrective"][0] > 0.6


def test_a_dynamic_threshold_waits(scores, digits):
    slow, fast = scores["dynamic"][2], scores["first"][2]
    names = [n.name for n in fast.graph if isinstance(n.op, ts.neurons.Latched)][1:]
    trains = [ts.simulate(snn, digits.images[:8], record=names).trains for snn in (slow, fast)]

    def mean_time(train: torch.Tensor) -> float:
        time, fired = (train > 0).double().argmax(0), (train > 0).any(0)
        return float(time[fired].double().mean())

    assert all(mean_time(trains[0][name]) > mean_time(trains[1][name]) for name in names)


def test_a_sum_of_spikes_and_input_cannot_be_waited_for():
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.b(torch.relu(torch.relu(self.a(x)) + x))

    with pytest.raises(ts.errors.UnsupportedModel, match="'corrective'"):
        ts.convert(Sum(), RueckauerLiu(rule="dynamic"), torch.rand(16, 3))


def test_runs_of_other_lengths_are_refused_where_the_answer_would_be_another():
    x, model = torch.rand(16, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    exact, latched = ts.convert(model, ExactMapping(), x), ts.convert(model, RueckauerLiu(timesteps=16), x)
    for engine in ("auto", "reference"):
        with pytest.raises(SettingError, match=r"one window per layer: timesteps=1, not 3"):
            ts.simulate(exact, x, 3, engine=engine)
        with pytest.raises(SettingError, match=r"converted for 16 steps.*convert with timesteps=32"):
            ts.simulate(latched, x, 32, engine=engine)


def test_every_engine_runs_exact_times_in_float64_however_long_their_windows():
    torch.manual_seed(0)
    x, model = torch.rand(16, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    snn = ts.convert(model, ExactMapping(zeta=1e5), x)
    wanted = model.double()(x.double()).detach()
    assert float((snn(x) - wanted).abs().max()) < 1e-9


def test_a_spiking_input_of_exact_times_has_nothing_below_zero():
    x, model = torch.rand(16, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    snn = ts.convert(model, ExactMapping(input="spikes"), x)
    with pytest.raises(ts.errors.DataError, match="has no spike time"):
        ts.simulate(snn, x - 0.5)
