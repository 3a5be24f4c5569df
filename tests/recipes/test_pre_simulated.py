"""SRP and COS hear an input before they answer it, at a price in steps."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from figures import EARLY, EVEN, LATE, Sum, frames, neuron, one_neuron, sent
from measured import activations, counts
from networks import cells
from transpike.activations import QuantisedClip
from transpike.recipes import COS, QCFS, SRP
from transpike.schedules import LayerSynchronous

FRAMES = ts.encoders.EventFrames()
STEPS = 5


def twice(first: tuple[int, ...], second: tuple[int, ...]) -> Tensor:
    part = frames(first, second, STEPS)
    return torch.cat([part, part], 1)


def test_the_gate_silences_what_fired_on_a_negative_charge():
    """Two early spikes on a charge of 2 · 2 − 2 · 3: the source is 0, the neuron fires twice, its residual tells."""
    wrong = ((1, 2), (3, 4, 5))
    gated = one_neuron(SRP(timesteps=2 * STEPS, pre_simulation_steps=STEPS, encoder=FRAMES), QuantisedClip(4, 1.0))
    assert sent(gated, twice(*wrong)) == [1, 1, 0, 0, 0] + [0] * 5
    plain = one_neuron(QCFS(timesteps=STEPS, encoder=FRAMES), QuantisedClip(4, 1.0))
    assert sent(plain, frames(*wrong, STEPS)) == [1, 1, 0, 0, 0]
    assert sent(gated, twice(*EVEN)) == [1, 0, 1, 0, 0] * 2  # a positive residual keeps the gate open


def step_by_step(cell, train: list[float]) -> list[float]:
    """Float64, one neuron on its own."""
    return cell.window(torch.tensor(train, dtype=torch.float64)[:, None]).flatten().tolist()


@pytest.mark.parametrize(("residual", "later"), [(0.9, [0, 1]), (0.002, [0, 1]), (0.0005, [0, 0]), (0.0, [0, 0])])
def test_after_the_pre_simulation_potentials_start_anew_and_the_gate_needs_its_margin(residual, later):
    """v(0) = ½ again: half a unit fires in the second step, where .9 would have fired in the first."""
    one = torch.tensor(1.0, dtype=torch.float64)
    cell = ts.neurons.ResidualGate(None, one, one / 2, margin=one / 1000, pre_simulation_steps=2)
    assert step_by_step(cell, [residual - 0.5, 0.0, 0.3, 0.3]) == [0, 0, *later]


@pytest.mark.parametrize(
    ("train", "spikes"),
    [
        ([3, -3, 0, 0], [0, 0, 0, 0]),  # a spike at m = 3.5, v(4) = −½: v(0) = ½ − (3.5 − 1 + .001)
        ([-3, 0, 0, 5], [1, 0, 0, 1]),  # none before the last at m = −2.5, v(4) = 1.5: v(0) = ½ + (1 + 2.5 + .001)
        ([1, 0, -2, 0], [0, 0, 0, 0]),  # the usual case: one spike moves v(0) by θ
        ([-2, -2, 0, 0], [0, 0, 0, 0]),  # nothing fired: nothing is taken away, however low v(4) is
    ],
)
def test_an_offset_moves_as_far_as_one_spike_needs(train, spikes):
    one = torch.tensor(1.0, dtype=torch.float64)
    cell = ts.neurons.OffsetCorrected(None, one, one / 2, margin=one / 1000, pre_simulation_steps=4)
    state = cell.init(torch.zeros(1, dtype=torch.float64))
    for x in train:
        state = cell.integrate(state, torch.tensor([float(x)], dtype=torch.float64))
    start = {(3, -3, 0, 0): -2.001, (-3, 0, 0, 5): 4.001, (1, 0, -2, 0): -0.5}.get(tuple(train), 0.5)
    assert float(cell.corrected(state[1], state[0])) == pytest.approx(start)
    sent = []
    for t in range(4):
        state, out = cell.step(state, torch.zeros(1, dtype=torch.float64), t=t + 1)
        sent.append(float(out))
    assert sent == spikes


def test_only_the_steps_after_the_pre_simulation_are_read_and_all_of_them_are_counted():
    snn = one_neuron(SRP(timesteps=12, pre_simulation_steps=STEPS, encoder=FRAMES), QuantisedClip(4, 1.0))
    x = torch.cat([frames((1, 2), (3, 4, 5), STEPS), frames((1, 2, 3), (), 7)], 1)
    trace, name = ts.simulate(snn, x), neuron(snn)
    # the gate was closed by the pre-simulation, whose two spikes are not part of the answer
    assert snn.total_steps() == 12 and float(trace.logits[-1]) == 0.0
    assert float(trace.activity.layers[-1].spikes.sum()) == 2
    x = torch.cat([frames(*EVEN, STEPS), frames((1, 2, 3), (), 7)], 1)
    after = ts.simulate(snn, x, record=[name]).trains[name][STEPS:].sum()
    assert float(ts.simulate(snn, x).logits[-1]) == pytest.approx(float(after) / 7)


def test_a_pre_simulation_needs_steps_after_it():
    with pytest.raises(ts.TranspikeError, match="includes the 4 steps of the pre-simulation"):
        SRP(timesteps=4)


@pytest.mark.parametrize(("train", "counts_by_round"), [(EARLY, (4, 3, 2)), (LATE, (1, 2, 2)), (EVEN, (2, 2, 2))])
def test_each_round_mends_one_spike_and_leaves_what_is_right(train, counts_by_round):
    x, found = frames(*train, STEPS), []
    plain = one_neuron(QCFS(timesteps=STEPS, encoder=FRAMES), QuantisedClip(4, 1.0))
    found.append(sum(sent(plain, x)))
    for rounds in (1, 2):
        schedule = LayerSynchronous(wait_steps=STEPS)
        snn = one_neuron(
            COS(STEPS, encoder=FRAMES, schedule=schedule, pre_simulation_steps=STEPS, rounds=rounds),
            QuantisedClip(4, 1.0),
        )
        assert snn.total_steps() == 2 * STEPS
        found.append(sum(sent(snn, x)))
    assert tuple(found) == counts_by_round


@pytest.fixture(scope="module")
def residual() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), QuantisedClip(8, 0.6), nn.Conv2d(6, 6, 3, padding=1))
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), QuantisedClip(8, 0.6), Sum(body, QuantisedClip(8, 0.6)), nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3), QuantisedClip(8, 0.4), nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    x = torch.rand(64, 1, 8, 8)
    model(x)
    return model.eval(), x


@pytest.mark.parametrize(
    "recipe", [SRP(timesteps=12), SRP(timesteps=12, pooling="gated"), COS(timesteps=8), COS()], ids=str
)
def test_engines_agree_and_shortcuts_wait(residual, recipe):
    model, x = residual
    snn = ts.convert(model, recipe, x)
    runs = [ts.simulate(snn, x[:6], record=cells(snn), engine=e) for e in ("reference", "dense", "auto")]
    for run in runs[1:]:
        assert torch.equal(run.logits, runs[0].logits)
        assert all(torch.equal(run.trains[n], runs[0].trains[n]) for n in runs[0].trains)
    neurons = 4
    assert snn.total_steps() == (12 if isinstance(recipe, SRP) else neurons * 4 + recipe.timesteps)


def test_corrected_offsets_bring_counts_to_those_of_the_staircase(residual):
    model, x = residual

    def error(recipe: ts.core.recipe.Recipe) -> float:
        snn = ts.convert(model, recipe, x)
        sources = activations(snn.source, x)
        parts = [
            (count * snn.graph[name].op.threshold / 8 - sources[name][1]).abs().mean()
            for name, count in counts(snn, x, "dense").items()
        ]
        return float(torch.stack(parts[1:]).mean())

    streaming = error(QCFS(timesteps=8))
    assert error(COS(8, schedule=LayerSynchronous(wait_steps=8), pre_simulation_steps=8)) < 0.01 * streaming


def test_pools_start_anew_with_the_neurons():
    """After a pre-simulation in which the left unit led by two, the right one leads: its spikes pass at once."""
    pool = ts.neurons.LateralInhibition(
        ts.ops.MaxPool(kernel=(1, 2), stride=(1, 2), padding=(0, 0), dilation=(1, 1)), pre_simulation_steps=2
    )
    train = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).reshape(4, 1, 1, 1, 2)
    assert pool.window(train).flatten().tolist() == [1, 1, 1, 1]
    assert ts.neurons.LateralInhibition(pool.pool).window(train).flatten().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("recipe", [SRP(), COS()], ids=lambda r: r.name)
def test_what_changes_for_each_input_fits_no_chip(residual, recipe):
    model, x = residual
    found = ts.convert(model, recipe, x)
    misfits = [m for m in ts.chip_fit(found, "speck").misfits if m.limit == "neurons"]
    assert misfits and "change per input" in str(misfits[0])
    assert not [m for m in ts.chip_fit(ts.convert(model, QCFS(), x), "speck").misfits if m.limit == "neurons"]


@pytest.mark.parametrize(
    "settings", [{"schedule": LayerSynchronous()}, {"pre_simulation_steps": 3}, {"timesteps": 3}], ids=str
)
def test_windows_are_held_for_the_pre_simulation(settings):
    with pytest.raises(ts.TranspikeError, match="use schedule=LayerSynchronous"):
        COS(**settings)


def test_no_answer_is_given_before_the_pre_simulation_is_over(residual):
    model, x = residual
    snn = ts.convert(model, COS(8), x)
    report = ts.evaluate(snn, (x, torch.zeros(len(x)).long()))
    assert [answer.timesteps for answer in report.curve] == [4, 8]
    with pytest.raises(ts.TranspikeError, match="needs a run of at least that length, not 2"):
        snn(x, 2)


def test_what_changes_for_each_input_is_not_explained(residual):
    model, x = residual
    for recipe in (SRP(), COS()):
        with pytest.raises(ts.TranspikeError, match=r"change for each input, like .* or convert with another recipe"):
            ts.explain(ts.convert(model, recipe, x), (x, torch.zeros(len(x)).long()))
