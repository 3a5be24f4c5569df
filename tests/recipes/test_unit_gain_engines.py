"""Differences with unit gain: the dense engine, which folds time into the batch, gives the spikes of the reference."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from transpike import ops
from transpike.core.alphabet import GRADED
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Input, Node
from transpike.engines.dense import estimates
from transpike.engines.dense.engine import Dense
from transpike.engines.dense.narrow import Narrow
from transpike.lowering.lowered import Exactness, Lowered
from transpike.neurons import DifferentialOperator, MaximumOfEstimates, SigmaDelta
from transpike.ops import MaxPool
from transpike.recipes import BurstDigits, StreamingSigmaDelta

RECIPES = {"one": StreamingSigmaDelta(timesteps=10, threshold_count=6), "all": BurstDigits(timesteps=3)}


class Pooled(nn.Module):
    """Overlapping, padded pooling of neurons and of currents; a shortcut; grouped weights; functions of two kinds."""

    def __init__(self, pooled: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.third, self.last = nn.Conv2d(6, 6, 1), nn.Linear(6, 4)
        self.pool = nn.MaxPool2d(3, 2, 1) if pooled else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.pool(F.relu6(self.first(x)))
        b = F.relu(self.pool(self.second(a)))
        c = F.hardtanh(self.third(b)) + b
        return self.last(c.mean((2, 3)))


def network(recipe: ts.core.recipe.Recipe, pooled: bool = True, seed: int = 0) -> tuple[ts.SNN, Tensor, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, x = Pooled(pooled).eval(), torch.randn(12, 2, 9, 9)
    return ts.convert(model, recipe, x), x, model


def check_equal(a: ts.Trace, b: ts.Trace) -> None:
    assert a.exact and b.exact, (a.why, b.why)
    assert torch.equal(a.logits, b.logits)
    assert a.trains.keys() == b.trains.keys()
    assert all(torch.equal(a.trains[name].double(), b.trains[name].double()) for name in a.trains)
    for one, other in zip(a.activity.layers, b.activity.layers, strict=True):
        assert torch.equal(one.spikes, other.spikes), one.name
        assert torch.equal(one.synaptic_operations, other.synaptic_operations), one.name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", RECIPES)
def test_dense_and_reference_send_the_same_spikes(rule, seed):
    snn, x, _ = network(RECIPES[rule], seed=seed)
    names = [node.name for node in snn.graph.cells]
    assert sum(isinstance(snn.graph[name].op, MaximumOfEstimates) for name in names) == 2
    a, b = (ts.simulate(snn, x, engine=engine, record=names) for engine in ("reference", "dense"))
    check_equal(a, b)
    assert all(bool(train.any()) for train in a.trains.values())


def test_chunks_of_time_and_batch_and_threads_change_nothing(monkeypatch):
    snn, x, _ = network(RECIPES["one"])
    names = [node.name for node in snn.graph.cells]
    whole = ts.simulate(snn, x, engine="dense", record=names)
    monkeypatch.setattr(estimates, "FOLDED_IMAGES", 3 * len(x))  # three steps at once
    check_equal(whole, ts.simulate(snn, x, engine="dense", record=names))
    monkeypatch.setattr(estimates, "FOLDED_IMAGES", 1)
    check_equal(whole, ts.simulate(snn, x, engine="dense", record=names))
    least = Dense(memory=1).batch_limit(snn.program)
    assert least == 1
    check_equal(whole, snn.run(x, engine=Dense(memory=1), record=names))
    before = torch.get_num_threads()
    try:
        for threads in (2, 4):
            torch.set_num_threads(threads)
            check_equal(whole, ts.simulate(snn, x, engine="dense", record=names))
    finally:
        torch.set_num_threads(before)


def test_samples_that_leave_a_run_do_not_change_the_others():
    snn, x, _ = network(RECIPES["one"])
    ids = torch.arange(len(x))
    run = Dense().start(snn.program, snn.prepare(x), ids)
    run.advance(2)
    order = run.keep(torch.tensor([True, False] * 6))
    later = run.advance(5)
    expected = ts.simulate(snn, x, engine="reference").logits[2:7]
    assert torch.equal(later, expected[:, order])


@pytest.mark.parametrize("rule", RECIPES)
def test_a_settled_network_is_skipped_and_still_counted(rule, monkeypatch):
    """A long run: after the last spike no layer is evaluated, and results are those of the reference."""
    snn, x, _ = network(RECIPES[rule])
    calls: list[int] = []
    scan = estimates.Estimates._scan
    monkeypatch.setattr(
        estimates.Estimates, "_scan", lambda self, *a: (calls.append(self.run.t + 1), scan(self, *a))[1]
    )
    monkeypatch.setattr(estimates, "FOLDED_IMAGES", 1)  # one step at once
    names = [node.name for node in snn.graph.cells]
    dense = ts.simulate(snn, x, 60, engine="dense", record=names)
    check_equal(dense, ts.simulate(snn, x, 60, engine="reference", record=names))
    last = max(int(train.flatten(1).any(1).nonzero().max()) + 1 for train in dense.trains.values())
    assert last < 40
    assert max(calls) <= last + 1  # nothing was evaluated after the step that found silence
    assert torch.equal(dense.logits[last:].amax(0), dense.logits[last:].amin(0)) or last >= 40


def test_the_estimate_of_pooling_is_the_maximum_of_the_estimates_in_a_network():
    snn, x, _ = network(RECIPES["one"])
    (relu, pool, *_), table = [n.name for n in snn.graph.cells], snn.graph
    assert isinstance(table[relu].op, SigmaDelta) and isinstance(table[pool].op, MaximumOfEstimates)
    trace = ts.simulate(snn, x, engine="dense", record=[relu, pool])
    neuron, pooled = trace.trains[relu].double().cumsum(0), trace.trains[pool].double().cumsum(0)
    expected = torch.stack([F.max_pool2d(now, 3, 2, 1) for now in neuron])
    assert torch.equal(pooled, expected)


def test_neurons_with_thresholds_of_their_own_are_encoded_behind_pooling():
    """Positions of a window have different units then: the maximum is one of currents, and lies on the grid too."""
    recipe = StreamingSigmaDelta(timesteps=6, granularity="neuron")
    snn, x, model = network(recipe)
    assert any(node.name == "pool.encoded" for node in snn.graph)
    assert not any(node.name == "pool.encoded" for node in network(RECIPES["one"])[0].graph)
    names = [node.name for node in snn.graph.cells if isinstance(node.op, SigmaDelta)]
    check_equal(*(ts.simulate(snn, x, engine=engine, record=names) for engine in ("reference", "dense")))
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.1 * float(expected.norm())


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2))
def test_the_scan_of_pooling_equals_its_steps(seed, kernel, stride, padding, dilation):
    pool = MaxPool((kernel,) * 2, (stride,) * 2, (min(padding, kernel // 2),) * 2, (dilation,) * 2)
    generator = torch.Generator().manual_seed(seed)
    train = torch.randint(-8, 9, (5, 2, 3, 7, 7), generator=generator).double()
    check_scan(MaximumOfEstimates(pool), train)
    check_scan(DifferentialOperator(pool, "unit"), train)


@given(st.integers(0, 10_000), st.sampled_from(["one", "all"]), st.sampled_from(["channel", "neuron", "scalar"]))
def test_the_scan_of_a_neuron_equals_its_steps(seed, rule, granularity):
    generator = torch.Generator().manual_seed(seed)
    shape = {"channel": (3, 1, 1), "neuron": (3, 40, 40), "scalar": ()}[granularity]
    threshold = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    train = torch.randn(4, 9, 3, 40, 40, generator=generator, dtype=torch.float64)  # more than one part of rows
    source = ts.activations.Function("aten.silu.default", (("input", 0),))
    check_scan(SigmaDelta(source, threshold, 0.3 * threshold, 5, rule), train)


def check_scan(cell: Cell, train: Tensor) -> None:
    """Two calls of ``scan``, of the first steps and of the others, against ``step``."""
    state = other = cell.init(train[0])
    outputs = []
    for part, start in ((train[:2], 1), (train[2:], 3)):
        state, output, _ = cell.scan(state, part, t=start)
        outputs.append(output.double())
    steps = []
    for t, x in enumerate(train, 1):
        other, output = cell.step(other, x, t=t)
        steps.append(output)
    assert torch.equal(torch.cat(outputs), torch.stack(steps))
    assert all(torch.equal(a, b) for a, b in zip(state, other, strict=True))


def test_an_altered_neuron_runs_by_its_own_step():
    """A subclass that overrides ``step`` has neither the scan of its parent nor its silence."""

    class Louder(SigmaDelta):
        def step(self, state, *inputs, t):
            state, levels = super().step(state, *inputs, t=t)
            return state, levels + (t == 4)

    assert not Louder.settles and Louder.scan is Cell.scan
    snn, x, _ = network(RECIPES["one"], pooled=False)
    cell = next(node for node in snn.graph.cells)
    louder = Louder(**{name: getattr(cell.op, name) for name in ("source", "threshold", "initial", "threshold_count")})
    graph = Graph(tuple(node if node is not cell else type(node)(node.name, louder, node.inputs) for node in snn.graph))
    altered = ts.SNN(graph, snn.source, snn.recipe, snn.encoder)
    check_equal(*(ts.simulate(altered, x, engine=engine, record=[cell.name]) for engine in ("reference", "dense")))


@pytest.mark.parametrize(
    ("bits", "times", "parts"),
    [(8, 1, 1), (13, 1, 2), (17, 1, 3), (22, 1, 0), (8, 64, None), (12, 32, None), (8, 2**17, 0)],
)
@pytest.mark.parametrize("kind", ["grouped", "whole", "transposed", "linear"])
def test_float32_is_used_only_where_its_sums_are_exact(kind, bits, times, parts):
    """Weights of more bits need parts or float64: 288 products (9 where grouped) with levels up to 128 in a step."""
    generator = torch.Generator().manual_seed(bits)
    shape = {"grouped": (32, 1, 3, 3), "whole": (8, 32, 3, 3), "transposed": (32, 8, 3, 3), "linear": (8, 288)}[kind]
    most = 2 ** (bits + 5 * (kind == "grouped"))
    weight = torch.randint(-most, most + 1, shape, generator=generator).double() / 2**20
    if kind == "linear":
        op, source, x = ops.Linear(weight=weight), (288,), (4, 288)
    else:
        op = ops.Conv(weight=weight, groups=32 if kind == "grouped" else 1, transposed=kind == "transposed")
        source, x = (32, 6, 6), (4, 32, 6, 6)
    levels = times * 128 * torch.randint(-1, 2, x, generator=generator).double()
    levels[0] = times * 128 - 1
    expected = op.linear(levels)
    cell = SigmaDelta(ts.activations.Unchanged(), torch.tensor(1.0).double(), torch.tensor(0.0).double(), 8)
    nodes = (
        Node("input", Input(source), shape=source), Node("fire", cell, ("input",), shape=source),
        Node("out", op, ("fire",), shape=tuple(expected.shape[1:])),
    )  # fmt: skip
    spans = {"input": GRADED, "fire": cell.output_alphabet(GRADED), "out": GRADED}
    lowered = Lowered(
        nodes, {"fire": (torch.zeros(()),), "out": (torch.zeros(()),)}, dict.fromkeys(spans), spans,
        Exactness(8, 0.0, 1.0), {"input": 1, "fire": 1, "out": 1},
    )  # fmt: skip
    narrow = Narrow(lowered)
    found = len(narrow.parts("out", times))
    assert found == parts if parts is not None else found > 1
    assert torch.equal(narrow.linear("out", op, [levels.float()], times).double(), expected)
