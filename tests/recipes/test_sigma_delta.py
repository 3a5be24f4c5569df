"""Sigma-delta neurons and differences with unit gain: laws in float64."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from transpike import neurons, ops
from transpike.activations import Function, ReLU, Unchanged
from transpike.core.pass_ import Context
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import DifferentialOperator, SigmaDelta
from transpike.neurons.sigma_delta import OFF_GRID
from transpike.ops.analogue import AnalogueOp
from transpike.passes import EncodeWires, NeuronsForFunctions
from transpike.recipes import DCGS, ECC, BurstDigits, StreamingSigmaDelta
from transpike.schedules import Differences

N, STEPS = 8, 10
SMALLEST = 2.0**-7
"""The lowest of N thresholds up to 1."""
SMOOTH = {
    "gelu": nn.GELU(), "gelu-tanh": nn.GELU("tanh"), "silu": nn.SiLU(), "mish": nn.Mish(), "leaky": nn.LeakyReLU(0.1),
    "prelu": nn.PReLU(4, 0.3), "elu": nn.ELU(), "selu": nn.SELU(), "celu": nn.CELU(0.7), "softplus": nn.Softplus(),
    "hardswish": nn.Hardswish(), "hardsigmoid": nn.Hardsigmoid(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(),
    "hardtanh": nn.Hardtanh(), "threshold": nn.Threshold(0.25, -0.5),
}  # fmt: skip


def analogue(name: str) -> AnalogueOp:
    return AnalogueOp(f"aten.{name}", (("input", 0),))


def sigma_delta(source, rule: str = "one") -> SigmaDelta:
    return SigmaDelta(source, torch.tensor(SMALLEST).double(), torch.tensor(0.0).double(), N, rule)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OPERATORS = {
    "silu": (analogue("silu.default"),), "exp": (analogue("exp.default"),),
    "product": (AnalogueOp("aten.mul.Tensor", (("input", 0), ("input", 1))),),
    "layer-norm": (
        AnalogueOp("aten.layer_norm.default", (("input", 0), (6,), ("constant", 0), ("constant", 1)),
                   constants=(random(1, 6), 3 * random(2, 6))),
    ),
    "rms-norm": (AnalogueOp("aten.rms_norm.default", (("input", 0), (6,)), (("eps", 1e-6),)),),
    "group-norm": (
        AnalogueOp("aten.group_norm.default", (("input", 0), 5, ("constant", 0), ("constant", 1)),
                   constants=(random(1, 5), 3 * random(2, 5))),
    ),
    "softmax": (AnalogueOp("aten.softmax.int", (("input", 0), -1)),),
    "linear": (ops.Scale(weight=random(3, 5)),),
}  # fmt: skip


@pytest.mark.parametrize("gain", ["unit", "reciprocal"])
@pytest.mark.parametrize("label", OPERATORS)
def test_the_estimate_of_an_operator_is_its_function_of_the_estimates_at_every_step(label, gain):
    (op,) = OPERATORS[label]
    cell = DifferentialOperator(op, gain)
    arity = 2 if label == "product" else 1
    state, heard, said = cell.init(*[random(0, 3, 5, 6)] * arity), [torch.zeros(3, 5, 6).double()] * arity, 0.0
    for t in range(1, STEPS + 1):
        weight = 1.0 if gain == "unit" else 1 / t
        now = [random(10 * t + k, 3, 5, 6) for k in range(arity)]
        state, sent = cell.step(state, *now, t=t)
        heard = [e + weight * x for e, x in zip(heard, now, strict=True)]
        said = said + weight * sent
        expected = op.run(*heard)
        assert float((said - expected).abs().max()) <= 1e-12 * max(1.0, float(expected.abs().max()))


@given(st.integers(0, 10_000))
def test_the_error_falls_to_three_quarters_of_the_lowest_threshold_and_the_neuron_is_silent(seed):
    y = torch.rand(400, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 - 1.5
    cell = sigma_delta(Unchanged())
    state, silence = cell.init(y), torch.zeros_like(y)
    for t in range(1, STEPS + 1):
        state, sent = cell.step(state, y if t == 1 else silence, t=t)
        rounding = SMALLEST / 1024
        bound = (y.abs() * 3.0**-t).clamp(min=0.75 * SMALLEST)
        assert bool(((y - state[1] * SMALLEST).abs() <= bound + rounding).all())
        assert t <= 6 or not bool(sent.any())


@given(st.integers(0, 10_000))
def test_a_settled_neuron_is_within_one_level_of_its_burst_twin(seed):
    walk = 0.2 * random(seed, 12, 50)
    one, all_digits = sigma_delta(Unchanged()), sigma_delta(Unchanged(), "all")
    state = one.init(walk[0])
    for t, x in enumerate([*walk, *torch.zeros(8, 50).double()], 1):
        state, _ = one.step(state, x, t=t)
    twin, levels = all_digits.step(all_digits.init(walk[0]), walk.sum(0), t=1)
    near = walk.sum(0).abs() <= 1.5  # beyond it, one burst is not enough
    assert float((state[1] - levels)[near].abs().max()) <= 1
    assert not bool(all_digits.step(twin, 0 * walk[0], t=2)[1][near].any())  # everything was sent


def test_a_neuron_follows_values_beyond_its_largest_threshold():
    cell = sigma_delta(Unchanged())
    trains = torch.zeros(STEPS, 1, 1).double()
    trains[0] = 5.3
    assert float(cell.window(trains).sum() * SMALLEST) == pytest.approx(5.3, abs=0.75 * SMALLEST)


def test_a_burst_is_counted_in_signed_digits():
    """7 = 8 − 1 and 11 = 8 + 4 − 1 levels: two and three spikes."""
    graph = ts.Graph((
        ts.core.graph.Node("input", ts.core.graph.Input((2,))),
        ts.core.graph.Node("fire", sigma_delta(Unchanged(), "all"), ("input",)),
        ts.core.graph.Node("out", ops.Linear(weight=torch.ones(1, 2)), ("fire",)),
    ))  # fmt: skip
    snn = ts.SNN(graph, graph, BurstDigits(), ts.encoders.ConstantCurrent(largest=1.0))
    trace = ts.simulate(snn, torch.tensor([[7.0, 11.0]]) * SMALLEST, engine="reference", record=["fire"])
    assert trace.trains["fire"].flatten().tolist() == [7.0, 11.0]
    assert trace.activity.layers[0].spikes.tolist() == [5.0]


@pytest.mark.parametrize("label", SMOOTH)
def test_a_smooth_activation_becomes_a_neuron_with_equal_spikes_in_both_engines(label):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(6, 4), SMOOTH[label], nn.Linear(4, 3)).eval()
        x = 2 * torch.randn(32, 6)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=8), x)
    assert sum(isinstance(node.op, SigmaDelta) for node in snn.graph) == 1
    a, b = (ts.simulate(snn, x, engine=engine, record=["1"]) for engine in ("reference", "dense"))
    assert a.exact, a.why
    assert torch.equal(a.trains["1"], b.trains["1"])
    assert torch.equal(a.logits, b.logits)
    expected = model(x).detach()
    assert float((a.logits[-1] - expected).norm()) <= 0.02 * float(expected.norm())
    assert not bool(a.trains["1"][-1].any())
    single = ts.simulate(snn, x[5:6], engine="dense", record=["1"])
    assert torch.equal(single.trains["1"], b.trains["1"][:, 5:6])


class Residual(nn.Module):
    """A block whose sum enters weights, with a normalisation and a pooling between neurons."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm = nn.GroupNorm(2, 4) if normalised else nn.Identity()
        self.act, self.last = nn.SiLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.first(x))
        b = self.third(a + self.second(self.norm(a)))
        return self.last(nn.functional.silu(b).mean((2, 3)))


