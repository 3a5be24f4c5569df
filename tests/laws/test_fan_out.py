"""Fan-outs are what one sees when one spike is sent through the network by hand."""

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st

import transpike as ts
from networks import cases, small_cnn
from transpike.core.alphabet import BINARY
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op, Synapse
from transpike.lowering.activity import fan_outs
from transpike.lowering.lowered import lower
from transpike.neurons import IntegrateAndFire, LateralInhibition
from transpike.ops import Add, AvgPool, Conv, Linear, MaxPool, Pad, Reshape


def neuron() -> IntegrateAndFire:
    return IntegrateAndFire(None, torch.tensor(1.0), torch.tensor(0.0))


def fans(*nodes: Node) -> torch.Tensor:
    """The fan-out of each element of the first node, whose spikes the others carry on."""
    return fan_outs(lower(Graph(nodes), 1.0, BINARY))[nodes[0].name][0]


def paths(ops: list[Op], shape: tuple[int, ...]) -> torch.Tensor:
    """Sends one spike after another; after wiring every element that it reaches goes on by itself."""
    counts = torch.zeros(shape, dtype=torch.float64)
    for index in range(counts.numel()):
        spike = torch.zeros(1, counts.numel(), dtype=torch.float64)
        spike[0, index] = 1
        counts.view(-1)[index] = _follow(ops, spike.reshape(1, *shape))
    return counts


def _follow(ops: list[Op], spike: torch.Tensor) -> int:
    reached = ops[0].to(dtype=torch.float64).linear(spike)
    if isinstance(ops[0], Synapse):
        return int((reached != 0).sum())
    places = reached.flatten().nonzero().flatten().tolist()
    return sum(
        _follow(ops[1:], torch.eye(reached.numel(), dtype=torch.float64)[p].reshape(reached.shape)) for p in places
    )


@st.composite
def convolutions(draw: Callable, channels: int = 2) -> Conv:
    """Positive random weights, some of them zero."""
    n, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2]))
    kernel, out = draw(st.integers(1, 3)), 2 * draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (out, channels // groups, *(kernel,) * n)
    weight = torch.rand(shape, generator=generator) + 0.1
    weight = weight * (torch.rand(shape, generator=generator) < draw(st.sampled_from([1.0, 0.6])))
    settings = [draw(st.integers(1, 3)), draw(st.integers(0, 2)), draw(st.integers(1, 2))]
    stride, padding, dilation = ((value,) * n for value in settings)
    return Conv(weight=weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


@given(convolutions())
def test_convolutions_with_borders_strides_groups_and_holes(op):
    shape = (2, *(7,) * op.dimensions)
    found = fans(Node("input", Input(shape)), Node("conv", op, ("input",)))
    assert torch.equal(found, paths([op], shape))


@given(convolutions(), st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 1, 1)]))
def test_average_pools_count_each_event_before_pooling(op, settings):
    kernel, stride, padding = ((value,) * op.dimensions for value in settings)
    pool, shape = AvgPool(kernel, stride, padding), (2, *(9,) * op.dimensions)
    found = fans(Node("input", Input(shape)), Node("pool", pool, ("input",)), Node("conv", op, ("pool",)))
    assert torch.equal(found, paths([pool, op], shape))


@given(convolutions())
def test_padding_and_reshaping_pass_paths_on(op):
    n = op.dimensions
    ops = [Pad(amounts=(1, 0) * n), op]
    shape = (2, *(6,) * n)
    found = fans(Node("input", Input(shape)), Node("pad", ops[0], ("input",)), Node("conv", op, ("pad",)))
    assert torch.equal(found, paths(ops, shape))


def test_a_linear_layer_counts_its_non_zero_weights_by_column():
    weight = torch.tensor([[1.0, 0.0, -2.0], [0.5, 0.0, 0.0]])
    found = fans(Node("input", Input((3,))), Node("fc", Linear(weight=weight), ("input",)))
    assert found.tolist() == [2, 0, 1]


def test_an_identity_shortcut_counts_one():
    op = Conv(weight=torch.ones(2, 2, 3, 3), padding=(1, 1))
    shape = (2, 5, 5)
    found = fans(
        Node("input", Input(shape)), Node("conv", op, ("input",)), Node("sum", Add(), ("conv", "input")),
        Node("neuron", neuron(), ("sum",)),
    )  # fmt: skip
    assert torch.equal(found, paths([op], shape) + 1)


def test_paths_end_at_the_next_neuron():
    ones = Linear(weight=torch.ones(4, 3)), Linear(weight=torch.ones(5, 4))
    graph = Graph((
        Node("input", Input((3,))), Node("first", ones[0], ("input",)), Node("neuron", neuron(), ("first",)),
        Node("second", ones[1], ("neuron",)),
    ))  # fmt: skip
    found = fan_outs(lower(graph, 1.0, BINARY))
    assert found["input"].flatten().tolist() == [4] * 3
    assert found["neuron"].flatten().tolist() == [5] * 4


def test_two_synapses_in_a_row_multiply():
    ones = Linear(weight=torch.ones(4, 3)), Linear(weight=torch.ones(5, 4))
    found = fans(Node("input", Input((3,))), Node("first", ones[0], ("input",)), Node("second", ones[1], ("first",)))
    assert found.tolist() == [4 * 5] * 3


def test_a_spike_that_only_a_pooling_cell_hears_costs_nothing():
    pool = LateralInhibition(MaxPool())
    found = fans(Node("input", Input((2, 4, 4))), Node("pool", pool, ("input",)))
    assert found.shape == (2, 4, 4) and not found.any()


def test_a_spike_that_is_moved_into_a_neuron_costs_one():
    op = Reshape(shape=(6,))
    found = fans(Node("input", Input((2, 3))), Node("flat", op, ("input",)), Node("neuron", neuron(), ("flat",)))
    assert bool((found == 1).all())


@given(cases())
def test_operations_are_spikes_times_fan_out(case):
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=4), case.calibration)
    found = fan_outs(snn.program.lowered)
    names = [n.name for n in snn.program.lowered.nodes if isinstance(n.op, Cell)]
    trace = ts.simulate(snn, case.x, 4, record=names)
    rows = {layer.name: layer for layer in trace.activity.layers}
    spiking = [name for name in names if name in rows and not snn.program.lowered.alphabets[name].signed]
    assert any(rows[name].spikes.sum() > 0 for name in spiking)
    for name in spiking:
        train = trace.trains[name].double()
        assert torch.equal(rows[name].spikes, train.flatten(1).sum(1))
        assert torch.equal(rows[name].synaptic_operations, (train * found[name]).flatten(1).sum(1))


def test_networks_first_run_or_made_in_inference_mode_count_as_others_do():
    case = small_cnn()
    with torch.inference_mode():
        snn = ts.convert(case.model, ts.recipes.SNNCalibration(8, calibrate="advanced"), case.calibration)
        inside = snn.run(case.x).activity
    wanted = ts.convert(case.model, ts.recipes.SNNCalibration(8, calibrate="advanced"), case.calibration)
    for activity in (inside, snn.run(case.x).activity):
        found = {row.name: row.synaptic_operations.tolist() for row in activity.layers}
        assert found == {row.name: row.synaptic_operations.tolist() for row in wanted.run(case.x).activity.layers}
        assert sum(map(sum, found.values())) > 0
