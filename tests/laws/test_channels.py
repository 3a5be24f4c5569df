"""Which axis holds the features: the same numbers in another order of axes are the same spiking network.

Weights and inputs are multiples of powers of two, so that sums are exact in every order.
"""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES
from transpike.activations import ReLU
from transpike.core.alphabet import BINARY
from transpike.core.channels import reshaped, rows, shaped
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import spatially_uniform
from transpike.core.pass_ import Context
from transpike.core.recipe import Recipe
from transpike.lowering.activity import connections
from transpike.lowering.lowered import lower
from transpike.ops import Add, Conv, Linear, MaxPool, Mean, Permute, Reshape
from transpike.ops.scale import Scale
from transpike.passes.rewrites.quantise_weights import QuantiseWeights
from transpike.training.spiking.unrolled import Unrolled

BATCH, TOKENS, FEATURES, HIDDEN, CLASSES = 16, 4, 6, 8, 3
LONE = 32  # one feature is so much larger than the others: what one threshold for all features does badly

SOURCES = (
    None,
    lambda: ts.activations.QuantisedClip(levels=8),
    lambda: ts.activations.ClampQuantise(),
    lambda: ts.activations.SlipReLU(levels=8),
)
SAME_DATA = {
    # thresholds follow batches of samples, which are all of the data here
    "ltb": ({"batch_size": BATCH}, {"batch_size": BATCH * TOKENS}),
    # a random input train is a sample's own
    "spike-norm": ({"encoder": ts.encoders.ConstantCurrent()},) * 2,
    "rmp": ({"encoder": ts.encoders.ConstantCurrent()},) * 2,
    "cao": ({"encoder": ts.encoders.ConstantCurrent()},) * 2,
    # an initial potential is a neuron's own: a token's
    "few-steps": ({"calibrate": "bias"},) * 2,
    # the largest activation of a sample: of all of its tokens
    "t2fsnn": ({"epochs": 0},) * 2,
    # a threshold that this small network reaches
    "s4nn": ({"threshold": 4.0},) * 2,
}


