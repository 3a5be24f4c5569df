"""One quantised pass is the network in time: first spikes by closed form, step by step, and event by event."""

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import Case, cases, cells, small_cnn
from transpike.activations import Clip, ReLU
from transpike.codes.time_code import TimeCode
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.engines.native import library as _native
from transpike.errors import DataError, SettingError, UnsupportedModel
from transpike.neurons import FirstSpike, Latched, Retimed
from transpike.recipes import S4NN, T2FSNN, YOSO, ExactMapping, LinearTTFS
from transpike.schedules import TimeSlots

SLOTS = 12


@st.composite
def timed(draw: st.DrawFn) -> YOSO:
    """Every choice that changes what runs in whole windows."""
    shared = {
        "timesteps": SLOTS,
        "granularity": draw(st.sampled_from(["layer", "channel", "neuron"])),
        "weight_bits": draw(st.sampled_from([None, 5])),
        "average_pooling": draw(st.sampled_from(["linear", "spiking"])),
        "input": draw(st.sampled_from(["analogue", "spikes"])),
        "readout": draw(st.sampled_from([ts.readouts.AccumulatedMembrane(), ts.readouts.EarliestSpike()])),
        "rounding": draw(st.sampled_from(["down", "nearest"])),
    }
    kind = draw(st.sampled_from(["base 2", "linear", "base e"]))
    if kind == "linear":
        return LinearTTFS(**shared, percentile=draw(st.sampled_from([99.0, 100.0])))
    if kind == "base e":
        return T2FSNN(**shared, tau=3.0, wait_steps=SLOTS, epochs=draw(st.sampled_from([0, 1])))
    return YOSO(**shared, tau=draw(st.sampled_from([2.0, 3.5])), kernel_bits=draw(st.sampled_from([None, 14])))


def converted(case: Case, recipe: ts.core.recipe.Recipe, **options: object) -> tuple[ts.SNN, torch.Tensor]:
    """A network whose layers fire, and inputs from 0 on."""
    x = case.x.abs()
    try:
        snn = ts.convert(case.graph, recipe, case.calibration.abs(), **options)
    except DataError:  # a layer is dead on these data
        assume(False)
        raise
    assume(snn.exactness is None or snn.exactness.timesteps)
    activity = ts.simulate(snn, x).activity
    names = {n.name for n in snn.program.lowered.nodes if isinstance(n.op, Neuron) and not n.op.is_delay}
    rows = [row for row in activity.layers if row.name in names]
    share = sum(float(row.spikes.sum()) for row in rows) / (len(x) * sum(row.neurons for row in rows))
    assume(0.05 <= share <= 0.95)  # of neurons that fire
    return snn, x


def traces(snn: ts.SNN, x: torch.Tensor, *names: str) -> list[ts.Trace]:
    return [ts.simulate(snn, x, engine=name, record=cells(snn)) for name in names]


def assert_same(a: ts.Trace, b: ts.Trace) -> None:
    """The level of every neuron, which tells its slot, every count and every logit."""
    assert a.trains.keys() == b.trains.keys() and a.trains
    for name in a.trains:
        assert torch.equal(a.trains[name].double().sum(0), b.trains[name].double().sum(0)), f"{name} differs"
    for one, other in zip(a.activity.layers, b.activity.layers, strict=True):
        assert float(one.spikes.sum()) == float(other.spikes.sum())
        assert float(one.synaptic_operations.sum()) == float(other.synaptic_operations.sum())
    assert torch.equal(a.logits, b.logits)


@settings(max_examples=80)
@given(cases(), timed())
def test_the_closed_form_is_the_network_in_time_spike_for_spike(case, recipe):
    snn, x = converted(case, recipe)
    closed, stepped = traces(snn, x, "dense", "reference")
    assert closed.exact and stepped.exact, closed.why
    assert_same(closed, stepped)


@settings(max_examples=25)
@given(cases(), timed())
def test_without_the_native_library_it_is_the_same(case, recipe):
    snn, x = converted(case, recipe)
    native = traces(snn, x, "dense")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "load", lambda: (None, "switched off for a test"))
        snn.program.prepared.clear()
        torch_only = traces(snn, x, "dense")[0]
    assert_same(native, torch_only)


