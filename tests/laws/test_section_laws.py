"""Small batches run as few native calls, which fire and count as the reference does: in any pieces, and as streams."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from instruction_sets import instructions as instructions  # every test with every instruction set
from networks import STEPS, cases, converted, recipes, wide_network
from transpike.engines import Event, Reference
from transpike.engines.event import network as event_network
from transpike.engines.event import run as event_run
from transpike.engines.event.network import Section
from transpike.engines.native import library as _native

LIBRARY, WHY = _native.load()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")
pieces = st.lists(st.integers(1, 40), min_size=1, max_size=4)
wide = st.integers(0, 59).map(wide_network)


def simulated(
    snn: ts.SNN, x: Tensor, lengths: list[int], engine: Event | Reference | None = None, fixed: bool = True
) -> ts.Trace:
    engine = engine or Event()
    with torch.no_grad():
        run = engine.start(snn.program, snn.entering(snn.prepare(x)), torch.arange(len(x)), (), True)
        for steps in lengths:
            run.advance(steps)
    if isinstance(engine, Event):
        there = run.network is not None and any(isinstance(one, Section) for one in run.network.steps)
        assert there == (fixed and bool(run.event.choice.layers))
    return run.finish()


def assert_same(found: ts.Trace, expected: ts.Trace) -> None:
    rounded = not expected.exact  # the matrix product of the answer rounds by where its numbers lie in memory
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5 * rounded, atol=1e-5 * rounded)
    for one, other in zip(found.activity.layers, expected.activity.layers, strict=True):
        assert (one.name, one.updates) == (other.name, other.updates)
        assert torch.equal(one.spikes, other.spikes), one.name
        assert torch.equal(one.synaptic_operations, other.synaptic_operations), one.name
    for one, other in zip(found.activity.crossings, expected.activity.crossings, strict=True):
        assert one.name == other.name and torch.equal(one.events, other.events)


def wide_snn(seed: int, timesteps: int = STEPS) -> tuple[ts.SNN, Tensor]:
    case = wide_network(seed)
    return ts.convert(case.graph, ts.recipes.ECC(timesteps=timesteps), case.calibration), case.x


@settings(max_examples=20)
@given(st.one_of(cases(), wide), recipes(), pieces, st.integers(1, 3))
def test_any_pieces_of_a_run_are_the_reference(case, recipe, lengths, samples):
    snn, x = converted(case, recipe), case.x[:samples]
    assert_same(simulated(snn, x, lengths), simulated(snn, x, [sum(lengths)], Reference()))


@pytest.mark.parametrize("seed", [2, 3, 8, 17])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_single_steps_change_nothing(monkeypatch, seed, threads):
    snn, x = wide_snn(seed)
    expected = simulated(snn, x[:1], [STEPS], Reference())
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_same(simulated(snn, x[:1], [1] * STEPS), expected)


@settings(max_examples=15)
@given(wide, pieces)
def test_off_the_grid_the_ties_are_those_of_single_layers(case, lengths):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS), exact_grid=False)
    found = simulated(snn, case.x, lengths)
    recorded = ts.simulate(
        snn, case.x, sum(lengths), engine="event", record=[snn.graph.cells[0].name]
    )  # layer by layer
    assert found.ties == recorded.ties
    assert_same(found, recorded)


def test_a_potential_beyond_its_room_takes_the_word_exact_away():
    """And the layers after it count ties from then on, as in a run layer by layer."""
    snn, x = wide_snn(8)
    traces = []
    for record in ((), [snn.graph.cells[0].name]):
        plan = event_run.EventPlan(snn.program)
        name = next(iter(plan.calls))
        plan.choice.layers[name].room.zero_()
        snn.program.prepared["event"] = plan
        traces.append(ts.simulate(snn, x, STEPS, engine="event", record=record))
    one, other = traces
    assert not one.exact and name in one.why
    assert (one.ties, one.why) == (other.ties, other.why)


@pytest.mark.parametrize("seed", [2, 8])
def test_samples_may_leave(seed):
    snn, x = wide_snn(seed)
    mask = torch.tensor([True, False, True, True, False])[: len(x)]
    run = Event().start(snn.program, snn.prepare(x), torch.arange(len(x)), (), True)
    run.advance(5)
    run.keep(mask)
    after = run.advance(STEPS - 5)
    whole = simulated(snn, x, [STEPS]).logits
    order = torch.arange(len(x))[mask]
    assert sorted(map(tuple, after[-1].tolist())) == sorted(map(tuple, whole[-1][order].tolist()))
    spikes = sum(float(layer.spikes.sum()) for layer in run.finish().activity.layers)
    assert spikes < sum(float(layer.spikes.sum()) for layer in simulated(snn, x, [STEPS]).activity.layers)


class Joined(nn.Module):
    """Wiring of every kind: an average with a border, channels joined and cut, a shortcut that skips a row."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 12, 3, padding=1), nn.Conv2d(2, 20, 3, padding=1)
        self.three = nn.Conv2d(32, 24, 3, padding=1)
        self.four, self.linear = nn.Conv2d(20, 8, 2), nn.Linear(24 * 9 + 8 * 9, 5)
        self.pool, self.halve, self.most = nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.one(x).relu(), self.two(x).relu()
        c = self.three(self.halve(self.pool(torch.cat([a, b], 1))[:, :, 1:])).relu()
        d = self.four(self.most(b[:, :, 1:, 1:])[:, :, :4, :4]).relu()
        return self.linear(torch.cat([c.flatten(1), d.flatten(1)], 1))