class Tokens(nn.Module):
    """Fully connected layers over the last axis, a shortcut, a factor and a constant a feature."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, HIDDEN, bias), nn.Linear(HIDDEN, HIDDEN, bias)
        self.relu, self.relu2, self.answer = nn.ReLU(), nn.ReLU(), nn.Linear(HIDDEN, CLASSES, bias)
        self.register_buffer("gamma", torch.tensor([1.0, 0.5, 2.0, 0.25] * (HIDDEN // 4)))
        self.register_buffer("beta", torch.tensor([0.25, 0.125, 0.0, -0.25] * (HIDDEN // 4)))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.first(x))
        hidden = self.second(hidden) * self.gamma + hidden
        return self.answer(self.relu2(hidden + self.beta if self.bias else hidden))


class Convolved(nn.Module):
    """The same function of (batch, features, tokens)."""

    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.first, self.relu, self.answer = pointwise(of[0]), nn.ReLU(), pointwise(of[2])

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.relu(self.first(x)))


class Swapped(nn.Module):
    """A network between two transpositions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class Averaged(nn.Module):
    """An answer for all tokens of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.relu, self.relu2, self.answer = nn.ReLU(), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.relu2(self.second(self.relu(self.first(x)))).mean(1))


def pointwise(linear: nn.Linear) -> nn.Conv1d:
    """The convolution of one position that a fully connected layer is."""
    conv = nn.Conv1d(linear.in_features, linear.out_features, 1)
    conv.weight.data, conv.bias.data = linear.weight.data[..., None], linear.bias.data
    return conv


def settled(model: nn.Module, lone: nn.Linear | None = None) -> nn.Module:
    """Seeded weights on a grid; one feature of ``lone`` is large."""
    random = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randint(-32, 33, parameter.shape, generator=random) / 64
    if lone is not None:
        lone.weight.data[3] = lone.weight.data[3].abs() * LONE
    return model.eval()


def inputs(*shape: int) -> Tensor:
    """Seeded inputs between 0 and 1 on a grid."""
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(2)) / 16


def recorded(snn: ts.SNN, x: Tensor, engine: str = "auto") -> ts.Trace:
    """A run that records every cell."""
    return ts.simulate(snn, x, engine=engine, record=[node.name for node in snn.graph.cells])


def perceptron() -> nn.Sequential:
    """Two fully connected layers; one hidden feature is large, and counts for no more than the others."""
    model = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    settled(model, model[0])
    model[2].weight.data[:, 3] /= LONE
    return model


def converted_twice(recipe: type[Recipe], granularity: str) -> list[ts.SNN]:
    """The network of tokens, converted on (batch, tokens, features) and on (batch · tokens, features)."""
    plain = recipe()
    steps = {} if plain.schedule.mode == "slots" else {"timesteps": 8}
    own = {field.name for field in dataclasses.fields(plain)}
    chosen = {"granularity": granularity} if "granularity" in own else {}
    data = inputs(BATCH, TOKENS, FEATURES)
    reason = ""
    for source in SOURCES:
        found = []
        try:
            for settings, x in zip(SAME_DATA.get(recipe.name, ({}, {})), (data, data.flatten(0, 1)), strict=True):
                model = Tokens(bias=recipe.name != "cao")
                model = settled(model, model.first)
                if source is not None:
                    model = ts.prepare(model, source(), calibration=data).eval()
                found.append(ts.convert(model, recipe(**steps, **chosen, **settings), x))
            return found
        except ts.TranspikeError as error:
            reason = reason or str(error)
    pytest.skip(reason)


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("recipe", ts.recipes.members, ids=lambda recipe: recipe.name)
def test_tokens_are_samples(recipe: type[Recipe], granularity: str):
    """(batch, tokens, features) gives the spikes and counts of (batch · tokens, features), for every recipe."""
    tokens, flat = converted_twice(recipe, granularity)
    x = inputs(BATCH, TOKENS, FEATURES)
    a, b = recorded(tokens, x), recorded(flat, x.flatten(0, 1))
    assert a.trains.keys() == b.trains.keys() and any(bool(train.any()) for train in b.trains.values())
    for name in a.trains:
        assert torch.equal(a.trains[name].flatten(1, 2), b.trains[name]), name
    assert torch.equal(a.logits.flatten(1, 2), b.logits)
    assert a.exact == b.exact
    for one, other in zip(a.activity.layers, b.activity.layers, strict=True):
        assert torch.equal(one.spikes, other.spikes), one.name
        assert torch.equal(one.synaptic_operations, other.synaptic_operations), one.name
        assert (one.neurons, one.synapses) == (TOKENS * other.neurons, TOKENS * other.synapses), one.name
    for one, other in zip(tokens.program.connections, flat.program.connections, strict=True):
        assert one.channels == other.channels, one.name


def test_with_one_token_a_threshold_a_neuron_is_one_a_feature():
    x, recipe = inputs(64, 1, FEATURES), ts.recipes.ECC(timesteps=8, granularity="neuron")
    tokens, flat = (ts.convert(perceptron(), recipe, y) for y in (x, x[:, 0]))
    assert torch.equal(recorded(tokens, x).logits[:, :, 0], recorded(flat, x[:, 0]).logits)


def test_a_large_feature_does_not_cost_the_others_their_resolution():
    """One threshold a token would be that of its largest feature: the error of channels would be that of layers."""
    x, model = inputs(64, TOKENS, FEATURES), perceptron()
    wanted, errors = model(x).detach(), {}
    for granularity in ("layer", "channel"):
        snn = ts.convert(model, ts.recipes.DCGS(timesteps=4, threshold_count=6, granularity=granularity), x)
        errors[granularity] = float((snn(x) - wanted).norm() / wanted.norm())
    cell = snn.graph.cells[0]
    assert cell.shape == (TOKENS, HIDDEN) and cell.op.unit.threshold.shape == (1, HIDDEN)
    flat = ts.convert(model, ts.recipes.DCGS(timesteps=4, threshold_count=6), x.flatten(0, 1))(x.flatten(0, 1))
    error = float((flat - wanted.flatten(0, 1)).norm() / wanted.norm())
    assert errors["channel"] == pytest.approx(error, rel=1e-6)
    assert errors["channel"] < errors["layer"] / 4


@pytest.mark.parametrize("recipe", [ts.recipes.ECC, ts.recipes.FewSteps, ts.recipes.DCGS, ts.recipes.YOSO])
def test_a_fully_connected_layer_is_a_convolution_of_one_position(recipe: type[Recipe]):
    """Over the last axis or over axis 1 of the transposed input, with the transposition inside or outside."""
    steps = {} if recipe().schedule.mode == "slots" else {"timesteps": 8}
    made, x = recipe(**steps, granularity="channel"), inputs(BATCH, TOKENS, FEATURES)
    linear = perceptron()
    turned = x.transpose(1, 2).contiguous()
    runs = [
        (linear, x, False),
        (Convolved(linear).eval(), turned, True),
        (Swapped(linear).eval(), turned, True),
        (Swapped(Convolved(linear)).eval(), x, False),
    ]
    found = []
    for model, data, answer_turned in runs:
        snn = ts.convert(model, made, data)
        trace = recorded(snn, data)
        cell = snn.graph.cells[0]
        train = trace.trains[cell.name]
        turn = snn.graph.channel_axes[cell.name] == 1
        logits = trace.logits.transpose(2, 3) if answer_turned else trace.logits
        layer = next(layer for layer in trace.activity.layers if layer.name == cell.name)
        found.append((train.transpose(2, 3) if turn else train, logits, layer))
    (train, logits, layer), *others = found
    assert bool(train.any())
    for other_train, other_logits, other in others:
        assert torch.equal(train, other_train) and torch.equal(logits, other_logits)
        assert torch.equal(layer.spikes, other.spikes) and layer.synapses == other.synapses
        assert torch.equal(layer.synaptic_operations, other.synaptic_operations)


@pytest.mark.parametrize("tokens", [TOKENS, HIDDEN])
def test_engines_agree_on_thresholds_along_the_last_axis(tokens: int):
    """Also where there are as many tokens as features, so that sizes tell nothing."""
    x = inputs(BATCH, tokens, FEATURES)
    model = Averaged()
    snn = ts.convert(settled(model, model.first), ts.recipes.ECC(timesteps=8, granularity="channel"), x)
    first, *others = (recorded(snn, x, engine) for engine in ENGINES)
    assert first.exact and all(bool(train.any()) for train in first.trains.values())
    for other in others:
        assert other.exact and torch.equal(first.logits, other.logits)
        for name, train in first.trains.items():
            assert torch.equal(train, other.trains[name]), name


@pytest.mark.parametrize(
    ("axis", "before", "after", "found"),
    [
        (1, (8, 2, 3), (48,), 1),
        (1, (8, 2, 3), (8, 6), 1),
        (2, (5, 6), (30,), 1),
        (2, (5, 6), (5, 2, 3), 3),
        (2, (5, 6), (5, 1, 6), 3),
        (1, (6, 5), (6, 5, 1), 1),
        (3, (5, 2, 3), (5, 6), 2),
        (3, (2, 3, 8), (6, 8), 2),
        (1, (8, 1, 1), (8,), 1),
        (1, (8,), (2, 4), 2),
        (1, (1, 4), (4,), 1),
    ],
)
def test_a_reshape_keeps_track_of_the_axis(axis: int, before: tuple, after: tuple, found: int):
    assert reshaped(axis, before, after) == found


def graph_of(shape: tuple[int, ...], *ops: object) -> Graph:
    """A chain of ops, called after their places."""
    nodes = [Node("input", Input(shape))]
    for index, op in enumerate(ops):
        nodes.append(Node(str(index), op, (nodes[-1].name,)))  # type: ignore[arg-type]
    return Graph(tuple(nodes))


def linear(inputs: int, outputs: int) -> Linear:
    return Linear(weight=torch.ones(outputs, inputs))


@pytest.mark.parametrize(
    ("shape", "ops", "axes"),
    [
        ((3, 8, 8), (Conv(weight=torch.ones(4, 3, 3, 3)), ReLU(), Reshape(shape=(144,)), linear(144, 2)), [1] * 5),
        ((5, 6), (linear(6, 7), ReLU(), linear(7, 2)), [2] * 4),
        ((6, 5), (Permute(axes=(0, 2, 1)), linear(6, 7), ReLU()), [1, 2, 2, 2]),
        ((5, 6), (Permute(axes=(0, 2, 1)), linear(5, 7), Permute(axes=(0, 2, 1)), ReLU()), [1, 2, 2, 1, 1]),
        ((4, 5, 6), (linear(6, 7), Permute(axes=(0, 3, 1, 2)), MaxPool(kernel=(2, 2), stride=(2, 2))), [3, 3, 1, 1]),
        (
            (3, 4, 4),
            (
                Conv(weight=torch.ones(8, 3, 2, 2), stride=(2, 2)),
                Reshape(shape=(8, 4)),
                Permute(axes=(0, 2, 1)),
                ReLU(),
                linear(8, 5),
                Mean(axes=(1,)),
            ),
            [1, 1, 1, 2, 2, 2, 1],
        ),
        ((5, 6), (linear(6, 7), Scale(weight=torch.ones(5)), ReLU(), Mean(axes=(2,))), [2, 2, 2, 2, 1]),
    ],
)  # fmt: skip
def test_the_axis_follows_from_the_graph(shape: tuple[int, ...], ops: tuple, axes: list[int]):
    assert list(graph_of(shape, *ops).channel_axes.values()) == axes


def test_where_the_inputs_of_a_sum_disagree_the_first_of_its_rank_decides():
    nodes = (
        Node("input", Input((5, 5))),
        Node("features", linear(5, 5), ("input",)),
        Node("turned", Permute(axes=(0, 2, 1)), ("input",)),
        Node("tokens", linear(5, 5), ("turned",)),
        Node("back", Permute(axes=(0, 2, 1)), ("tokens",)),
        Node("sum", Add(), ("back", "features")),
        Node("other", Add(), ("features", "sum")),
    )
    axes = Graph(nodes).channel_axes
    assert (axes["back"], axes["features"], axes["sum"], axes["other"]) == (1, 2, 1, 2)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_values_a_channel_broadcast_from_their_axis(axis: int):
    values = torch.arange(1.0, 5.0)
    full = shaped(values, axis, 3).expand(*(4 if a == axis else 2 for a in (1, 2, 3)))[None]
    assert torch.equal(rows(full, axis)[:, 0], values)
    found = spatially_uniform(full, axis)
    assert found is not None and torch.equal(found, values)
    assert spatially_uniform(full, axis % 3 + 1) is None


def test_a_normalisation_over_tokens_is_not_folded_into_features():
    """BatchNorm1d on (batch, tokens, features) normalises tokens: the layer before it has its channels elsewhere."""
    norm = nn.BatchNorm1d(HIDDEN, eps=0.0)  # as many tokens as features: sizes would allow it
    model = settled(nn.Sequential(nn.Linear(FEATURES, HIDDEN), norm, nn.ReLU(), nn.Linear(HIDDEN, CLASSES)))
    norm.weight.data, norm.running_var = torch.arange(1.0, HIDDEN + 1) / 4, torch.full((HIDDEN,), 4.0)
    norm.running_mean = torch.arange(HIDDEN) / 8
    x = inputs(BATCH, HIDDEN, FEATURES)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=512, granularity="channel", percentile=100.0), x)
    assert isinstance(snn.graph["1"].op, Scale) and snn.graph.channel_axes["2"] == 2
    wanted = model(x).detach()
    assert float((snn(x) - wanted).norm() / wanted.norm()) < 0.02  # wrong channels: more than 0.5


def test_constants_of_elements_meet_thresholds_of_channels():
    """A position's own constant before neurons with a threshold a channel, of images and of tokens."""
    for first, shape in ((nn.Conv1d(FEATURES, 5, 1), (FEATURES, TOKENS)), (nn.Linear(FEATURES, 5), (TOKENS, FEATURES))):
        place = inputs(1, *((5, TOKENS) if shape[0] == FEATURES else (TOKENS, 5)))

        class Placed(nn.Module):
            def __init__(self, layer: nn.Module, place: Tensor) -> None:
                super().__init__()
                self.layer, self.place, self.relu = layer, nn.Parameter(place), nn.ReLU()

            def forward(self, x: Tensor) -> Tensor:
                return self.relu(self.layer(x) + self.place)

        model = settled(Placed(first, place))
        x = inputs(BATCH, *shape)
        snn = ts.convert(model, ts.recipes.ECC(timesteps=256, granularity="channel", percentile=100.0), x)
        wanted = model(x).detach()
        assert float((snn(x) - wanted).norm() / wanted.norm()) < 0.02


