"""The event engine fires the reference's spikes and counts them alike, with every instruction set and thread count."""

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from networks import (
    STEPS,
    assert_fires,
    assert_same_counts,
    assert_same_spikes,
    cases,
    cells,
    converted,
    recipes,
    run,
    wide_network,
)
from transpike.activations import ReLU
from transpike.core.graph import Graph, Input, Node
from transpike.engines import Event
from transpike.engines import auto as auto_engine
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.run import EventPlan
from transpike.engines.native import library as _native

LIBRARY, WHY = _native.load()
# Without a C compiler the library is not built, and there is nothing to test.
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")
INSTRUCTIONS = ("baseline", "AVX2", "AVX-512")
wide = st.integers(0, 59).map(wide_network)


@pytest.fixture(params=INSTRUCTIONS)
def instructions(request) -> Iterator[str]:
    chosen = LIBRARY.tp_instructions()
    if not LIBRARY.tp_force(request.param.encode()):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    assert LIBRARY.tp_force(chosen)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_is_the_reference(snn: ts.SNN, x: Tensor, timesteps: int = STEPS) -> ts.Trace:
    event, reference = run(snn, x, "event", timesteps), run(snn, x, "reference", timesteps)
    assert_same_spikes(event, reference)
    assert_same_counts(event, reference)
    return event


@settings(max_examples=50)
@given(cases(), recipes())
def test_small_networks_fire_the_same_spikes(case, recipe):
    assert_is_the_reference(converted(case, recipe), case.x)


@settings(max_examples=60)
@given(wide, recipes())
def test_wide_networks_fire_the_same_spikes(case, recipe):
    assert_is_the_reference(converted(case, recipe), case.x)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_every_instruction_set_fires_the_same_spikes(instructions, seed):
    case = wide_network(seed)
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
    assert_is_the_reference(snn, case.x)


def test_the_networks_of_these_tests_use_every_kernel():
    found: set[str] = set()
    for seed in range(60):
        case = wide_network(seed)
        snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
        plan = EventPlan(snn.program)
        for layer in plan.choice.layers.values():
            found |= {layer.kernel}
            if isinstance(layer, EventLayer):
                found |= {"several blocks"} if len(layer.block_start) > 1 else set()
                found |= {"groups"} if any(source.groups > 1 for source in layer.sources) else set()
    kernels = {"event: gather, 16 bits", "event: look-up", "event: masked", "event: lateral inhibition"}
    kernels |= {"event: look-up, 16 bits"}
    assert found >= kernels | {"event: constant current", "several blocks", "groups"}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 3])
def test_threads_change_nothing(threads, count, samples):
    for seed in (3, 4, 8, 17):
        case = wide_network(seed)
        snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
        torch.set_num_threads(1)
        expected = run(snn, case.x[:samples], "reference")
        torch.set_num_threads(count)
        assert_same_spikes(run(snn, case.x[:samples], "event"), expected)


@pytest.mark.parametrize("timesteps", [1, 31, 32, 33, 64, 70])
def test_words_of_32_steps_may_end_anywhere(timesteps):
    for seed in (2, 8):
        case = wide_network(seed)
        snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=70), case.calibration)
        assert_is_the_reference(snn, case.x, timesteps)


@settings(max_examples=25)
@given(wide)
def test_off_the_grid_wide_networks_differ_only_where_ties_are_reported(case):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS), exact_grid=False)
    event, dense = (ts.simulate(snn, case.x, STEPS, engine=name, record=cells(snn)) for name in ("event", "dense"))
    assert not event.exact
    same = all(torch.equal(event.trains[name], dense.trains[name]) for name in event.trains)
    assert same or event.ties


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(48, 7), (64, 8), (80, 5)])
def test_lists_are_long_enough_for_neurons_that_all_fire_in_every_step(channels, size, pooled):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-8, 9, (32, channels, 3, 3), generator=generator) / 16
    first = ts.neurons.IntegrateAndFire(ReLU(), torch.tensor(1.0), torch.tensor(0.0))
    second = ts.neurons.IntegrateAndFire(ReLU(), torch.tensor(16.0), torch.tensor(8.0))
    graph = Graph((
        Node("input", Input((channels, size, size))),
        Node("first", first, ("input",)),
        *([Node("pool", ts.ops.AvgPool(), ("first",))] if pooled else []),
        Node("conv", ts.ops.Conv(weight=weight, padding=(1, 1)), ("pool" if pooled else "first",)),
        Node("second", second, ("conv",)),
        Node("answer", ts.ops.Mean(axes=(2, 3)), ("second",)),
    ))  # fmt: skip
    recipe = ts.recipes.ECC(timesteps=40)
    snn = ts.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0))
    event = assert_is_the_reference(snn, torch.ones(3, channels, size, size), 40)
    assert bool(event.trains["first"].all())
    assert 0.01 < float(event.trains["second"].mean()) < 0.9


