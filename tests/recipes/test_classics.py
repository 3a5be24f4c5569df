"""Thresholds by hand (Cao) and from weights alone (Diehl)."""

import pytest
import torch
from torch import nn

import transpike as ts
from measured import in_own_scale, streamed
from networks import random_norm
from transpike.encoders import ConstantCurrent
from transpike.recipes import Cao, DiehlModel, WeightNormalisation

CONSTANT = ConstantCurrent()


def one(reset: str, threshold: float = 1.0) -> ts.SNN:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    nn.init.ones_(model[0].weight)
    recipe = Cao(timesteps=12, encoder=CONSTANT, threshold=threshold, reset=reset)
    return ts.convert(model, recipe, torch.linspace(0, 1, 65)[:, None], exact_grid=False)


@pytest.mark.parametrize("threshold", [0.25, 3.0])
def test_the_threshold_is_the_setting_whatever_the_data(threshold):
    assert float(one("hard", threshold).graph["1"].op.threshold) == threshold


def test_a_hard_reset_fires_every_so_many_steps():
    z = torch.tensor([[0.3], [0.4], [0.6], [0.75]])
    hard, soft = (ts.simulate(one(r), z, record=["1"]).trains["1"].sum(0).flatten().tolist() for r in ("hard", "soft"))
    assert hard == [12 // 4, 12 // 3, 12 // 2, 12 // 2]
    assert soft == [3, 4, 7, 9]


def test_cao_takes_spikes_in():
    snn = ts.convert(
        nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)), Cao(8), torch.rand(16, 2)
    )
    train = ts.simulate(snn, torch.rand(4, 2), record=["input"]).trains["input"]
    assert set(train.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "extra", [(nn.Linear(3, 3),), (nn.Linear(3, 3, bias=False), random_norm(1, 3, 1e-5))], ids=["bias", "norm"]
)
def test_biases_are_refused(extra):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), *extra, nn.ReLU(), nn.Linear(3, 2, bias=False)).eval()
    with pytest.raises(ts.TranspikeError, match="does not support biases, but these layers have one: 2"):
        ts.convert(model, Cao(8), torch.rand(16, 3))


def test_weights_of_a_network_worked_out_by_hand():
    """relu(3 relu(2x + ½) − 1) on [0, 1]: λ = 2.5, then 3 · 2.5 = 7.5, for a negative bias brings nothing."""
    (first, b1, _), (second, b2, _) = in_own_scale(DiehlModel())
    assert (first, b1) == (2.0 / 2.5, 0.5 / 2.5)
    assert (second, b2) == pytest.approx((3.0 * 2.5 / 7.5, -1.0 / 7.5))


def test_no_step_brings_more_than_a_threshold():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    calibration = torch.rand(64, 1, 8, 8)
    model(calibration)
    bright = torch.ones(16, 1, 8, 8) * (torch.rand(16, 1, 8, 8) < 0.7)

    def largest(recipe: ts.core.recipe.Recipe) -> list[float]:
        """Of each layer's currents in one step, in thresholds."""
        snn = ts.convert(model, recipe, torch.cat([calibration, torch.ones(1, 1, 8, 8)]), exact_grid=False)
        return [float(current.max()) for current, *_ in streamed(snn, bright).values()]

    assert all(0 < value <= 1 + 1e-9 for value in largest(DiehlModel(timesteps=16)))
    assert max(largest(WeightNormalisation(timesteps=16))) > 1.2


def test_signed_inputs_and_differences_of_wires_have_bounds_too():
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.last((self.a(x) - self.b(x).relu()).relu())

    torch.manual_seed(1)
    model, x = Difference(), torch.rand(64, 2) * 2 - 1
    snn = ts.convert(model, DiehlModel(timesteps=8), x, exact_grid=False)
    a = model.a
    bound = (a.weight.abs().sum(1) * x.abs().max() + a.bias.clamp(min=0)).max().detach()  # b's spikes only take away
    theta = [float(n.op.threshold) for n in snn.graph.cells]
    assert theta[-1] == pytest.approx(float(bound), rel=1e-6)


def test_what_weights_do_not_bound_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Softmax(1), nn.Linear(2, 2))
    with pytest.raises(ts.TranspikeError, match="no bound from its weights"):
        ts.convert(model, DiehlModel(8), torch.rand(16, 2), on_unsupported="keep")