def test_fine_tuning_normalises_and_measures_features():
    """A normalisation of features begins as the identity, is folded into the layer, and ranges are one a feature."""
    x, model = inputs(64, TOKENS, FEATURES), Averaged()
    snn = ts.convert(settled(model, model.first), ts.recipes.ECC(timesteps=8, granularity="channel"), x)
    module = Unrolled.of(snn)
    before = module.answers(module(x)).detach()
    module.normalise(x)
    module.eval()
    assert module.normalised == {"first", "second"}
    assert torch.allclose(module.answers(module(x)).detach(), before, atol=1e-4)
    folded = dataclasses.replace(snn, graph=module.to_graph(), exact_grid=False)
    assert torch.allclose(folded(x), before[-1], atol=1e-4)
    labels = model(x).argmax(-1)
    tuned = ts.finetune(snn, (x, labels), epochs=1, train=("weights",))
    assert {name: tuple(value.shape) for name, value in tuned.ranges.items()} == {
        "relu": (1, HIDDEN),
        "relu2": (1, HIDDEN),
    }


def test_explain_knows_the_bias_that_a_feature_lacks():
    x, model = inputs(64, TOKENS, FEATURES), settled(Averaged())
    snn = ts.convert(model, ts.recipes.ECC(timesteps=2, granularity="channel", beta=0.0), x)
    found = ts.explain(snn, (x, model(x).argmax(-1)))
    assert {change.what for change in found.changes} >= {f"correct the biases before {n}" for n in ("relu", "relu2")}


