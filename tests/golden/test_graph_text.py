"""Texts and numbers that can be checked by eye: graphs before and after, neurons step by step, operations counted."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, single_neuron
from transpike.activations import ReLU
from transpike.core.graph import Graph, Input, Node
from transpike.neurons import IntegrateAndFire
from transpike.ops import Add, AvgPool, Conv, Linear, Reshape
from transpike.recipes import ECC

BEFORE = """\
layer  operator         inputs  shape  MACs   threshold
input  input                    1×4×4
conv   conv2d 3×3               2×4×4  288
norm   batch_norm               2×4×4
act    relu                     2×4×4
pool   max_pool 2×2 /2          2×2×2
flat   reshape                  8
fc     linear 8→1               1      8"""

AFTER = """\
ecc(timesteps=4, granularity='layer', percentile=100.0): Streaming, T=4, 4 steps to the answer
layer  operator                             inputs  shape  MACs   threshold  spike rate
input  input                                        1×4×4
conv   conv2d 3×3                                   2×4×4  288
act    IF soft reset                                2×4×4         θ 9        40.6%
pool   max_pool 2×2 /2, lateral inhibition          2×2×2                    62.5%
flat   reshape                                      8
fc     linear 8→1                                   1      8
preprocessing: unknown; calibrated on 8 samples from 0.125 to 1"""


class Net(nn.Module):
    """Convolution of ones, a normalisation that changes nothing, and a maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2, eps=0.0)
        self.act, self.pool, self.flat, self.fc = nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 1)
        nn.init.ones_(self.conv.weight)
        nn.init.ones_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flat(self.pool(self.act(self.norm(self.conv(x))))))


def inputs() -> Tensor:
    """Eight images, each of one shade from 1/8 to 1: the largest sum of nine is 9."""
    return (torch.arange(1, 9) / 8).reshape(8, 1, 1, 1).expand(8, 1, 4, 4).contiguous()


def lines(text: str) -> list[list[str]]:
    """Words of each line, so that a wider column is no difference."""
    return [line.split() for line in text.splitlines()]


def test_a_graph_prints_one_line_for_each_layer():
    assert lines(str(ts.capture(Net().eval(), inputs()))) == lines(BEFORE)


def test_a_converted_network_prints_its_neurons_and_rates():
    recipe = ECC.paper(timesteps=4)
    snn = ts.convert(Net().eval(), recipe, inputs())
    assert lines(str(snn)) == lines(AFTER)


def test_columns_of_a_printed_graph_are_aligned():
    text = str(ts.capture(Net().eval(), inputs())).splitlines()
    start = text[0].index("shape")
    assert all(row[start - 1] == " " and row[start] != " " for row in text)


WORKED = [
    # weight · x, θ, v(0), reset, spikes of five steps
    (0.4, 1.0, 0.0, "soft", [0, 0, 1, 0, 1]),
    (0.4, 1.0, 0.5, "soft", [0, 1, 0, 1, 0]),
    (0.75, 1.0, 0.0, "soft", [0, 1, 1, 1, 0]),
    (0.75, 1.0, 0.0, "hard", [0, 1, 0, 1, 0]),
    (0.5, 1.0, 0.0, "soft", [0, 1, 0, 1, 0]),
    (1.5, 1.0, 0.0, "soft", [1, 1, 1, 1, 1]),
    (3.0, 2.0, 0.0, "soft", [1, 1, 1, 1, 1]),
    (-0.5, 1.0, 0.5, "soft", [0, 0, 0, 0, 0]),
]


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize(("weight", "threshold", "initial", "reset", "expected"), WORKED)
def test_a_neuron_step_by_step(weight, threshold, initial, reset, expected, engine):
    snn = single_neuron(weight, threshold, initial, reset=reset, exact_grid=False)  # a grid would round 0.4
    trace = ts.simulate(snn, torch.ones(1, 1), 5, engine=engine, record=["neuron"])
    assert trace.trains["neuron"].flatten().tolist() == expected


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_the_answer_is_the_charge_so_far_over_the_time_so_far(engine):
    snn = single_neuron(0.75, threshold=2.0)
    trace = ts.simulate(snn, torch.ones(1, 1), 6, engine=engine)
    # potentials 0.75 1.5 2.25! 1 1.75 2.5!: spikes of worth 2 at t=3 and t=6
    assert trace.logits.flatten().tolist() == pytest.approx([0, 0, 2 / 3, 2 / 4, 2 / 5, 4 / 6], rel=1e-7)