@pytest.mark.parametrize("normalised", [False, True])
def test_places_for_neurons_do_not_change_the_function(normalised):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model, x = Residual(normalised).eval(), torch.randn(4, 1, 6, 6)
    before = ts.capture(model, x, on_unsupported="keep")
    context = Context(before, (x,), timesteps=4, remarks=[])
    functions = NeuronsForFunctions().apply(before, context)
    assert [type(node.op) for node in functions if node.op.role == "activation"] == [Function, Function]
    after = EncodeWires().apply(functions, context)
    assert torch.equal(after.run(x), before.run(x))
    assert len(after.nodes) == len(before.nodes) + 1 + normalised
    assert context.remarks and "encode the real numbers of" in context.remarks[0]


@pytest.mark.parametrize("normalised", [False, True])
def test_sums_are_encoded_before_weights_and_norms_stay_analogue(normalised):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model, x = Residual(normalised).eval(), torch.randn(16, 1, 6, 6)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12, percentile=100.0), x)
    expected = model(x).detach()
    assert sum(isinstance(node.op, DifferentialOperator) for node in snn.graph) == normalised
    assert sum(isinstance(getattr(node.op, "source", None), Unchanged) for node in snn.graph) == 1 + normalised
    a, b = (ts.simulate(snn, x, engine=engine) for engine in ("reference", "dense"))
    assert a.exact, a.why
    assert torch.equal(a.logits, b.logits)
    assert float((a.logits[-1] - expected).norm()) <= 0.03 * float(expected.norm())
    assert sum(float(layer.spikes[-1]) for layer in a.activity.layers) == 0


