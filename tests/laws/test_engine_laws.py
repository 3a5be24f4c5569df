"""All engines, batches, chunks and schedules tell the same story, spike for spike."""

import dataclasses
import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import networks
import transpike as ts
from networks import (
    ENCODERS,
    STEPS,
    assert_fires,
    assert_same_spikes,
    cases,
    cells,
    converted,
    mlp,
    recipes,
    run,
    single_neuron,
    small_cnn,
)
from transpike import engines
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.engines import Dense, Event, Reference
from transpike.engines.run import Run
from transpike.errors import SettingError
from transpike.neurons import LateralInhibition

SYNCHRONOUS = ts.schedules.LayerSynchronous()
ENGINES = {name: engines.table[name]() for name in networks.ENGINES}


@settings(max_examples=50)
@given(cases(), recipes())
def test_fused_and_reference_fire_the_same_spikes_when_streaming(case, recipe):
    snn = converted(case, recipe)
    assert_same_spikes(run(snn, case.x, "reference"), run(snn, case.x, "dense"))


@settings(max_examples=30)
@given(cases(), st.sampled_from(ENCODERS), st.sampled_from(["layer", "channel", "neuron"]))
def test_fused_and_reference_agree_when_layers_are_synchronous(case, encoder, granularity):
    recipe = ts.recipes.ECC(timesteps=STEPS, schedule=SYNCHRONOUS, encoder=encoder, granularity=granularity)
    snn = converted(case, recipe)
    assert_same_spikes(run(snn, case.x, "reference"), run(snn, case.x, "dense"))