@pytest.mark.parametrize(
    ("settings_", "kernel"),
    [
        ({"kernel_size": (16, 1)}, "event: look-up, 16 bits"),
        ({"kernel_size": (17, 1)}, "event: gather, 16 bits"),
        ({"kernel_size": 1, "stride": 4097}, "dense: its stride, padding, dilation or kernel is beyond 4096"),
    ],
)
def test_the_library_takes_every_layer_that_is_given_to_it(settings_, kernel):
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, **settings_), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)]
    x = torch.rand(12, 2, 20, 3)
    model = nn.Sequential(*body)
    model(x)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=8), x)
    assert kernel in assert_is_the_reference(snn, x[:2], 8).kernels.values()


def test_a_layer_without_a_kernel_runs_dense_and_says_why():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 2, 30, generator=generator)
    torch.manual_seed(0)
    body = [nn.Conv1d(2, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose1d(8, 16, 3, padding=1), nn.ReLU()]
    snn = ts.convert(nn.Sequential(*body, nn.Flatten(), nn.Linear(16 * 30, 3)), ts.recipes.ECC(timesteps=8), x)
    event = assert_is_the_reference(snn, x[:2], 8)
    assert_fires(snn, event, 8)
    assert any(kernel.startswith("dense: conv_transpose1d") for kernel in event.kernels.values()), event.kernels
    assert "event: constant current" in event.kernels.values()


def test_auto_takes_dense_layers_where_they_fire_too_often(monkeypatch):
    case = wide_network(8)
    recipe = ts.recipes.ECC(timesteps=STEPS)
    kernels = {}
    for limit in (0.0, 1.0):
        monkeypatch.setattr(auto_engine, "break_even", lambda several, limit=limit: limit)
        snn = ts.convert(case.graph, recipe, case.calibration)
        trace = run(snn, case.x, "auto")
        assert_same_spikes(trace, run(snn, case.x, "reference"))
        kernels[limit] = list(trace.kernels.values())
    assert any("gather" in kernel for kernel in kernels[1.0])
    assert not any("gather" in kernel for kernel in kernels[0.0])
    assert "dense: its inputs fire too often for events to be faster" in kernels[0.0]


def test_the_rates_that_auto_sees_are_those_of_the_inputs():
    case = wide_network(8)
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=32), case.calibration)
    plan = EventPlan(snn.program)
    rates = auto_engine._rates(snn.program, plan, case.x, torch.arange(len(case.x)), 2**30)
    trace = run(snn, case.x, "reference", 32)
    assert rates
    for name, rate in rates.items():
        layer = plan.choice.layers[name]
        for source in layer.sources:
            if source.wire in trace.trains and source.kind in (0, 3):
                assert rate == pytest.approx(float(trace.trains[source.wire].mean()), rel=1e-6)


@pytest.mark.parametrize("several", [False, True])
def test_the_break_even_rate_of_this_machine_is_a_rate(several):
    assert 0.02 <= auto_engine.break_even(several) < math.inf


@pytest.mark.parametrize(("dense", "expected"), [(3.0, 2.05), (1.1, 0.15), (0.5, 0.02)])
def test_dense_pays_where_events_take_as_long(monkeypatch, dense, expected):
    """Events take 1 s at 5 % and 1 s more for each event per input; also above one event, of several levels or sums."""
    costs = {("Event", 0.05): 1.0, ("Event", 0.2): 1.15, ("Dense", 0.05): dense}
    monkeypatch.setattr(auto_engine, "_cost", lambda rate, engine, several: costs[type(engine).__name__, rate])
    assert auto_engine.break_even.__wrapped__(False) == pytest.approx(expected)


def test_auto_says_why_it_runs_dense():
    case = wide_network(8)
    recipe = ts.recipes.ECC(timesteps=STEPS, schedule=ts.schedules.LayerSynchronous())
    trace = ts.simulate(ts.convert(case.graph, recipe, case.calibration), case.x, engine="auto")
    assert set(trace.kernels.values()) == {"dense: a window is one pass over all its steps"}


def test_a_potential_beyond_its_room_takes_the_word_exact_away():
    case = wide_network(8)
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
    rooms = snn.exactness.rooms
    plan = EventPlan(snn.program)
    name = next(name for name, layer in plan.choice.layers.items() if isinstance(layer, EventLayer))
    plan.choice.layers[name].room.zero_()
    snn.program.prepared["event"] = plan
    trace = ts.simulate(snn, case.x, STEPS, engine="event")
    assert rooms and not trace.exact and name in trace.why


@pytest.mark.parametrize("memory", [1, 2**20, 2**34])
def test_the_budget_splits_the_batch_and_changes_nothing(memory):
    case = wide_network(8)
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
    limits = [Event(memory=size).batch_limit(snn.program) for size in (1, 2**20, 2**34)]
    assert limits[0] == 1 < limits[2]
    assert_same_spikes(run(snn, case.x, "event", memory=memory), run(snn, case.x, "reference"))


def test_lowering_is_not_changed_by_a_plan():
    case = wide_network(4)
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
    before = [{k: v.clone() for k, v in node.op.tensors().items()} for node in snn.program.lowered.nodes]
    run(snn, case.x, "event")
    for node, tensors in zip(snn.program.lowered.nodes, before, strict=True):
        assert all(torch.equal(node.op.tensors()[name], value) for name, value in tensors.items())
