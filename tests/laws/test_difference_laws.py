"""Laws of the difference codes in float64: operators, neurons and whole networks."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.neurons import DifferentialMultiThreshold, DifferentialOperator, SigmaDelta
from transpike.passes import NeuronsForFunctions
from transpike.recipes import BurstDigits, StreamingSigmaDelta

STEPS, N = 12, 8
ACTIVATIONS = {
    "relu": nn.ReLU(), "relu6": nn.ReLU6(), "gelu": nn.GELU(), "gelu-tanh": nn.GELU("tanh"), "silu": nn.SiLU(),
    "mish": nn.Mish(), "leaky": nn.LeakyReLU(0.1), "prelu": nn.PReLU(6, 0.3), "elu": nn.ELU(), "selu": nn.SELU(),
    "celu": nn.CELU(0.7), "softplus": nn.Softplus(), "hardswish": nn.Hardswish(), "hardsigmoid": nn.Hardsigmoid(),
    "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "hardtanh": nn.Hardtanh(), "threshold": nn.Threshold(0.25, -0.5),
}  # fmt: skip
OPERATORS = ACTIVATIONS | {
    "group-norm": nn.GroupNorm(2, 6), "layer-norm": nn.LayerNorm([6, 4, 4]), "rms-norm": nn.RMSNorm([6, 4, 4]),
    "instance-norm": nn.InstanceNorm2d(6), "softmax": nn.Softmax(1),
    "max-pool": nn.MaxPool2d(2), "adaptive-max": nn.AdaptiveMaxPool2d(2),
}  # fmt: skip


def operator(label: str) -> Op:
    """The op that capture makes of a layer, which sits between two convolutions."""
    model = nn.Sequential(nn.Conv2d(2, 6, 1), OPERATORS[label], nn.Conv2d(6, 2, 1)).eval()
    graph = ts.capture(model, torch.randn(2, 2, 4, 4), on_unsupported="keep")
    (op,) = (node.op for node in graph if isinstance(node.op, Op) and node.path == "1")
    return op.to(dtype=torch.float64)


def function(label: str) -> Op:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), ACTIVATIONS[label], nn.Conv2d(6, 2, 1)).eval()
    x = torch.randn(2, 2, 4, 4)
    graph = ts.capture(model, x, on_unsupported="keep")
    graph = NeuronsForFunctions().apply(graph, Context(graph, (x,), timesteps=1))
    (op,) = (node.op for node in graph if isinstance(node.op, Op) and node.op.role == "activation")
    return op.to(dtype=torch.float64)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gain", ["unit", "reciprocal"])
@pytest.mark.parametrize("label", OPERATORS)
def test_the_estimate_of_every_operator_is_its_function_of_the_estimate(label, gain):
    op = operator(label)
    cell = DifferentialOperator(op, gain)
    state, heard, said = cell.init(random(0, 3, 6, 4, 4)), torch.zeros(3, 6, 4, 4).double(), torch.zeros(()).double()
    for t in range(1, STEPS + 1):
        weight = 1.0 if gain == "unit" else 1 / t
        x = random(t, 3, 6, 4, 4)
        state, sent = cell.step(state, x, t=t)
        heard, said = heard + weight * x, said + weight * sent
        expected = op.run(heard)
        assert float((said - expected).abs().max()) <= 1e-12 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("label", ACTIVATIONS)
def test_the_error_of_every_sigma_delta_neuron_falls_by_thirds_and_it_is_then_silent(label):
    """``|y − R_t| ≤ max(¾ θ, |y| 3^−t)`` for a constant estimate with ``|y| ≤ 1.5`` largest thresholds."""
    source, smallest = function(label), 2.0**-7
    cell = SigmaDelta(source, torch.tensor(smallest).double(), torch.tensor(0.0).double(), N)
    x = 2 * random(1, 3, 6, 4, 4)
    y = source.run(x)
    near = y.abs() <= 1.5
    state, silence = cell.init(x), torch.zeros_like(x)
    for t in range(1, STEPS + 1):
        state, sent = cell.step(state, x if t == 1 else silence, t=t)
        bound = (y.abs() * 3.0**-t).clamp(min=0.75 * smallest) + smallest / 1024
        assert bool(((y - state[1] * smallest).abs() <= bound)[near].all())
        assert t <= 6 or not bool(sent[near].any())
    assert bool(near.any())


@pytest.mark.parametrize("label", ACTIVATIONS)
def test_every_neuron_ends_within_a_level_of_its_burst_twin_however_its_estimate_moved(label):
    source = function(label)
    settings = torch.tensor(2.0**-7).double(), torch.tensor(0.0).double(), N
    one, twin = SigmaDelta(source, *settings), SigmaDelta(source, *settings, "all")
    walk = 0.3 * random(2, 10, 2, 6, 4, 4)
    state = one.init(walk[0])
    for t, x in enumerate([*walk, *torch.zeros(8, 2, 6, 4, 4).double()], 1):
        state, _ = one.step(state, x, t=t)
    _, levels = twin.step(twin.init(walk[0]), walk.sum(0), t=1)
    near = source.run(walk.sum(0)).abs() <= 1.5
    assert float((state[1] - levels)[near].abs().max()) <= 1


@pytest.mark.parametrize("label", [label for label in ACTIVATIONS if label not in ("relu", "relu6", "threshold")])
def test_a_neuron_of_reciprocal_differences_has_the_error_of_a_rate(label):
    """``r_out = f(r_in) − (v(T) − v(0)) / T`` at every step."""
    source = function(label)
    cell = DifferentialMultiThreshold(source, torch.tensor(0.02).double(), torch.tensor(0.01).double(), N, "value")
    state, heard, said = cell.init(random(0, 3, 6, 4, 4)), torch.zeros(()).double(), torch.zeros(()).double()
    for t in range(1, STEPS + 1):
        x = random(t, 3, 6, 4, 4) / t
        state, levels = cell.step(state, x, t=t)
        heard, said = heard + x / t, said + levels * cell.threshold / t
        expected = source.run(heard) - (state[0] - cell.initial) / t
        assert float((said - expected).abs().max()) <= 1e-12 * max(1.0, float(expected.abs().max()))


def test_a_settled_network_is_silent_and_each_of_its_neurons_sent_what_its_burst_twin_would():
    """Also within a network: R of a neuron is within a level of its twin's, on the estimate that the neuron has."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        layers = [
            nn.Linear(6, 16),
            nn.GELU(),
            nn.Linear(16, 16),
            nn.SiLU(),
            nn.Linear(16, 8),
            nn.Tanh(),
            nn.Linear(8, 3),
        ]
        model, x = nn.Sequential(*layers).eval(), torch.randn(32, 6)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=24, percentile=100.0), x)
    trace = ts.simulate(snn, x, engine="reference", record=["1", "3", "5"])
    assert not any(bool(trace.trains[name][-4:].any()) for name in ("1", "3", "5"))
    values: dict[str, Tensor] = {"input": x.double()}
    for node in snn.graph.to(dtype=torch.float64):
        if not node.inputs:
            continue
        estimate = values[node.inputs[0]]
        if isinstance(node.op, SigmaDelta):
            cell = dataclasses.replace(node.op, rule="all")
            _, levels = cell.step(cell.init(estimate), estimate, t=1)
            sent = trace.trains[node.name].double().sum(0)
            assert float((sent - levels).abs().max()) <= 1
            values[node.name] = sent * cell.threshold
        else:
            values[node.name] = node.op.run(estimate)
    burst = ts.convert(model, BurstDigits(percentile=100.0), x)
    expected = model(x).detach()
    assert float((trace.logits[-1] - burst(x)).norm()) <= 0.02 * float(expected.norm())