def test_the_streaming_network_settles_near_its_burst_twin():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
        x = torch.randn(32, 6)
    stream, burst = (ts.convert(model, recipe, x) for recipe in (StreamingSigmaDelta(timesteps=12), BurstDigits()))
    answer = model(x).detach()
    assert float((stream(x) - burst(x)).norm()) <= 0.02 * float(answer.norm())
    assert float((burst(x) - answer).norm()) <= 0.02 * float(answer.norm())


def test_the_gains_of_neurons_and_schedule_must_match():
    with pytest.raises(SettingError, match="differential coding needs matching"):
        StreamingSigmaDelta(schedule=Differences())
    with pytest.raises(SettingError, match="differential coding needs matching"):
        DCGS(schedule=Differences("unit"))
    with pytest.raises(SettingError, match="gain must be"):
        Differences("double")
    with pytest.raises(SettingError, match="gain must be"):
        DifferentialOperator(ops.Identity(), "double")
    x = torch.rand(8, 4)
    snn = ts.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), DCGS(timesteps=2), x)
    wrong = dataclasses.replace(snn, recipe=StreamingSigmaDelta(timesteps=2))
    with pytest.raises(SettingError, match="sends differences with reciprocal gain"):
        wrong(x)


def test_a_neuron_stands_for_functions_of_one_value_only():
    assert SigmaDelta.stands_for(Function("aten.gelu.default", (("input", 0),))) is True
    assert SigmaDelta.stands_for(ReLU()) is True
    assert "not declared as a function" in str(SigmaDelta.stands_for(analogue("softmax.int")))
    assert Function.of_analogue(OPERATORS["softmax"][0]) is None
    assert "ReLU" in str(neurons.IntegrateAndFire.stands_for(Function("aten.gelu.default", (("input", 0),))))


def test_other_recipes_still_refuse_smooth_activations():
    with pytest.raises(UnsupportedModel, match="silu"):
        ts.convert(nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 2)), ECC(), torch.rand(8, 4))


def test_a_function_near_an_edge_of_its_rounding_is_counted():
    cell = sigma_delta(Function("aten.leaky_relu.default", (("input", 0), 0.5)))
    edge = torch.tensor([[100.5 - OFF_GRID, 100.4, 100.5]], dtype=torch.float64) * SMALLEST / 1024
    assert cell.undecided((edge, torch.zeros_like(edge))) == 1
    assert sigma_delta(Unchanged()).undecided((edge, torch.zeros_like(edge))) == 0


def test_polynomials_on_a_grid_are_not_at_an_edge_of_their_rounding():
    """Of hardswish on multiples of 2^−12, with a threshold of 3 · 2^−10, one in 32 would be between two parts."""
    hardswish = Function("aten.hardswish.default", (("input", 0),))
    cell = SigmaDelta(hardswish, torch.tensor(3 * 2.0**-10), torch.zeros(()))
    estimate = torch.arange(-(2**14), 2**14, dtype=torch.float64) * 2.0**-12
    parts = hardswish.run(estimate) / cell.threshold.double() * 1024
    assert int((parts - parts.floor() == 0.5).sum()) > 50
    assert cell.undecided((estimate, torch.zeros_like(estimate))) == 0