def test_an_expanded_input_expands_the_axis_that_the_first_layer_reads():
    """Six times as many features, not six times as many tokens; as a convolution of one position reads them."""
    x, model = inputs(BATCH, TOKENS, FEATURES), perceptron()
    expanded = [
        ts.prepare(one, ts.activations.ValueRange(), input=ts.activations.ExpandedInput(), calibration=data).eval()
        for one, data in ((model, x), (Convolved(model).eval(), x.transpose(1, 2)))
    ]
    answer = expanded[0](x)
    assert answer.shape == (BATCH, TOKENS, CLASSES)
    assert torch.allclose(answer, expanded[1](x.transpose(1, 2)).transpose(1, 2), atol=1e-5)
    assert torch.allclose(answer, expanded[0](x.flatten(0, 1)).unflatten(0, (BATCH, TOKENS)), atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_of_a_transposed_convolution_are_quantised_and_counted_by_output_channel(groups: int):
    """One full scale an output channel: a power of two next to the largest weight of that channel."""
    sizes = torch.tensor([1.0, 512.0, 1.0, 512.0]).reshape(groups, -1)  # of output channels
    random = torch.Generator().manual_seed(3)
    weight = (torch.rand(6, 4 // groups, 3, 3, generator=random) + 1) * sizes.repeat_interleave(6 // groups, 0)[
        :, :, None, None
    ]
    conv = Conv(weight=weight, groups=groups, transposed=True, stride=(1, 1), output_padding=(0, 0))
    graph = graph_of((6, 4, 4), conv)
    step = QuantiseWeights(bits=5, scale="logarithmic", fraction_bits=1, granularity="channel")
    made = step.apply(graph, Context(graph, (), 1))["0"].op.weight
    assert float(((made - weight).abs() / weight).max()) < 2 ** (1 / 4) - 1 + 1e-6  # half a step of 2^(1/2)
    assert connections(lower(graph, 1.0, BINARY))[0].magnitudes == weight[:, 0].numel() // groups


SPIKES, DIGEST = [106.0, 95.0], "2fe7f93efd9c60cf"
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tokens_with_thresholds_of_axis_1.transpike"


def test_files_with_thresholds_of_axis_1_give_the_spikes_that_they_gave():
    """Written when channels were axis 1 of every layer: four thresholds, one a token, and as many features."""
    snn = ts.load(GOLDEN)
    assert snn.graph.cells[0].op.unit.threshold.shape == (4, 1) and snn.graph.cells[0].shape == (4, 4)
    trace = recorded(snn, inputs(8, 4, 6))
    digest = hashlib.sha256()
    for value in (*(trace.trains[name] for name in sorted(trace.trains)), trace.logits):
        digest.update(value.double().contiguous().numpy().tobytes())
    assert trace.exact
    assert [float(layer.spikes.sum()) for layer in trace.activity.layers] == SPIKES
    assert digest.hexdigest()[:16] == DIGEST