@pytest.mark.parametrize("schedule", [ts.schedules.Streaming(), SYNCHRONOUS, ts.schedules.LayerSynchronous(3)])
def test_the_current_of_an_analogue_input_is_rounded_once(schedule):
    """Float32 sums of it differ by more than a grid step, which one of so many potentials shows."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(400, 512), torch.nn.ReLU(), torch.nn.Linear(512, 3)).eval()
    x = torch.rand(512, 400)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=16, schedule=schedule), x)
    reference = run(snn, x, "reference", 16)
    assert 0.05 < float(reference.trains["1"].double().sum(0).mean()) / 16 < 0.6
    dense = run(snn, x, "dense", 16)
    assert torch.equal(dense.trains["1"].double().sum(0), reference.trains["1"].double().sum(0))
    assert torch.equal(dense.logits, reference.logits)


@pytest.mark.parametrize("schedule", [ts.schedules.Streaming(), SYNCHRONOUS, ts.schedules.LayerSynchronous(3)])
def test_an_answer_without_neurons_is_rounded_once(schedule):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(30, 5).eval(), 8 * torch.rand(64, 30)
    source = ts.capture(model, x)
    recipe = ts.recipes.ECC(timesteps=16, schedule=schedule)
    snn = ts.SNN(source, source, recipe, recipe.encoder.calibrated(8.0))
    for name in networks.ENGINES:
        assert torch.equal(ts.simulate(snn, x, engine=name).logits, ts.simulate(snn, x, engine="reference").logits)


def test_inputs_that_need_a_gradient_are_taken_without_it():
    case = small_cnn()
    for recipe in (ts.recipes.ECC(timesteps=STEPS), ts.recipes.S4NN()):
        snn = ts.convert(case.graph, recipe, case.calibration.abs())
        x = case.x.abs()
        assert torch.equal(snn(x.clone().requires_grad_()), snn(x))


@given(cases(), st.sampled_from(ENCODERS), st.sampled_from([ts.schedules.Streaming(), SYNCHRONOUS]))
def test_a_small_memory_budget_changes_nothing(case, encoder, schedule):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS, encoder=encoder, schedule=schedule))
    assert Dense(memory=1).batch_limit(snn.program) == 1
    assert_same_spikes(run(snn, case.x), run(snn, case.x, memory=1))


@given(cases(), st.sampled_from(ENCODERS))
def test_the_counts_of_a_split_batch_are_those_of_the_whole(case, encoder):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS, encoder=encoder))
    whole, split = run(snn, case.x).activity, run(snn, case.x, memory=1).activity
    assert whole.samples == split.samples
    for a, b in zip(whole.layers, split.layers, strict=True):
        assert torch.equal(a.spikes, b.spikes) and torch.equal(a.synaptic_operations, b.synaptic_operations)
        assert a.updates == b.updates


@given(cases(), st.sampled_from(ENCODERS), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_time_may_be_cut_anywhere(case, encoder, chunks):
    snn = converted(case, ts.recipes.ECC(timesteps=20, encoder=encoder))
    whole = run(snn, case.x, timesteps=sum(chunks))
    for engine in ENGINES.values():
        started = _start(engine, snn, case.x)
        logits = torch.cat([started.advance(steps) for steps in chunks])
        trace = started.finish()
        assert torch.equal(logits, whole.logits)
        assert_same_spikes(trace, whole)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_no_steps_follow_the_last_ones(name):
    """An engine then keeps no states: those of the event engine are not even stored."""
    case = small_cnn()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=40), case.calibration)
    whole, started = run(snn, case.x, timesteps=40), _start(ENGINES[name], snn, case.x)
    logits = torch.cat([started.advance(3), started.advance(37, last=True)])
    assert torch.equal(logits, whole.logits)
    assert_same_spikes(started.finish(), whole)
    with pytest.raises(SettingError, match="after its last steps"):
        started.advance(1)


@given(cases(), st.integers(1, STEPS - 1))
def test_a_shorter_run_is_the_beginning_of_a_longer_one(case, short):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS))
    long, brief = run(snn, case.x), run(snn, case.x, timesteps=short)
    assert torch.equal(long.logits[:short], brief.logits)
    for name, train in brief.trains.items():
        assert torch.equal(long.trains[name][:short], train)


@given(cases(), st.sampled_from(ENCODERS), st.permutations(range(5)))
def test_permuting_the_batch_permutes_the_answer(case, encoder, order):
    snn, order = converted(case, ts.recipes.ECC(timesteps=STEPS, encoder=encoder)), torch.tensor(order)
    plain, permuted = run(snn, case.x), run(snn, case.x[order], sample_ids=order)
    assert torch.equal(plain.logits[:, order], permuted.logits)
    for name, train in plain.trains.items():
        assert torch.equal(train[:, order], permuted.trains[name])


@pytest.fixture
def two_threads() -> Iterator[Callable[[], None]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda: torch.set_num_threads(2)
    torch.set_num_threads(before)


def test_two_threads_fire_the_same_spikes_as_one(two_threads):
    case = small_cnn()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=4), case.calibration)
    one = run(snn, case.x, timesteps=4)
    assert_fires(snn, one, 4)
    two_threads()
    assert torch.get_num_threads() == 2
    assert_same_spikes(one, run(snn, case.x, timesteps=4))


@given(cases(), st.sampled_from(ENCODERS), st.sampled_from(["channel", "neuron"]), st.sampled_from([1, 5]))
def test_a_second_call_remembers_nothing_of_the_first(case, encoder, granularity, samples):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS, encoder=encoder, granularity=granularity))
    x = case.x[:samples]
    for engine in ENGINES:
        first = run(snn, x, engine)
        run(snn, x.flip(0) / 2, engine)
        assert_same_spikes(first, run(snn, x, engine))


@pytest.mark.parametrize("samples", [1, 2])
def test_a_run_leaves_the_initial_potentials_of_the_network_alone(samples):
    case = mlp()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=4, granularity="neuron"), case.calibration)
    x = case.x[:1].expand(samples, -1)
    first, second = (ts.simulate(snn, x, 4, record=cells(snn)) for _ in range(2))
    assert_fires(snn, first, 4)
    assert_same_spikes(first, second)


@given(cases(), st.sampled_from(ENCODERS), st.lists(st.booleans(), min_size=5, max_size=5).filter(any))
def test_going_on_with_some_samples_is_running_only_those(case, encoder, mask):
    snn, mask = converted(case, ts.recipes.ECC(timesteps=STEPS, encoder=encoder)), torch.tensor(mask)
    for engine in ENGINES.values():
        started = _start(engine, snn, case.x)
        started.advance(4)
        order = started.keep(mask)
        assert sorted(order.tolist()) == mask.nonzero()[:, 0].tolist()
        kept = started.advance(STEPS - 4)
        alone = _start(engine, snn, case.x[order], order)
        assert torch.equal(kept, alone.advance(STEPS)[4:])


@given(cases(), st.sampled_from(["lateral-inhibition", "gated"]))
def test_off_the_grid_engines_differ_only_where_ties_are_reported(case, pooling):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS, pooling=pooling), exact_grid=False)
    names = cells(snn)
    reference = ts.simulate(snn, case.x, STEPS, engine="reference", record=names)
    for engine in ENGINES:
        trace = ts.simulate(snn, case.x, STEPS, engine=engine, record=names)
        assert not trace.exact
        same = all(torch.equal(trace.trains[name].double(), reference.trains[name].double()) for name in names)
        assert same or trace.ties


# integers of steps reach the threshold exactly, which float32 and float64 see from either side
TIES = pytest.mark.parametrize(("weight", "threshold"), [(0.1, 1.1), (0.35, 1.0), (0.65, 0.7)])


@TIES
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_a_spike_that_float32_moves_is_reported_as_a_tie(weight, threshold, engine):
    snn = single_neuron(weight, threshold, exact_grid=False)
    dense = ts.simulate(snn, torch.ones(1, 1), 100, engine=engine, record=["neuron"])
    reference = ts.simulate(snn, torch.ones(1, 1), 100, engine="reference", record=["neuron"])
    assert not torch.equal(dense.trains["neuron"].double(), reference.trains["neuron"])
    assert dense.ties > 0 and not dense.exact


@TIES
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_on_the_grid_float32_moves_no_spike(weight, threshold, engine):
    snn = single_neuron(weight, threshold, timesteps=100)
    dense = ts.simulate(snn, torch.ones(1, 1), 100, engine=engine, record=["neuron"])
    assert dense.exact, dense.why
    assert_same_spikes(dense, ts.simulate(snn, torch.ones(1, 1), 100, engine="reference", record=["neuron"]))


@pytest.mark.parametrize(
    ("kind", "most", "charge"),
    [
        (ts.neurons.Burst, 255, 25.3),  # 253 levels: float32 rounds more than of one
        (ts.neurons.MultiThreshold, 8, 25.3),
        (partial(ts.neurons.MultiThreshold, rule="one"), 8, 0.3),  # ¾ of four thresholds
    ],
)
def test_ties_of_every_rule_are_reported_off_the_grid(kind, most, charge):
    cell = kind(ts.activations.ReLU(), torch.tensor(0.1), torch.tensor(0.0), most)
    base = single_neuron(charge, exact_grid=False, timesteps=1)
    graph = base.graph.replaced(dataclasses.replace(base.graph["neuron"], op=cell))
    snn = ts.SNN(graph, base.source, base.recipe, base.encoder, None, False)
    assert ts.simulate(snn, torch.ones(1, 1), 1, engine="dense").ties == 1
    assert ts.simulate(snn, 1.02 * torch.ones(1, 1), 1, engine="dense").ties == 0


def test_ties_of_a_synchronous_layer_off_the_grid_are_reported():
    # 10 · 0.3 is three thresholds: float32 and float64 may round to either side of it
    base = single_neuron(0.3, exact_grid=False, timesteps=10)
    recipe = ts.recipes.ECC(timesteps=10, schedule=SYNCHRONOUS)
    snn = ts.SNN(base.graph, base.source, recipe, base.encoder, None, False)
    assert ts.simulate(snn, torch.ones(1, 1), 10).ties > 0


def staircase(graph: Graph, x: Tensor, timesteps: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The source network with ``θ/T · clip(⌊(T z + v(0)) / θ⌋, 0, T)`` as its activation, and those counts."""
    values, counts = {}, {}
    for node in graph.to(dtype=torch.float64):
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.op, Input):
            values[node.name] = x.double()
        elif isinstance(node.op, Neuron):
            theta, initial = node.op.threshold, node.op.initial
            counts[node.name] = torch.floor((timesteps * inputs[0] + initial) / theta).clamp(0, timesteps)
            values[node.name] = counts[node.name] * theta / timesteps
        elif isinstance(node.op, LateralInhibition):
            values[node.name] = node.op.pool.run(inputs[0])
        else:
            values[node.name] = node.op.run(*inputs)
    return values[graph.output.name], counts


