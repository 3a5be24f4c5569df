"""Products of two wires: laws in float64, whole networks with gates, and their counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from gated import GATES, network
from transpike import ops
from transpike.core.graph import Input, Node
from transpike.core.pass_ import Context
from transpike.energy import Operations, SpatialDataflow
from transpike.errors import SettingError
from transpike.neurons import SigmaDelta, SpikeProduct
from transpike.ops import AnalogueOp, Product
from transpike.passes import EncodeWires, ProductsOfWires
from transpike.recipes import ECC, BurstDigits, StreamingSigmaDelta
from transpike.workflow.cost.quantised_baseline import quantised

STEPS = 9
PAIRS = {
    "elements": (Product(), (3, 2, 2), (3, 2, 2)), "channel gate": (Product(), (3, 2, 2), (3, 1, 1)),
    "map gate": (Product(), (3, 2, 2), (1, 2, 2)), "outer": (Product(), (3, 1), (1, 4)),
    "matrices": (Product(matrices=True), (3, 4), (4, 5)), "heads": (Product(matrices=True), (2, 3, 4), (2, 4, 5)),
}  # fmt: skip


def sparse(seed: int, *shape: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    levels = torch.randint(-4, 5, shape, generator=random).double()
    return levels * (torch.rand(shape, generator=random) < 0.4)


@pytest.mark.parametrize("gain", ["unit", "reciprocal"])
@pytest.mark.parametrize("label", PAIRS)
@given(seed=st.integers(0, 1000))
def test_the_estimate_of_a_product_is_the_product_of_the_estimates_at_every_step(label, gain, seed):
    op, *shapes = PAIRS[label]
    cell = SpikeProduct(op, gain)
    heard = [torch.zeros(2, *shape).double() for shape in shapes]
    state, said = cell.init(*heard), torch.zeros(()).double()
    for t in range(1, STEPS + 1):
        weight = 1.0 if gain == "unit" else 1 / t
        now = [sparse(100 * seed + 10 * t + k, 2, *shape) for k, shape in enumerate(shapes)]
        state, sent = cell.step(state, *now, t=t)
        heard = [e + weight * x for e, x in zip(heard, now, strict=True)]
        said = said + weight * sent
        expected = op.run(*heard)
        assert float((said - expected).abs().max()) <= 1e-12 * max(1.0, float(expected.abs().max()))
        assert gain == "reciprocal" or torch.equal(said, expected)


def graph_of(op: Product, first: tuple[int, ...], second: tuple[int, ...]) -> ts.Graph:
    """Two encoded parts of the input, their product, and the answer."""
    sizes = [torch.Size(shape).numel() for shape in (first, second)]
    neuron = SigmaDelta(ts.activations.Unchanged(), torch.tensor(1.0), torch.tensor(0.0), 3)
    return ts.Graph((
        Node("input", Input((sum(sizes),))),
        Node("a", ops.Slice(axis=1, start=0, stop=sizes[0]), ("input",)),
        Node("b", ops.Slice(axis=1, start=sizes[0], stop=sum(sizes)), ("input",)),
        Node("first", ops.Reshape(shape=first), ("a",)),
        Node("second", ops.Reshape(shape=second), ("b",)),
        Node("sent-a", neuron, ("first",)),
        Node("sent-b", neuron, ("second",)),
        Node("product", SpikeProduct(op), ("sent-a", "sent-b")),
        Node("flat", ops.Reshape(shape=(-1,)), ("product",)),
    ))  # fmt: skip


@pytest.mark.parametrize("engine", ["reference", "dense", "auto"])
@pytest.mark.parametrize("label", PAIRS)
def test_the_additions_are_the_events_times_the_words_that_they_read(label, engine):
    op, first, second = PAIRS[label]
    graph = graph_of(op, first, second)
    snn = ts.SNN(graph, graph, StreamingSigmaDelta(timesteps=5), ts.encoders.ConstantCurrent(largest=10.0))
    x = 4 * torch.randn(3, *graph.input.shape, generator=torch.Generator().manual_seed(4))
    trace = ts.simulate(snn, x, engine=engine, record=["sent-a", "sent-b"])
    a, b = trace.trains["sent-a"] != 0, trace.trains["sent-b"] != 0
    expected = 0  # of pairs of elements that a product joins, one by one
    left, right = torch.arange(a[0, 0].numel()).reshape(first), torch.arange(b[0, 0].numel()).reshape(second)
    if op.matrices:
        expected = int(a.sum()) * second[-1] + int(b.sum()) * first[-2]
    else:
        for i, j in zip(*(side.flatten().tolist() for side in torch.broadcast_tensors(left, right)), strict=True):
            expected += int(a.flatten(2)[..., i].sum()) + int(b.flatten(2)[..., j].sum())
    layers = {layer.name: layer for layer in trace.activity.layers}
    assert sum(float(layer.product_operations.sum()) for layer in layers.values()) == expected > 0
    assert trace.activity.product_operations == expected / 3
    assert all(torch.equal(one.product_operations, one.synaptic_operations) for one in layers.values())
    assert "product" not in layers
    assert not trace.activity.macs


def test_a_run_is_exact_as_long_as_the_grid_has_room_for_the_states_of_products():
    """A sum of 63 messages is at most 63 times the largest: of this bound the grid is made."""
    graph = graph_of(Product(), (1, 1), (1, 1))
    snn = ts.SNN(graph, graph, StreamingSigmaDelta(timesteps=5), ts.encoders.ConstantCurrent(largest=10.0))
    x = torch.full((1, 2), 8.0)
    short, long = (ts.simulate(snn, x, steps, engine="reference") for steps in (63, 64))
    assert short.exact, short.why
    assert "exact up to 63 steps only" in long.why


def test_weights_and_products_of_one_spike_are_counted_apart():
    """Each spike of "sent-a" meets a weight matrix of 4 outputs and, in 2 places, a state."""
    graph = graph_of(Product(), (3, 1), (1, 2))
    nodes = list(graph.nodes)[:-1]
    nodes += [
        Node("linear", ops.Linear(weight=torch.ones(4, 1)), ("sent-a",)),
        Node("sum", ops.Mean(axes=(2,)), ("linear",)),
        Node("mean", ops.Mean(axes=(2,)), ("product",)),
        Node("both", ops.Add(), ("sum", "mean")),
    ]
    whole = ts.Graph(tuple(nodes))
    snn = ts.SNN(whole, whole, StreamingSigmaDelta(timesteps=4), ts.encoders.ConstantCurrent(largest=10.0))
    activity = ts.simulate(snn, torch.tensor([[4.0, -3.0, 2.0, 1.0, 6.0]])).activity
    layer = next(one for one in activity.layers if one.name == "sent-a")
    assert float(layer.spikes.sum()) == 4  # −3 is −4 and 1
    assert float(layer.product_operations.sum()) == 4 * 2
    assert float(layer.synaptic_operations.sum()) == 4 * (4 + 2)
    assert layer.synapses == 3 * (4 + 2)
    plain, reads = float(layer.synaptic_operations.sum()) - 8, activity.product_operations
    rows = Operations().rows(activity)
    assert sum(row.count for row in rows if row.cause == "accumulate of a state") == reads
    assert sum(row.count for row in rows if row.cause == "accumulate" and row.layer == "sent-a") == plain
    joule = sum(row.joule for row in SpatialDataflow().rows(activity) if row.cause == "state read and added")
    assert joule == pytest.approx(reads * 20.03e-12)
    assert activity.until(1, {}).product_operations < reads < (activity + activity).product_operations * 2


@pytest.mark.parametrize("label", GATES)
def test_networks_with_gates_give_equal_spikes_in_both_engines_and_settle_at_the_answer(label, tmp_path):
    model, x = network(label)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12), x)
    assert any(isinstance(node.op, SpikeProduct) for node in snn.graph)
    assert not any("analogue" in remark for remark in snn.remarks)
    names = [node.name for node in snn.graph if isinstance(node.op, SigmaDelta)]
    a, b = (ts.simulate(snn, x, engine=engine, record=names) for engine in ("reference", "dense"))
    assert torch.equal(a.logits, b.logits)
    assert all(torch.equal(a.trains[name], b.trains[name]) for name in names)
    assert a.exact, a.why
    expected = model(x).detach()
    assert float((a.logits[-1] - expected).norm()) <= 0.05 * float(expected.norm())
    assert sum(float(layer.spikes[-1]) for layer in a.activity.layers) == 0
    twin = ts.convert(model, BurstDigits(), x)
    assert float((twin(x) - expected).norm()) <= 0.05 * float(expected.norm())
    ts.save(snn, tmp_path / "net.transpike")
    assert torch.equal(ts.load(tmp_path / "net.transpike")(x), snn(x))


def test_reports_count_products_apart():
    model, x = network("mobilenet-v3")
    report = ts.evaluate(ts.convert(model, StreamingSigmaDelta(), x), (x, torch.arange(16) % 5))
    found = report.to_json()
    assert 0 < found["product_operations"] < found["synaptic_operations"]
    assert sum(row["product_operations"] for row in found["layers"]) == found["product_operations"]
    parts = [row.name for row in report.layers if row.product_operations]
    assert "4.layers.6.gate" in parts
    assert not any(row.op.startswith("product") for row in report.layers)


def test_both_sides_of_a_product_are_encoded_and_a_sum_is_not():
    model, x = network("gated")
    before = ts.capture(model, x, on_unsupported="keep")
    context = Context(before, (x,), timesteps=4, remarks=[])
    after = EncodeWires().apply(ProductsOfWires().apply(before, context), context)
    assert torch.equal(after.run(x), before.run(x))
    for node in after:
        if isinstance(node.op, Product):
            assert all(after[name].op.role == "activation" for name in node.inputs)


def test_gated_linear_units_of_torch_are_taken_apart():
    for axis in (1, -1):
        model = nn.Sequential(nn.Conv1d(2, 4, 1), nn.GLU(axis), nn.Conv1d(2 if axis == 1 else 4, 4, 1)).eval()
        x = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(2))
        before = ts.capture(model, x, on_unsupported="keep")
        after = ProductsOfWires().apply(before, Context(before, (x,), timesteps=4, remarks=[]))
        assert torch.allclose(after.run(x), before.run(x), atol=1e-6)
        found = [node.op.describe() for node in after if isinstance(node.op, (Product, AnalogueOp))]
        assert sorted(found) == ["product", "sigmoid (analogue)"]


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_functions_are_counted_as_executed_and_where_an_input_changed(engine):
    """By hand, from the spikes that each row of a normalisation, a softmax or a gate receives."""
    model = nn.Sequential(nn.Linear(6, 6), nn.SiLU(), nn.LayerNorm(6), nn.Sigmoid(), nn.Softmax(1)).eval()
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(30, 3)).eval()
    x = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(5))
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=5), x)
    trace = ts.simulate(snn, x, engine=engine, record=["0.1", "0.3"])
    heard, gated = (trace.trains[name] != 0 for name in ("0.1", "0.3"))
    rows = int(heard[1:].any(-1).sum()) + 8 * 5
    columns = int(gated[1:].any(2).sum()) + 8 * 6
    found = trace.activity.evaluated
    assert found["rsqrt"] == (5 * 5, rows / 8)
    assert found["exp"] == found["division"] == (5 * 30, 5 * columns / 8)
    assert found["silu"] == (5 * 30, 30)  # the input is constant
    assert found["sigmoid"][0] == 5 * 30
    assert rows < 5 * 5 * 8
    assert trace.activity.until(1, trace.activity.macs).evaluated["exp"] == (30, 30)
    assert (trace.activity + trace.activity).evaluated == found
    counts = ts.evaluate(snn, (x, torch.zeros(8, dtype=torch.long)), engine=engine).to_json()["evaluations"]
    assert counts["rsqrt"] == {"ann": 5, "executed": 25, "changed": rows / 8}
    assert counts["silu"]["ann"] == 30


def test_the_quantised_network_has_the_bits_of_the_levels_and_the_same_products():
    model, x = network("mobilenet-v3")
    bits = {}
    for recipe in (StreamingSigmaDelta(timesteps=4), BurstDigits(), StreamingSigmaDelta(threshold_count=4)):
        snn = ts.convert(model, recipe, x)
        baseline = quantised(snn, 4)
        bits[recipe.threshold_count] = baseline.bits
        assert quantised(snn, 32).bits == baseline.bits
        answer, expected = baseline.graph.run(x), model(x).detach()
        assert float((answer - expected).norm()) <= (0.03 if recipe.threshold_count == 8 else 0.4) * float(
            expected.norm()
        )
    assert set(bits[8]) == {node.name for node in snn.graph if isinstance(node.op, SigmaDelta)}
    assert bits[8]["4.layers.6.gate"] == 8  # from 0 to its largest value
    assert bits[8]["4.layers.7.encoded"] == 9  # of either sign
    assert all(bits[8][name] - bits[4][name] == 4 for name in bits[4])
    few = quantised(snn, 4, activation_bits=2).graph
    values: dict[str, Tensor] = {}
    few.run(x, observe=lambda node, inputs, output: values.__setitem__(node.name, output))
    gate = values["4.layers.6.gate"]
    assert all(len(gate[:, channel].unique()) <= 4 for channel in range(gate.shape[1]))
    assert 0.0 in values["4.layers.5"]


def test_other_recipes_still_refuse_or_keep_gates():
    model, x = network("excitation")
    with pytest.raises(ts.errors.UnsupportedOperator, match="multiplies two activations"):
        ts.convert(model, ECC(), x)
    with pytest.raises(SettingError, match="gain must be"):
        SpikeProduct(Product(), "double")
