"""Source activations: their values, their gradients against the straight-through form, their stages and penalties."""

import math

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike import activations
from transpike.activations import (
    ClampQuantise,
    ExpandedInput,
    QuantisedClip,
    RateNorm,
    SlipReLU,
    ThresholdReLU,
    TrainableClip,
    UniformQuantiser,
    ValueRange,
)
from transpike.activations.staircase import tie
from transpike.errors import SettingError, UnsupportedModel

Z = torch.linspace(-1.5, 3.0, 91) + 0.013  # no point on an edge


def through(values: Tensor, x: Tensor) -> Tensor:
    """``values`` going forward, the gradient of x going back."""
    return x + (values - x).detach()


def quantised(z: Tensor, threshold: Tensor, levels: int, shift: float) -> Tensor:
    share = (z / threshold).clamp(0, 1)
    inner = through(torch.floor(z / threshold * levels + shift).clamp(0, levels) / levels, share)
    return threshold * inner


LAW = {
    "QCFS": (QuantisedClip(4, 1.7), lambda z, t: quantised(z, t, 4, 0.5)),
    "uniform": (UniformQuantiser(2, 1.7), lambda z, t: quantised(z, t, 3, 0.5)),
    "TCL": (TrainableClip(1.7), lambda z, t: torch.minimum(torch.relu(z), t)),
    "slip-relu": (
        SlipReLU(4, 0.3, 1.7, 0.5, 0.25),
        lambda z, t: 0.3 * t * (z / t + 0.125).clamp(0, 1) + 0.7 * quantised(z, t, 4, 0.25),
    ),
}


@pytest.mark.parametrize("name", LAW)
def test_gradients_are_those_of_the_straight_through_form(name):
    module, form = LAW[name]
    weights = torch.linspace(0.5, 2.0, len(Z))
    z, threshold = Z.clone().requires_grad_(), torch.tensor([1.7], requires_grad=True)
    expected = form(z, threshold)
    (expected * weights).sum().backward()
    own = Z.clone().requires_grad_()
    module.thresh.grad = None
    (module(own) * weights).sum().backward()
    assert torch.allclose(module(Z), expected, atol=1e-6)
    assert torch.allclose(own.grad, z.grad, atol=1e-6)
    assert torch.allclose(module.thresh.grad, threshold.grad, rtol=1e-4)


def test_the_gradient_of_cq_is_clipped_and_masked():
    z = torch.tensor([-0.2, 0.3, 0.7, 1.2], requires_grad=True)
    above = torch.tensor([5.0, 5.0, -0.4, 5.0])
    for bound, expected in ((1.0, [0, 1, -0.4, 0]), (None, [0, 5, -0.4, 0])):
        z.grad = None
        ClampQuantise(4, bound=bound)(z).backward(above)
        assert torch.allclose(z.grad, torch.tensor(expected, dtype=torch.float32))


def test_what_is_fixed_is_no_parameter_and_travels_with_the_weights():
    for module in (ClampQuantise(8), ValueRange(8, 10), ThresholdReLU(0.5)):
        assert not list(module.parameters()) and set(module.state_dict()) == {"thresh"}
    assert float(ValueRange(8, 10).thresh) == pytest.approx(0.8)
    fitted = ValueRange(8, 10)
    fitted.calibrate(2.5)
    assert float(fitted.thresh) == pytest.approx(2.0)


def test_shifted_threshold_relu():
    assert torch.allclose(ThresholdReLU(1.0, 0.25)(Z), (Z + 0.25).clamp(0, 1))


def test_stages_go_from_relu_to_clip_to_levels():
    module = QuantisedClip(4, 1.0)
    assert module.stage == "quantise"
    for stage, expected in (
        ("relu", Z.relu()),
        ("clip", Z.clamp(0, 1)),
        ("quantise", torch.floor(4 * Z + 0.5).clamp(0, 4) / 4),
    ):
        module.stage = stage
        assert torch.allclose(module(Z), expected)
    with pytest.raises(SettingError, match="one of relu, clip, quantise"):
        module.stage = "clamp"