@settings(max_examples=50)
@given(cases(), st.sampled_from([1, 4, STEPS]), st.sampled_from([0.5, 0.25]))
def test_a_layer_synchronous_network_is_its_staircase_network(case, timesteps, beta):
    snn = converted(case, ts.recipes.ECC(timesteps=STEPS, schedule=SYNCHRONOUS, beta=beta), exact_grid=False)
    trace = ts.simulate(snn, case.x, timesteps, engine="reference", record=cells(snn))
    logits, counts = staircase(snn.graph, case.x, timesteps)
    # both in float64: sums in another order differ by 1e-15, far from any edge of a staircase on random weights
    for name, expected in counts.items():
        assert torch.equal(trace.trains[name][0], expected)
    # the trace gives float32: half a unit in its last place, 6e-8
    assert torch.allclose(trace.logits[-1].double(), logits, rtol=6.1e-8, atol=1e-9)


def test_a_synchronous_network_on_dyadic_weights_is_its_staircase_on_every_engine():
    snn = dyadic(SYNCHRONOUS)
    x = torch.randint(-16, 17, (6, 2, 6, 6), generator=torch.Generator().manual_seed(1)) / 16
    logits, counts = staircase(snn.graph, x, 8)
    for engine in ENGINES:
        trace = ts.simulate(snn, x, 8, engine=engine, record=cells(snn))
        assert trace.exact, trace.why
        assert_fires(snn, trace, 8)
        for name, expected in counts.items():
            assert torch.equal(trace.trains[name][0].double(), expected)
        assert torch.equal(trace.logits[-1].double(), logits)


