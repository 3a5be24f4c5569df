"""PASCAL: a network of quantised clips in spikes, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from figures import Sum
from measured import activations, counts
from transpike.activations import QuantisedClip, ReLU
from transpike.neurons import IntegrateAndFire, SignedIntegrateAndFire
from transpike.recipes import PASCAL, QCFS

LEVELS = 4


def settled(train: Tensor, threshold: Tensor, initial: Tensor, silent: int) -> Tensor:
    """Fires as it hears ``train``; then spikes of either sign in ``silent`` steps: the net count, cut at 0 and T."""
    cell = IntegrateAndFire(ReLU(), threshold, initial)
    state, count = cell.init(train[0]), torch.zeros_like(train[0])
    for t, x in enumerate(train):
        state, spikes = cell.step(state, x, t=t + 1)
        count = count + spikes
    correcting = SignedIntegrateAndFire(ReLU(), threshold, initial, "pascal")
    signed = (state, count)
    for t in range(silent):
        signed, spikes = correcting.step(signed, torch.zeros_like(count), t=t + 1)
    return signed[1].clamp(0, len(train))  # which is what T steps can send


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(4, 40), st.integers(0, 15))
def test_a_neuron_that_has_settled_has_the_count_of_its_charge(seed, steps, sixteenths, share):
    """Whatever the order of arrival: T − 1 silent steps suffice for what T steps got wrong."""
    generator = torch.Generator().manual_seed(seed)
    train = torch.randint(-256, 257, (steps, 64), generator=generator).double() / 64
    threshold = torch.tensor(sixteenths / 16, dtype=torch.float64)
    initial = threshold * share / 16
    exact = SignedIntegrateAndFire(ReLU(), threshold, initial, "pascal").counts(train.sum(0), timesteps=steps)
    assert torch.equal(settled(train, threshold, initial, steps - 1), exact)


def test_a_step_less_is_not_enough():
    train = torch.tensor([1.0, 1.0, 1.0, -10.0], dtype=torch.float64)[:, None]
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    assert [float(settled(train, one, zero, silent)) for silent in (3, 2, 0)] == [0.0, 1.0, 3.0]


def quantised(residual: bool) -> tuple[nn.Module, Tensor]:
    """Weights are multiples of 1/8 and inputs of 1/16, so that float32 rounds nothing and ties are ties."""
    generator = torch.Generator().manual_seed(1)
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), QuantisedClip(LEVELS, 2.0), nn.Conv2d(4, 4, 3, padding=1))
    last = QuantisedClip(LEVELS, 4.0)
    middle = [Sum(body, last)] if residual else [nn.Conv2d(4, 4, 3), last]
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), QuantisedClip(LEVELS, 1.0), nn.MaxPool2d(2), *middle, nn.AvgPool2d(2), nn.Flatten(),
        nn.LazyLinear(3),
    )  # fmt: skip
    x = torch.randint(-16, 17, (40, 1, 10, 10), generator=generator) / 16
    model(x)
    with torch.no_grad():
        for parameter in (p for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) for p in m.parameters()):
            parameter.copy_(torch.randint(-6, 7, parameter.shape, generator=generator) / 8)
    return model.eval(), x


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_it_is_its_source_bit_for_bit(residual, engine):
    model, x = quantised(residual)
    snn = ts.convert(model, PASCAL(), x)
    trace = ts.simulate(snn, x, engine=engine)
    assert trace.exact
    with torch.no_grad():
        assert torch.equal(trace.logits[-1], model(x))
    for name, count in counts(snn, x, engine).items():
        level = activations(snn.source, x)[name][1] * LEVELS / snn.graph[name].op.threshold
        assert len(level.unique()) == LEVELS + 1 and torch.equal(count, level.double())
    streaming = ts.convert(model, QCFS(timesteps=LEVELS), x)
    assert not torch.equal(ts.simulate(streaming, x).logits[-1], trace.logits[-1])


def test_its_steps_are_those_that_neurons_take_to_settle():
    model, x = quantised(residual=True)
    snn = ts.convert(model, PASCAL(), x)
    assert snn.total_steps() == 3 * (2 * LEVELS - 1) + LEVELS
    assert (
        ts.convert(model, QCFS(timesteps=LEVELS, schedule=ts.schedules.LayerSynchronous()), x).total_steps()
        == 4 * LEVELS
    )


def test_other_levels_and_other_activations_are_refused():
    model, x = quantised(residual=False)
    with pytest.raises(ts.TranspikeError, match=r"1 has 4 levels and the recipe has 8 time steps, .*use timesteps=4"):
        ts.convert(model, PASCAL(timesteps=8), x)
    mixed = nn.Sequential(
        nn.Linear(2, 2), QuantisedClip(4, 1.0), nn.Linear(2, 2), QuantisedClip(8, 1.0), nn.Linear(2, 2)
    )
    with pytest.raises(ts.TranspikeError, match=r"3 has 8 levels .* train all layers with equal levels"):
        ts.convert(mixed, PASCAL(timesteps=4), torch.rand(8, 2))
    with pytest.raises(ts.TranspikeError, match="not a quantised clip"):
        ts.convert(nn.Sequential(nn.Linear(2, 2), nn.Hardtanh(0, 1), nn.Linear(2, 2)), PASCAL(), torch.rand(8, 2))