@settings(max_examples=40)
@given(cases(), timed())
def test_a_neuron_fires_once_at_most_and_in_its_window(case, recipe):
    snn, x = converted(case, recipe)
    trace = traces(snn, x, "reference")[0]
    depths = ts.core.schedule.depths(snn.program.lowered.nodes)
    for node in snn.program.lowered.nodes:
        if not isinstance(node.op, FirstSpike):
            continue
        fired = trace.trains[node.name] > 0
        assert int(fired.sum(0).max()) <= 1
        ticks = fired.flatten(1).any(1).nonzero().flatten() + 1
        start = (depths[node.name] + 1) * SLOTS
        assert all(start < tick <= start + SLOTS for tick in ticks.tolist())


@settings(max_examples=30)
@given(cases(), timed())
def test_off_the_grid_engines_differ_at_counted_ties_only(case, recipe):
    snn, x = converted(case, recipe, exact_grid=False)
    closed, stepped = traces(snn, x, "dense", "reference")
    assert not closed.exact
    first = next((n.name for n in snn.program.lowered.nodes if isinstance(n.op, FirstSpike)), None)
    moved = int((closed.trains[first].sum(0) != stepped.trains[first].sum(0)).sum())
    assert moved <= closed.ties  # later layers hear what the first ones moved


@pytest.mark.parametrize("recipe", [YOSO(timesteps=SLOTS), LinearTTFS(timesteps=SLOTS)], ids=str)
def test_batches_and_memory_change_nothing(recipe):
    case = small_cnn()
    snn = ts.convert(case.graph, recipe, case.calibration.abs())
    x = case.x.abs()
    whole = ts.simulate(snn, x, record=cells(snn))
    assert_same(whole, ts.simulate(snn, x, record=cells(snn), memory=1, engine="dense"))


def test_a_run_of_fewer_slots_loses_what_would_come_later_in_every_engine():
    case = small_cnn()
    snn = ts.convert(case.graph, YOSO(timesteps=SLOTS), case.calibration.abs())
    x = case.x.abs()
    short = [ts.simulate(snn, x, 5, engine=e, record=cells(snn)) for e in ("dense", "reference")]
    assert_same(*short)
    whole = ts.simulate(snn, x, record=cells(snn))
    first = next(n.name for n in snn.program.lowered.nodes if isinstance(n.op, FirstSpike))
    code = snn.graph[first].op.code
    kept = whole.trains[first].sum(0)
    assert torch.equal(short[0].trains[first].sum(0), torch.where(kept >= float(code.levels[4]), kept, 0.0))
    with pytest.raises(ts.errors.SettingError, match="converted for windows of 12 slots, not 13"):
        ts.simulate(snn, x, 13)


def test_early_firing_is_sooner_and_something_else():
    case = small_cnn()
    x = case.calibration.abs()
    whole = ts.convert(case.graph, T2FSNN(timesteps=24, tau=6.0, wait_steps=24), x)
    early = ts.convert(case.graph, T2FSNN(timesteps=24, tau=6.0, wait_steps=6), x)
    layers = ts.core.schedule.depth(whole.graph, whole.graph.output.name)
    assert whole.total_steps() == (layers + 1) * 24 and early.total_steps() == layers * 6 + 24
    a, b = traces(early, x, "dense", "reference")
    assert_same(a, b)  # both step by step: there is no closed form
    assert not torch.equal(a.logits, ts.simulate(whole, x).logits)


def test_a_neuron_that_has_fired_stays_silent_whatever_it_hears():
    code = TimeCode(4, 1.0)
    cell = FirstSpike(None, torch.tensor(1.0), torch.tensor(0.0), code=code)
    state, sent = cell.init(torch.zeros(1)), []
    for t, x in enumerate([0.3, 0.9, 5.0, 5.0], 1):  # early firing: inputs go on
        state, out = cell.step(state, torch.tensor([x]), t=t)
        sent.append(float(out))
    assert sent == [0.0, float(code.levels[1]), 0.0, 0.0]


def test_maximum_pooling_passes_the_earliest_spike():
    code = TimeCode(6, 2.0)
    pool = ts.neurons.LateralInhibition(ts.ops.MaxPool(kernel=(2, 2), stride=(2, 2)))
    train = torch.zeros(6, 1, 1, 2, 2)
    train[4, 0, 0, 0, 0], train[2, 0, 0, 1, 1] = code.levels[4].float(), code.levels[2].float()
    out = pool.window(train)
    assert out.flatten().tolist() == [0, 0, float(code.levels[2]), 0, 0, 0]