def dyadic(schedule: ts.schedules.Schedule) -> ts.SNN:
    """A network whose weights, thresholds and potentials are small powers of two: the grid changes nothing in it."""
    generator = torch.Generator().manual_seed(0)

    def weights(*shape: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator) / 16

    theta = torch.tensor([1.0, 0.5, 2.0, 1.0]).reshape(4, 1, 1)
    first = ts.neurons.IntegrateAndFire(None, theta, theta / 2)
    second = ts.neurons.IntegrateAndFire(None, torch.tensor(2.0), torch.tensor(0.5))
    conv = {"padding": (1, 1)}
    graph = Graph((
        Node("input", Input((2, 6, 6))),
        Node("conv", ts.ops.Conv(weight=weights(4, 2, 3, 3), bias=weights(4), **conv), ("input",)),
        Node("first", first, ("conv",)),
        Node("pool", ts.ops.AvgPool(), ("first",)),
        Node("deep", ts.ops.Conv(weight=weights(4, 4, 3, 3), bias=weights(4), **conv), ("pool",)),
        Node("sum", ts.ops.Add(), ("deep", "pool")),
        Node("second", second, ("sum",)),
        Node("flat", ts.ops.Reshape(shape=(36,)), ("second",)),
        Node("answer", ts.ops.Linear(weight=weights(3, 36), bias=weights(3)), ("flat",)),
    ))  # fmt: skip
    recipe = ts.recipes.ECC(timesteps=8, schedule=schedule)
    return ts.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0))


def _start(engine: Event | Dense | Reference, snn: ts.SNN, x: Tensor, ids: Tensor | None = None) -> Run:
    return engine.start(snn.program, x, torch.arange(len(x)) if ids is None else ids, cells(snn))


@pytest.mark.parametrize("engine", [Dense(), Reference()], ids=["dense", "reference"])
def test_the_memory_of_a_run_is_free_when_it_has_ended(engine):
    """Not when the garbage collector comes by: the parts of a batch would add up beyond the memory limit."""
    case = networks.mlp()
    snn = ts.convert(case.graph, ts.recipes.DCGS(timesteps=4), case.calibration)
    gc.disable()
    try:
        run = engine.start(snn.program, snn.prepare(case.x), torch.arange(len(case.x)), (), False)
        run.advance(4)
        run.finish()
        ended = weakref.ref(run)
        del run
        assert ended() is None
    finally:
        gc.enable()
