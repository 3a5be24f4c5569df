"""How many multiplications a layer takes, whatever its role, and what no count holds."""

import dataclasses
import pickle
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike import activations, ops
from transpike.core.graph import Graph, Input, Node
from transpike.lowering.activity import multiplications, unpriced
from transpike.ops.arithmetic import arithmetic

B, N, D, H = 7, 9, 8, 2  # queries, keys, features, heads
WEIGHT, KERNEL, GAIN = torch.zeros(5, D, device="meta"), torch.zeros(6, 4, 3, 3, device="meta"), torch.ones(D)
GAIN = GAIN.to("meta")

COUNTS = {
    "matmul": (lambda a, b: a @ b, ((B, D), (D, N)), B * D * N, {}),
    "matmul of vectors": (lambda a, b: (a[:, None] @ b[:, :, None]), ((D,), (D,)), D, {}),
    "bmm": (torch.bmm, ((B, D), (D, N)), B * D * N, {}),
    "baddbmm": (torch.baddbmm, ((B, N), (B, D), (D, N)), B * D * N, {}),
    "einsum": (lambda a, b: torch.einsum("bqd,bkd->bqk", a, b), ((B, D), (N, D)), B * D * N, {}),
    "linear": (lambda a: F.linear(a, WEIGHT), ((B, D),), B * D * 5, {}),
    "convolution": (lambda a: F.conv2d(a, KERNEL), ((4, 5, 5),), 3 * 3 * 6 * 4 * 9, {}),
    "product": (lambda a, b: a * b, ((B, D), (B, D)), B * D, {}),
    "square": (lambda a: a**2, ((B, D),), B * D, {}),
    "by a number": (lambda a: a / 3.0, ((B, D),), B * D, {}),
    "by a wire": (lambda a, b: a / b, ((D,), (D,)), 0, {"division": D}),
    "sum, maximum, move": (lambda a: a.sum(2).amax(1, keepdim=True).expand(-1, 3) + 1, ((B, D),), 0, {}),
    "softmax": (lambda a: F.softmax(a, -1), ((B, N),), 0, {"exp": B * N, "division": B * N}),
    "log softmax": (lambda a: F.log_softmax(a, -1), ((B, N),), 0, {"exp": B * N, "log": B}),
    "layer norm": (lambda a: F.layer_norm(a, (D,), GAIN, GAIN), ((B, D),), 3 * B * D, {"rsqrt": B}),
    "layer norm without gain": (lambda a: F.layer_norm(a, (D,)), ((B, D),), 2 * B * D, {"rsqrt": B}),
    "group norm": (lambda a: F.group_norm(a, 4, GAIN, GAIN), ((D, 3, 3),), 3 * D * 9, {"rsqrt": 4}),
    "gelu": (F.gelu, ((D,),), 0, {"gelu": D}),
    "instance norm": (lambda a: F.instance_norm(a), ((D, 3, 3),), 2 * D * 9, {"rsqrt": D}),
    "rms norm": (lambda a: F.rms_norm(a, (D,), GAIN), ((B, D),), 3 * B * D, {"rsqrt": B}),
    "gated linear unit": (lambda a: F.glu(a, -1), ((D,),), D // 2, {"sigmoid": D // 2}),
    "silu": (F.silu, ((D,),), 0, {"silu": D}),
    "leaky relu": (F.leaky_relu, ((D,),), D, {}),
    "cumulative product": (lambda a: a.cumprod(1), ((D,),), D, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_an_operator_is_counted_as_by_hand(name):
    run, shapes, expected, evaluations = COUNTS[name]
    found = arithmetic(run, shapes)
    assert (found.multiplications, found.evaluations, found.unknown) == (expected, evaluations, ())


def test_attention_is_two_products_and_a_softmax():
    found = arithmetic(F.scaled_dot_product_attention, ((H, B, D), (H, N, D), (H, N, D)))
    products = 2 * H * B * N * D
    assert found.multiplications is not None
    # torch scales queries and keys, or the products: whichever it is, there are no more elements than these
    assert products <= found.multiplications <= products + H * (B * D + N * D + B * N)
    assert found.evaluations == {"exp": H * B * N, "division": H * B * N}


def test_an_operator_that_nobody_has_counted_has_no_number():
    found = arithmetic(lambda a: torch.fft.fft(a).real, ((D,),))
    assert found.multiplications is None and found.unknown == ("_fft_r2c",)


class Attention(nn.Module):
    """One head over seven tokens of eight features."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.f, self.r, self.o = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) / 8**0.5, -1)
        return self.o(self.r(self.f(scores @ self.v(x))).mean(1))


LINEAR, PRODUCTS, SCALE = 7 * 8 * 8 * 3 + 7 * 8 * 16 + 16 * 5, 2 * 7 * 7 * 8, 7 * 7
STEPS = 8


@pytest.fixture(scope="module")
def attention():
    torch.manual_seed(0)
    x, y = torch.randn(64, 7, 8), torch.randint(0, 5, (64,))
    snn = ts.convert(Attention(), ts.recipes.ECC(timesteps=STEPS), x, on_unsupported="keep")
    return snn, x, y


def test_the_products_of_attention_count_for_the_ann_and_for_the_snn(attention):
    snn, x, y = attention
    report = ts.evaluate(snn, [(x, y)], energy=ts.energy.Operations())
    assert report.ann_macs == LINEAR + PRODUCTS + SCALE == 3153
    products = {name: macs for name, macs in report.macs.items() if name.startswith("matmul")}
    assert products == {"matmul": PRODUCTS // 2 * STEPS, "matmul_1": PRODUCTS // 2 * STEPS}  # worked out in every step
    assert report.macs["q"] == 7 * 8 * 8 and report.macs["f"] == 7 * 8 * 16 * STEPS
    macs, updates = sum(report.macs.values()), 7 * 16 * STEPS
    counted = 0.1 * report.final.synaptic_operations + 0.3 * macs + 0.1 * updates
    assert report.final.energy_joule["operations"] == pytest.approx(1e-12 * counted)
    assert [answer.macs for answer in report.curve] == [
        3 * 7 * 8 * 8 + t * (PRODUCTS + 7 * 8 * 16) for t in range(1, STEPS + 1)
    ]  # the factor 1/√d is a part of the weights of the queries


def test_what_cannot_be_priced_is_named(attention):
    snn, x, y = attention
    report = ts.evaluate(snn, [(x, y)])
    assert report.unpriced == {"softmax": "49 exp, 49 division"} == report.to_json()["unpriced"]
    assert any("softmax (49 exp, 49 division)" in remark for remark in report.remarks)
    result = ts.cost(snn, (x, y))
    counts = report.to_json()["evaluations"]["exp"]
    assert counts == {"ann": 49, "executed": 8 * 49, "changed": 8 * 49}  # a rate changes in every step
    t = result.timesteps
    named = f"evaluations of exp (SNN {49 * t}, of which {49 * t} where an input changed; ANN 49)"
    assert all(named in one.excluded for one in result.models)
    plain = ts.convert(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 5)), ts.recipes.ECC(), x[:, 0])
    assert ts.evaluate(plain, [(x[:, 0], y)]).unpriced == {}


@pytest.mark.parametrize("model", [kind() for kind in ts.energy.members], ids=str)
def test_every_energy_model_prices_the_products_of_attention(attention, model):
    snn, x, y = attention
    result = ts.cost(snn, (x, y), models=[model])
    activity = result.report.activities[STEPS]
    fewer = {name: macs for name, macs in activity.macs.items() if not name.startswith("matmul")}
    with_products = model.joule(activity)
    if with_products is not None:
        assert with_products > model.joule(dataclasses.replace(activity, macs=fewer))
    ann = result.models[0].ann_joule
    assert ann is None or ann > 0


def test_a_break_even_rate_is_a_rate_or_a_reason(attention):
    snn, x, y = attention
    for one in ts.cost(snn, (x, y)).models:
        assert (one.break_even_rate is None) == bool(one.break_even_missing)
        assert one.break_even_rate is None or one.break_even_rate >= 0
    operations = next(one for one in ts.cost(snn, (x, y)).models if one.model == "operations")
    assert operations.break_even_missing == "the spiking network costs more than the ANN even without spikes"


def test_a_network_in_which_nothing_spikes_has_no_break_even_rate():
    graph = Graph((
        Node("input", Input((4,))),
        Node("first", ops.Linear(weight=torch.ones(3, 4)), ("input",)),
        Node("act", activations.ReLU(), ("first",)),
        Node("answer", ops.Linear(weight=torch.ones(2, 3)), ("act",)),
    ))  # fmt: skip
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    snn = ts.convert(graph, ts.recipes.ECC(timesteps=4), x).accepting_any_input()
    result = ts.cost(snn, (torch.zeros(8, 4), torch.zeros(8, dtype=torch.long)))
    assert {one.break_even_missing for one in result.models if one.ann_joule and one.snn_joule is not None} == {
        "there are no spikes"
    }
    assert all(one.break_even_rate is None for one in result.models)


def test_every_role_has_a_count():
    inputs = Input((4, 6, 6))
    linear = ops.Conv(weight=torch.zeros(3, 4, 3, 3), padding=(1, 1))
    graph = Graph((
        Node("input", inputs),
        Node("synapse", linear, ("input",)),
        Node("activation", activations.ReLU(), ("synapse",)),
        Node("wiring", ops.AvgPool(), ("activation",)),
        Node("maximum", ops.MaxPool(kernel=(1, 1), stride=(1, 1)), ("wiring",)),
        Node("weighted sum", ops.Add(coefficients=(1.0, 0.5)), ("wiring", "maximum")),
        Node("kept", ops.AnalogueOp(operator="aten.sigmoid.default", arguments=(("input", 0),)), ("weighted sum",)),
    ))  # fmt: skip
    macs = {node.name: graph.macs(node) for node in graph}
    assert macs == {
        "input": 0, "synapse": 3 * 36 * 4 * 9, "activation": 0, "wiring": 0, "maximum": 0,
        "weighted sum": prod((3, 3, 3)), "kept": 0,
    }  # fmt: skip
    assert multiplications(graph) == sum(macs.values()) and unpriced(graph) == {"kept": "27 sigmoid"}


def test_an_operator_without_a_count_is_named_and_left_out():
    kept = ops.AnalogueOp(operator="aten.linalg_vector_norm.default", arguments=(("input", 0), 2, (1,), True))
    graph = Graph((Node("input", Input((4,))), Node("norm", kept, ("input",))))
    assert graph.macs(graph["norm"]) is None and multiplications(graph) == 0
    assert unpriced(graph) == {"norm": "an unknown number of multiplications"}
    assert "?" in str(graph).splitlines()[-1]


class Adds(torch.nn.Module):
    """Two constants are added, one is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.last(3.0 * (torch.relu(self.first(x) + 0.5) + 1.0))


def test_adding_a_constant_is_no_multiplication():
    graph = ts.capture(Adds(), torch.rand(4, 6))
    assert sum(graph.macs(node) for node in graph) == 6 * 8 + 8 * 3 + 8


@pytest.mark.parametrize(
    "norm", [lambda: torch.nn.LayerNorm(8), lambda: torch.nn.PReLU(8), lambda: torch.nn.GroupNorm(2, 8)],
    ids=["layer norm", "prelu", "group norm"],
)  # fmt: skip
def test_kept_operators_with_weights_of_their_own_convert_and_are_saved(norm, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), norm(), torch.nn.Linear(8, 3))
    x = torch.rand(32, 6)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=64), x, on_unsupported="keep")
    assert {name for name in snn.source.parameters() if name.startswith("2.")}, "weights have the model's names"
    answer = model(x).detach()
    assert float((snn(x) - answer).norm() / answer.norm()) < 0.1
    again = ts.load(ts.save(snn, tmp_path / "kept.transpike"))
    assert torch.equal(again(x), snn(x))
    copied = pickle.loads(pickle.dumps(snn))  # after a run, which has prepared an engine
    assert torch.equal(copied(x), snn(x))