@pytest.mark.parametrize("samples", [1, 3])
def test_wiring_of_every_kind(samples):
    torch.manual_seed(1)
    x = torch.rand(16, 2, 13, 13)
    snn = ts.convert(Joined(), ts.recipes.ECC(timesteps=12), x)
    found = simulated(snn, x[:samples], [5, 1, 6])
    assert not [name for name, kernel in found.kernels.items() if kernel.startswith("dense")]
    assert_same(found, simulated(snn, x[:samples], [12], Reference()))


@pytest.mark.parametrize("frames", ["binary", "signed"])
def test_spikes_of_recordings_are_read_by_kernels(frames):
    generator = torch.Generator().manual_seed(0)
    encoder = ts.encoders.EventFrames() if frames == "binary" else ts.encoders.SignedEventFrames()
    x = (torch.rand(9, 12, 2, 11, 10, generator=generator) < 0.2).float()
    if frames == "signed":
        x = x * torch.randint(0, 2, x.shape, generator=generator).mul(2).sub(1)
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 20, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(20, 8, 3), nn.ReLU()]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 9, 4)).eval()
    snn = ts.convert(model, ts.recipes.ECC(timesteps=12, encoder=encoder), x)
    expected = simulated(snn, x[:2], [12], Reference())
    found = simulated(snn, x[:2], [12])
    assert_same(found, expected)
    first = next(iter(found.kernels.values()))
    assert first.startswith("event" if frames == "binary" else "dense: input does not carry spikes")
    stream = snn.start(2, engine="event", count=True)
    assert torch.equal(torch.stack([stream.step(x[:2, t]) for t in range(12)]), expected.logits)
    assert_same(stream.finish(), expected)


@settings(max_examples=15)
@given(wide, st.integers(1, 2), st.lists(st.booleans(), min_size=6, max_size=6))
def test_streams_take_new_inputs_at_any_step(case, samples, changes):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS))
    answers = []
    for engine in ("event", "reference"):
        stream = snn.start(case.x[:samples], engine=engine, count=True)
        steps = [
            stream.step(case.x[k : k + samples] if new else None) for k, new in enumerate(changes[: len(case.x) - 1])
        ]
        answers.append((torch.stack(steps), stream.finish()))
    assert torch.equal(answers[0][0], answers[1][0])
    assert_same(answers[0][1], answers[1][1])


def test_large_batches_use_buffers_again(monkeypatch):
    snn, x = wide_snn(8)
    expected = simulated(snn, x, [STEPS])
    monkeypatch.setattr(event_run, "LARGEST", 0)
    assert_same(simulated(snn, x, [STEPS], fixed=False), expected)


@settings(max_examples=10)
@given(wide, st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 40)), min_size=2, max_size=5))
def test_what_is_kept_for_the_next_run_changes_nothing(case, runs):
    """Runs of several batch sizes and lengths, counted or not, one after another, and one that is open meanwhile."""
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS))
    generator = torch.Generator().manual_seed(0)
    inputs = [case.x[torch.randperm(len(case.x), generator=generator)[:samples]] for samples, _, _ in runs]
    stream = snn.start(inputs[0], engine="event")
    heard = [stream.step()]
    for x, (_, count, steps) in zip(inputs, runs, strict=True):
        found = ts.simulate(snn, x, steps, engine="event", count=count)
        expected = ts.simulate(snn, x, steps, engine="reference", count=count)
        assert_same(found, expected)
        heard.append(stream.step())
    last = ts.simulate(snn, inputs[0], len(heard), engine="reference").logits
    torch.testing.assert_close(torch.stack(heard), last)


def test_a_small_network_is_kept_for_the_next_run_and_a_large_one_is_not(monkeypatch):
    snn, x = wide_snn(8)
    ts.simulate(snn, x, engine="event")
    (kept,) = snn.program.prepared["event"].idle.values()
    ts.simulate(snn, x, engine="event")
    assert [*snn.program.prepared["event"].idle.values()] == [kept]
    monkeypatch.setattr(event_network, "IDLE", kept.bytes - 1)
    ts.simulate(snn, x[:1], engine="event")
    ts.simulate(snn, x, engine="event")
    assert kept not in snn.program.prepared["event"].idle.values()