def test_penalties_are_there_in_training_only_and_pull_towards_the_middle_of_levels():
    module, z = QuantisedClip(4, 1.0, regulariser=0.2), Z.clone().requires_grad_()
    output = module(z)
    clipped = Z.clamp(0, 1)
    assert module.penalty.item() == pytest.approx(0.2 * (clipped - output).square().mean().item(), rel=1e-5)
    module.penalty.backward()
    inside = (Z > 0) & (Z < 1)
    assert torch.equal(z.grad[inside].sign(), (Z - output.detach())[inside].sign()) and not z.grad[~inside].any()
    module.eval()(Z)
    assert module.penalty is None
    plain = QuantisedClip(4, 1.0)
    plain(Z)
    assert plain.penalty is None


def test_rate_norm_follows_the_maximum_and_gives_rates():
    module = RateNorm(momentum=0.5, regulariser=1.0)
    module(torch.tensor([[4.0, -1.0]]))
    module(torch.tensor([[2.0, 1.0]]))
    assert module.peak.item() == 3.0
    module.eval()
    theta = 3.0 / (1 + math.exp(-10))
    assert torch.allclose(module(torch.tensor([[1.5, 9.0]])), torch.tensor([[1.5 / theta, 1.0]]))
    module.train()
    rates = module(torch.tensor([[3.0, 1.5], [0.3, 0.0]]))
    omega = rates.detach().sum(1) / rates.detach().square().sum(1)
    assert module.penalty.item() == pytest.approx(float(omega.mean()))
    module.penalty.backward()
    assert module.p.grad.item() != 0
    peak, module.locked = module.peak.clone(), True
    x = torch.tensor([[9.0, 1.0]])
    assert module(x).max() == 1 and torch.equal(module.peak, peak)
    module.stage = "clip"
    assert module(x).max() == 1
    module.stage = "relu"
    assert float(module(x).detach().max()) == pytest.approx(9 / (float(peak) / (1 + math.exp(-10))))
    with pytest.raises(SettingError, match="train it from scratch"):
        module.calibrate(2.0)


def test_expanded_input_holds_three_resolutions_twice():
    x = torch.tensor([[[[0.26]], [[0.55]]]])  # two channels
    got = ExpandedInput(8, 10)(x)[0, :, 0, 0]
    thirds = [[math.floor(v * n) / 10 for v in (0.26, 0.55)] for n in (9, 11, 10)]
    assert torch.allclose(got, torch.tensor([*thirds[0], *thirds[1], *thirds[2]] * 2))


@pytest.mark.parametrize("levels", [1, 4, 10, 64, 600, 1000, 2000])
def test_floors_are_floors(levels):
    """Of even values, no more than 1 in 1,000 lie between the floor and the shifted floor; ties round up."""
    assert levels * 2.0**-23 < tie(levels) <= 2.0**-10  # more than float32 rounds x · L by
    x = torch.arange(100_003, dtype=torch.float64) / 100_003
    floor = ClampQuantise(levels)(x) * levels
    assert float((floor.round() != (x * levels).floor()).double().mean()) <= 1.1e-3
    edges = (torch.arange(levels + 1) / levels).float()
    assert torch.equal((ClampQuantise(levels)(edges) * levels).round(), torch.arange(levels + 1).float())


class Pools(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(x).relu())
        x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.avg_pool2d(x, 2)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def names(model: nn.Module, kind: type) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