@settings(max_examples=25)
@given(cases())
def test_shortcuts_wait_for_the_layers_beside_them(case):
    snn, x = converted(case, YOSO(timesteps=SLOTS))
    after = ts.core.schedule.arrivals(snn.program.lowered.nodes)
    assert all(len({after[i] for i in n.inputs}) <= 1 for n in snn.program.lowered.nodes)
    loose = ts.convert(case.graph, YOSO(timesteps=SLOTS, retime=False), case.calibration.abs())
    propagated = any(isinstance(node.op, Retimed) for node in snn.graph)
    assert propagated == (len(snn.graph.nodes) > len(loose.graph.nodes))
    # the sum of the inputs is the same, whenever they arrive; each network has a grid of its own, so both run off it
    free = [dataclasses.replace(one, exact_grid=False) for one in (snn, loose)]
    one, other = (ts.simulate(network, x, engine="reference").logits for network in free)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)  # logits are kept in float32


def test_the_latency_is_that_of_the_t2fsnn_code():
    nodes = [Node("input", Input((1,)))]
    for n in range(15):  # VGG-16's neuron layers
        weight = ts.ops.Linear(weight=torch.ones(1, 1))
        cell = FirstSpike(None, torch.tensor(1.0), torch.tensor(0.0), code=TimeCode(80, 20.0))
        nodes += [Node(f"w{n}", weight, (nodes[-1].name,)), Node(f"n{n}", cell, (f"w{n}",))]
    graph = Graph((*nodes, Node("out", ts.ops.Linear(weight=torch.ones(1, 1)), (nodes[-1].name,))))
    assert TimeSlots().total_steps(graph, 80) == 1280
    assert TimeSlots(40).total_steps(graph, 80) == 680


@settings(max_examples=30)
@given(cases(), st.sampled_from([0.5, 1.0, 2.0]))
def test_first_crossings_are_the_same_event_by_event(case, threshold):
    snn = ts.convert(case.graph, S4NN(timesteps=16, threshold=threshold), case.calibration.abs())
    x = case.x.abs().clamp(max=1)
    assume(snn.exactness.timesteps)
    try:
        stepped, events = traces(snn, x, "reference", "sorted")
    except SettingError as error:
        assert "pools sums of spikes" in str(error)
        return
    fired = sum(float(row.spikes.sum()) for row in stepped.activity.layers if row.role == "neuron")
    assume(fired > 0)
    assert_same(stepped, events)


@settings(max_examples=30)
@given(cases(), st.sampled_from(["analogue", "spikes"]))
def test_exact_times_are_the_relu_network(case, entrance):
    graph = case.graph.rewrite(  # the mapping takes ReLUs without a ceiling
        lambda node: dataclasses.replace(node, op=ReLU()) if isinstance(node.op, Clip) else None
    )
    try:
        snn = ts.convert(graph, ExactMapping(input=entrance), case.calibration.abs())
    except (DataError, UnsupportedModel) as error:
        assert "never fires" in str(error) or "maximum of sums" in str(error)
        return
    x = case.x.abs().clamp(max=float(case.calibration.abs().max()))
    source = ts.passes.FoldBatchNorm().apply(snn.source, None).to(dtype=torch.float64)
    wanted = source.run(x.double())
    stepped, events = traces(snn, x, "reference", "sorted")
    scale = float(wanted.abs().max())
    assert float((stepped.logits[-1] - wanted).abs().max()) <= 1e-9 * scale
    if stepped.early == 0:
        assert events.early == 0 and float((events.logits[-1] - wanted).abs().max()) <= 1e-9 * scale


@pytest.mark.parametrize("rule", ["first", "corrective", "dynamic"])
def test_a_lone_latched_neuron_fires_after_threshold_over_input_steps(rule):
    cell = Latched(None, torch.tensor(1.0), torch.tensor(0.0), rule)
    state, sent = cell.init(torch.zeros(1)), []
    for t in range(1, 12):
        state, out = cell.step(state, torch.tensor([0.3 if t == 1 else 0.0]), t=t)
        sent.append(float(out))
    assert sent.index(1.0) == 3 and sum(sent) == 1  # ⌈1/0.3⌉ = 4 steps