def counted() -> ts.SNN:
    """Two neurons that fire in 4 and in 2 of 4 steps; one of the six weights after them is zero."""
    source, spiking = (
        Graph((
            Node("input", Input((1,))),
            Node("first", Linear(weight=torch.tensor([[1.0], [0.5]])), ("input",)),
            Node("neurons", op, ("first",)),
            Node("answer", Linear(weight=torch.tensor([[1.0, 1.0], [-2.0, 1.0], [3.0, 0.0]])), ("neurons",)),
        ))
        for op in (ReLU(), IntegrateAndFire(ReLU(), torch.tensor(1.0), torch.tensor(0.0)))
    )  # fmt: skip
    recipe = ECC(timesteps=4)
    return ts.SNN(spiking, source, recipe, recipe.encoder.calibrated(1.0))


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_operations_counted_by_hand(engine):
    activity = ts.simulate(counted(), torch.ones(1, 1), engine=engine).activity
    (row,) = activity.layers
    assert row.name == "neurons" and row.neurons == 2
    assert row.spikes.tolist() == [1, 2, 1, 2]
    assert row.synaptic_operations.tolist() == [3, 3 + 2, 3, 3 + 2]
    assert row.updates == 2 * 4
    assert activity.macs == {"first": 2}


def test_operations_of_a_batch_add_up():
    (row,) = ts.simulate(counted(), torch.tensor([[1.0], [0.5], [0.0]])).activity.layers
    # at half the input the first neuron fires at t=2 and 4, the second at t=4; at none, nothing fires
    assert row.spikes.tolist() == [1, 2 + 1, 1, 2 + 2]
    assert row.synaptic_operations.tolist() == [3, 5 + 3, 3, 5 + 5]
    assert row.updates == 3 * 2 * 4


def test_a_report_gives_operations_per_sample():
    x = torch.tensor([[1.0], [0.5], [0.0], [1.0]])
    report = ts.evaluate(counted(), (x, torch.zeros(4, dtype=torch.long)))
    assert [answer.synaptic_operations for answer in report.curve] == [6 / 4, 19 / 4, 25 / 4, 40 / 4]
    (row,) = report.layers
    assert (row.spikes, row.synaptic_operations, row.membrane_updates) == (15 / 4, 40 / 4, 8)
    assert row.spike_rate == 15 / (4 * 2 * 4)


def test_a_shortcut_carries_the_charge_of_its_spikes():
    # one neuron of threshold 4 in both branches: 0.25 · 4 + 4 charge a spike, into a threshold of 5
    first = IntegrateAndFire(None, torch.tensor(4.0), torch.tensor(0.0))
    second = IntegrateAndFire(None, torch.tensor(5.0), torch.tensor(0.0))
    graph = Graph((
        Node("input", Input((1,))),
        Node("in", Linear(weight=torch.tensor([[2.0]])), ("input",)),
        Node("first", first, ("in",)),
        Node("branch", Linear(weight=torch.tensor([[0.25]])), ("first",)),
        Node("sum", Add(), ("branch", "first")),
        Node("second", second, ("sum",)),
        Node("answer", Linear(weight=torch.tensor([[1.0]])), ("second",)),
    ))  # fmt: skip
    recipe = ECC(timesteps=4)
    snn = ts.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0))
    for engine in sorted(ENGINES):
        trace = ts.simulate(snn, torch.ones(1, 1), engine=engine, record=["first", "second"])
        assert trace.trains["first"].flatten().tolist() == [0, 1, 0, 1]
        assert trace.trains["second"].flatten().tolist() == [0, 1, 0, 1]
        assert trace.logits.flatten().tolist() == pytest.approx([0, 5 / 2, 5 / 3, 10 / 4], rel=1e-7)
        rows = {row.name: row.synaptic_operations.tolist() for row in trace.activity.layers}
        assert rows == {"first": [0, 2, 0, 2], "second": [0, 1, 0, 1]}


def test_pooled_spikes_are_counted_before_pooling():
    # four neurons, two of them fire in each step; each spike meets one weight after the pool
    neuron = IntegrateAndFire(None, torch.tensor(1.0), torch.tensor(0.0))
    graph = Graph((
        Node("input", Input((1, 2, 2))),
        Node("in", Conv(weight=torch.ones(1, 1, 1, 1)), ("input",)),
        Node("neurons", neuron, ("in",)),
        Node("pool", AvgPool(), ("neurons",)),
        Node("flat", Reshape(shape=(1,)), ("pool",)),
        Node("answer", Linear(weight=torch.tensor([[2.0]])), ("flat",)),
    ))  # fmt: skip
    recipe = ECC(timesteps=2)
    snn = ts.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0))
    trace = ts.simulate(snn, torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]))
    (row,) = trace.activity.layers
    assert row.spikes.tolist() == [2, 2] and row.synaptic_operations.tolist() == [2, 2]
    assert trace.logits.flatten().tolist() == [1.0, 1.0]  # 2 · (two of four)