def test_prepare_changes_pools_and_input_where_it_is_told_to():
    torch.manual_seed(0)
    model, x = Pools(), torch.rand(3, 2, 16, 16)
    assert names(ts.prepare(model, ClampQuantise(8)), ClampQuantise) == ["relu"]
    assert len(names(ts.prepare(model, ClampQuantise(8), pools=True), ClampQuantise)) == 3
    average = ts.prepare(model, nn.ReLU(), max_pool="average")
    assert names(average, nn.AvgPool2d) == ["pool", "max_pool_average"] and not names(average, nn.MaxPool2d)
    pooled = nn.functional.avg_pool2d(nn.functional.avg_pool2d(model.conv(x).relu(), 3, 2, 1), 2)
    rest = nn.functional.adaptive_avg_pool2d(nn.functional.avg_pool2d(pooled, 2), 1).flatten(1)
    assert torch.allclose(average(x), model.head(rest))
    entered = ts.prepare(model, nn.ReLU(), input=ClampQuantise(8))
    assert torch.allclose(entered(x), model((8 * x + tie(8)).floor() / 8))
    wide = ts.prepare(model, nn.ReLU(), input=ExpandedInput(8, 10))
    assert wide.conv.weight.shape == (4, 12, 3, 3) and wide.conv.in_channels == 12
    assert torch.allclose(wide.conv.weight.sum(1), model.conv.weight.sum(1), atol=1e-6)
    assert model.conv.weight.shape == (4, 2, 3, 3)


def test_a_prepared_network_is_prepared_again_as_it_is():
    first = ts.prepare(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), QuantisedClip(4))
    second = ts.prepare(nn.Sequential(first, nn.Linear(3, 2), nn.ReLU()), ClampQuantise(4))
    assert names(second, QuantisedClip) == ["0.1"] and names(second, ClampQuantise) == ["2"]


def two_readers() -> nn.Module:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x).relu() + x

    return Two()


RELU = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
REFUSED = {
    "levels": (lambda: QuantisedClip(0), SettingError, "levels must be"),
    "threshold": (lambda: TrainableClip(0.0), SettingError, "threshold must be positive"),
    "NaN": (lambda: TrainableClip(math.nan), SettingError, "threshold must be positive"),
    "bits": (lambda: UniformQuantiser(0), SettingError, "bits must be"),
    "rounding": (lambda: ClampQuantise(4, "up"), SettingError, "one of floor, nearest, ceil"),
    "bound": (lambda: ClampQuantise(4, bound=-1.0), SettingError, "bound must be positive or None"),
    "resolution": (lambda: ValueRange(8, 0), SettingError, "resolution must be"),
    "steps": (lambda: ValueRange(0, 8), SettingError, "timesteps must be"),
    "regulariser": (lambda: QuantisedClip(4, regulariser=-1.0), SettingError, "regulariser must be"),
    "slope": (lambda: SlipReLU(4, 1.5), SettingError, "slope must be"),
    "shift": (lambda: ThresholdReLU(1.0, math.inf), SettingError, "shift must be"),
    "start": (lambda: RateNorm(start=math.nan), SettingError, "start must be within"),
    "a word": (lambda: TrainableClip("x"), SettingError, "threshold must be positive"),
    "momentum": (lambda: RateNorm(0.0), SettingError, "momentum must be"),
    "max_pool": (lambda: ts.prepare(RELU, QuantisedClip(), max_pool="min"), SettingError, "'keep' or 'average'"),
    "an input that is no module": (lambda: ts.prepare(RELU, QuantisedClip(), input=3), SettingError, "input is an activation"),
    "dilated pools": (
        lambda: ts.prepare(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, dilation=2)), QuantisedClip(), max_pool="average"),
        UnsupportedModel, "1 is a maximum pool with dilation",
    ),
    "a shortcut from the input": (
        lambda: ts.prepare(two_readers(), QuantisedClip(), input=ExpandedInput()), UnsupportedModel, "only ungrouped convolutions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused(what):
    provoke, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        provoke()


def test_every_source_activation_has_a_name():
    modules = {
        kind for name in dir(activations) if isinstance(kind := getattr(activations, name), type)
        and issubclass(kind, nn.Module)
    }  # fmt: skip
    assert modules == set(activations.table.values())
