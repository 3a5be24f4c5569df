"""Steps that promise the same function keep it, and a broken promise does not pass."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import transpike as ts
from networks import Residual, cases, mlp, random_norm, settle, small_cnn
from transpike import passes
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.encoders import ConstantCurrent
from transpike.errors import NotExact, SettingError, UnsupportedModel
from transpike.neurons import CurrentMaximum, GatedMaximum, IntegrateAndFire, LateralInhibition, TemporalDifference
from transpike.ops import AdaptiveMaxPool, BatchNorm, Dropout, Identity, MaxPool, Scale
from transpike.passes import (
    FoldBatchNorm,
    PercentileThresholds,
    PoolBeforeActivation,
    PoolInTime,
    QuantiseWeights,
    RemoveDropout,
    SpikingAverage,
)
from transpike.recipes import ECC

EXACT = [step for step in passes.members if step.exact]
# float32 weights multiplied out once, on answers of size one
TOLERANCE = 2e-5


def context(graph: ts.Graph, *batches: Tensor) -> Context:
    return Context(graph, batches, timesteps=8, remarks=[])


def applied(step: object, model: nn.Module, x: Tensor) -> tuple[ts.Graph, ts.Graph]:
    before = ts.capture(model.eval(), x)
    return before, step.apply(before, context(before, x))


def agree(before: ts.Graph, after: ts.Graph, x: Tensor) -> bool:
    expected = before.run(x)
    return torch.allclose(after.run(x), expected, rtol=0, atol=TOLERANCE * max(1.0, float(expected.abs().max())))


def ops(graph: ts.Graph) -> list[type]:
    return [type(node.op) for node in graph]


def test_the_exact_steps_are_those_that_these_tests_know():
    changing = {FoldBatchNorm, PoolBeforeActivation, RemoveDropout, SpikingAverage}
    changing |= {passes.EncodeWires, passes.NeuronsForFunctions}  # tests/recipes/test_sigma_delta.py
    changing |= {passes.ProductsOfWires}  # tests/recipes/test_products.py
    changing |= {passes.Rectify}  # tests/laws/test_rectify.py
    changing |= {passes.FoldLayerNorm}  # tests/recipes/test_features.py
    changing |= {passes.JoinQuantisers}  # tests/recipes/test_transformers.py
    changing |= {passes.JoinMasks, passes.MaskProducts, passes.FoldFactors}  # tests/recipes/test_attention.py
    changing |= {passes.RecogniseNorms}  # tests/recipes/test_norms_by_hand.py
    changing |= {passes.RecogniseFunctions}  # tests/recipes/test_functions.py
    changing |= {passes.MergeWeights}  # tests/recipes/test_linear_wires.py
    assert set(EXACT) == changing | {
        passes.RefuseBiases,
        passes.RefuseLevels,
        passes.RefuseUnquantised,
    }  # which change nothing


@pytest.mark.parametrize("step", [FoldBatchNorm, RemoveDropout, SpikingAverage])
@given(case=cases())
def test_an_exact_step_keeps_the_function(step, case):
    after = step().apply(case.graph, context(case.graph, case.x))
    assert agree(case.graph, after, case.x)


class Summed(nn.Module):
    """Clipped activations, a linear pooling of them, a layer."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool, self.conv = pool, nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.pool(self.conv(x).clamp(0, 0.2)).flatten(1) * 2 - 0.1)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.sum((2, 3)),
        lambda x: F.avg_pool2d(x, 2, divisor_override=1),
        lambda x: F.avg_pool2d(F.avg_pool2d(x, 2, divisor_override=1), 3, divisor_override=2),
        lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    ],
    ids=["sum", "sums of windows", "sums of sums", "bicubic"],
)
def test_a_neuron_behind_a_sum_is_not_clipped_as_one_behind_an_average(pool):
    torch.manual_seed(0)
    x = torch.rand(8, 2, 6, 6)
    before, after = applied(SpikingAverage(), Summed(pool), x)
    assert agree(before, after, x)


@pytest.mark.parametrize(
    "step", [FoldBatchNorm(), RemoveDropout(), QuantiseWeights(), PercentileThresholds(), PoolInTime()], ids=repr
)
def test_a_step_leaves_the_graph_it_was_given_alone(step):
    case = small_cnn()
    tensors = copy.deepcopy(case.graph.parameters())
    text = str(case.graph)
    step.apply(case.graph, context(case.graph, case.calibration))
    assert str(case.graph) == text
    assert all(torch.equal(value, tensors[name]) for name, value in case.graph.parameters().items())


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-2, 1.0])
def test_folding_uses_the_layer_s_own_epsilon(eps):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), random_norm(2, 4, eps), nn.Flatten())
    model[1].running_var.fill_(1e-2)  # comparable to ε
    x = torch.randn(8, 2, 5, 5)
    before, after = applied(FoldBatchNorm(), model, x)
    assert BatchNorm not in ops(after) and Scale not in ops(after)
    assert agree(before, after, x)


def test_each_layer_is_folded_with_its_own_epsilon():
    torch.manual_seed(0)
    layers = []
    for eps in (1e-5, 0.5):
        layers += [nn.Conv2d(2, 2, 3, padding=1), random_norm(2, 2, eps), nn.ReLU()]
    model, x = nn.Sequential(*layers, nn.Flatten()), torch.randn(8, 2, 5, 5)
    settle(model, x)
    before, after = applied(FoldBatchNorm(), model, x)
    assert BatchNorm not in ops(after) and agree(before, after, x)


@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv_transpose2d", "groups", "no affine"])
def test_folding_into_every_kind_of_synapse(kind):
    torch.manual_seed(0)
    layer, norm, shape = {
        "linear": (nn.Linear(6, 4), random_norm(1, 4, 1e-3), (6,)),
        "conv1d": (nn.Conv1d(2, 4, 3), random_norm(1, 4, 1e-3), (2, 6)),
        "conv_transpose2d": (nn.ConvTranspose2d(2, 4, 3, groups=2), random_norm(2, 4, 1e-3), (2, 5, 5)),
        "groups": (nn.Conv2d(4, 4, 3, groups=2), random_norm(2, 4, 1e-3), (4, 5, 5)),
        "no affine": (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False), (2, 5, 5)),
    }[kind]
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.1, 2)
    x = torch.randn(8, *shape)
    before, after = applied(FoldBatchNorm(), nn.Sequential(layer, norm), x)
    assert len(after.nodes) == 2 and agree(before, after, x)


def test_a_normalisation_after_no_synapse_becomes_a_diagonal():
    torch.manual_seed(0)
    model = nn.Sequential(random_norm(2, 2, 0.1), nn.ReLU(), nn.MaxPool2d(2), random_norm(2, 2, 0.1), nn.Flatten())
    x = torch.randn(8, 2, 6, 6)
    settle(model, x)
    before, after = applied(FoldBatchNorm(), model, x)
    assert ops(after).count(Scale) == 2 and BatchNorm not in ops(after)
    assert agree(before, after, x)


def test_a_convolution_that_others_read_too_is_not_folded_into():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3), random_norm(2, 2, 1e-5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return (self.norm(x) + x).flatten(1)

    torch.manual_seed(0)
    x = torch.randn(8, 2, 5, 5)
    model = settle(Fork(), x)
    before, after = applied(FoldBatchNorm(), model, x)
    assert Scale in ops(after) and agree(before, after, x)


def test_a_normalisation_of_sequences_is_not_folded_into_a_linear_layer_on_another_axis():
    # BatchNorm1d normalises axis 1 of (batch, 4, 5); Linear mixes the last axis
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 5), random_norm(1, 4, 1e-3)), torch.randn(8, 4, 6)
    settle(model, x)
    before, after = applied(FoldBatchNorm(), model, x)
    assert agree(before, after, x)


def test_a_pool_moves_before_the_activation():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten()), torch.randn(8, 2, 8, 8)
    before, after = applied(PoolBeforeActivation(), model, x)
    kinds = ops(after)
    assert kinds.index(MaxPool) < [node.op.role if isinstance(node.op, Op) else "" for node in after].index(
        "activation"
    )
    assert torch.equal(before.run(x), after.run(x))


class Pooled(nn.Module):
    """A pooling, in some form, of a convolution's activations."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool, self.conv = pool, nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.relu(self.conv(x))).flatten(1)


POOLS = {
    "amax": lambda x: x.amax((2, 3)),
    "over channels": lambda x: x.amax(1),
    "flattened": lambda x: F.max_pool1d(x.flatten(2), 4),
    "two in a row": lambda x: F.max_pool2d(F.max_pool2d(x, 2), 2),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, 2),
    "padded": lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2),
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_moves_before_the_activation_also_through_wiring(pool):
    torch.manual_seed(0)
    x = torch.randn(8, 2, 8, 8)
    before, after = applied(PoolBeforeActivation(), Pooled(POOLS[pool]), x)
    roles = [node.op.role if isinstance(node.op, Op) else "" for node in after]
    pools = [index for index, kind in enumerate(ops(after)) if kind in (MaxPool, AdaptiveMaxPool)]
    assert pools and max(pools) < roles.index("activation")
    assert torch.equal(before.run(x), after.run(x))


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(F.avg_pool2d(x, 2), 2),
        lambda x: F.max_pool2d(torch.cat([x, -x], 1), 2),
        lambda x: F.max_pool2d(x[:, :1], 2) + F.max_pool2d(x[:, 1:2], 2),
    ],
    ids=["averages", "two layers", "two readers"],
)
def test_a_pool_of_spikes_is_not_taken_for_one_of_currents(pool):
    with pytest.raises(UnsupportedModel, match="lateral-inhibition"):
        applied(PoolBeforeActivation(), Pooled(pool), torch.randn(8, 2, 8, 8))


def test_dropout_and_what_does_nothing_leave_the_graph():
    model = nn.Sequential(nn.Dropout(), nn.Linear(4, 4), nn.Identity(), nn.Dropout(0.2), nn.Linear(4, 2), nn.Dropout())
    x = torch.randn(8, 4)
    before, after = applied(RemoveDropout(), model, x)
    assert not {Dropout, Identity} & set(ops(after)) and len(after.nodes) == 3
    assert agree(before, after, x)


@pytest.mark.parametrize(
    ("rule", "cell"),
    [("lateral-inhibition", LateralInhibition), ("before-neuron", CurrentMaximum), ("gated", GatedMaximum)],
)
def test_each_pooling_rule_gives_its_cell(rule, cell):
    model, x = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), torch.rand(8, 1, 4, 4)
    _, after = applied(PoolInTime(rule), model, x)
    assert cell in ops(after) and MaxPool not in ops(after)


def test_an_even_adaptive_maximum_becomes_windows_of_one_size():
    model, x = nn.Sequential(nn.ReLU(), nn.AdaptiveMaxPool2d((2, 3)), nn.Flatten()), torch.rand(8, 1, 4, 6)
    _, after = applied(PoolInTime(), model, x)
    pool = next(node.op for node in after if isinstance(node.op, LateralInhibition)).pool
    assert (pool.kernel, pool.stride) == ((2, 2), (2, 2))


def test_an_analogue_operator_becomes_a_temporal_difference_with_a_remark():
    x = torch.rand(8, 4)
    graph = ts.capture(nn.Sequential(nn.Linear(4, 4), nn.SiLU()), x, on_unsupported="keep")
    seen = context(graph, x)
    after = PoolInTime().apply(graph, seen)
    assert TemporalDifference in ops(after)
    assert len(seen.remarks) == 1 and seen.remarks[0].endswith("silu (1)")


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantised_weights_take_few_values(bits):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(40, 40), nn.ReLU()), torch.rand(8, 40)
    before, after = applied(QuantiseWeights(bits), model, x)
    old, new = before["0"].op.weight, after["0"].op.weight
    step = old.abs().max() / (2 ** (bits - 1) - 1)
    assert len(new.unique()) <= 2**bits - 1
    # rounding moves a weight by half a step, plus one unit in the last place
    assert bool(((new - old).abs() <= step / 2 * (1 + 1e-5)).all()) and float(new.abs().max()) == float(old.abs().max())


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 100.0])
@pytest.mark.parametrize("granularity", ["layer", "channel", "neuron"])
def test_thresholds_are_percentiles_over_all_calibration_data(percentile, granularity):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()), torch.randn(40, 1, 5, 5)
    nn.init.constant_(model[0].bias, 0.5)  # most answers are positive, the median too
    graph = ts.capture(model, x)
    step = PercentileThresholds(granularity, percentile=percentile)
    split = step.apply(graph, context(graph, x[:7], x[7:30], x[30:]))
    found = next(node.op for node in split if isinstance(node.op, IntegrateAndFire)).threshold
    rates = graph.run(x).double()
    axes = {"layer": (0, 1, 2, 3), "channel": (0, 2, 3), "neuron": (0,)}[granularity]
    kept = [axis for axis in range(4) if axis not in axes]
    rows = rates.permute(*kept, *axes).reshape(*(rates.shape[axis] for axis in kept), -1)
    expected = torch.quantile(rows, percentile / 100, -1)
    expected = torch.where(expected > 0, expected, expected.max())
    # an interpolation in float32 against one in float64
    assert torch.allclose(found.double().flatten(), expected.flatten(), rtol=1e-5, atol=0)


def test_a_clip_bounds_the_threshold():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Hardtanh(0, 0.1)), torch.rand(40, 4)
    _, after = applied(PercentileThresholds("layer", percentile=100.0), model, x)
    assert float(after["1"].op.threshold) == pytest.approx(0.1, rel=1e-7)  # the ceiling itself, in float32


def test_a_spiking_output_is_a_neuron_behind_the_last_layer():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(40, 4)
    nn.init.constant_(model[2].bias, 2.0)
    _, after = applied(PercentileThresholds(spiking_output=True), model, x)
    assert isinstance(after.output.op, IntegrateAndFire) and after.output.inputs == ("2",)


def test_the_threshold_of_a_spiking_output_looks_at_positive_answers_only():
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-3.0]]))
    x = torch.arange(1.0, 9.0).reshape(8, 1) / 8
    _, after = applied(PercentileThresholds("layer", True, percentile=100.0), model, x)
    assert float(after.output.op.threshold) == 1.0


def converts(model: nn.Module, recipe: ECC, x: Tensor) -> ts.SNN:
    return ts.convert(model.eval(), recipe, x)


def test_a_fold_that_drops_epsilon_does_not_pass(monkeypatch):
    def dropped(self: FoldBatchNorm, op: BatchNorm) -> tuple[Tensor, Tensor]:
        return op.factor_and_shift(epsilon=0.0)

    torch.manual_seed(0)
    x = torch.rand(32, 2, 6, 6)
    model = settle(nn.Sequential(nn.Conv2d(2, 4, 3), random_norm(2, 4, 0.3), nn.ReLU(), nn.Flatten()), x)
    converts(model, ECC(timesteps=4), x)
    monkeypatch.setattr(FoldBatchNorm, "factor_and_shift", dropped)
    with pytest.raises(NotExact, match="FoldBatchNorm must keep the same function, and changed it"):
        converts(model, ECC(timesteps=4), x)


def test_a_fold_that_forgets_the_mean_does_not_pass(monkeypatch):
    def dropped(self: FoldBatchNorm, op: BatchNorm) -> tuple[Tensor, Tensor]:
        return op.factor_and_shift(use_mean=False)

    case = small_cnn()
    monkeypatch.setattr(FoldBatchNorm, "factor_and_shift", dropped)
    with pytest.raises(NotExact, match="FoldBatchNorm"):
        ts.convert(case.graph, ECC(timesteps=4), case.calibration)


def test_a_step_that_removes_too_much_does_not_pass(monkeypatch):
    def apply(self: RemoveDropout, graph: ts.Graph, _: Context) -> ts.Graph:
        return graph.rewrite(lambda node: node.inputs[0] if isinstance(node.op, ts.activations.ReLU) else None)

    case = small_cnn()
    monkeypatch.setattr(RemoveDropout, "apply", apply)
    with pytest.raises(NotExact, match="RemoveDropout"):
        ts.convert(case.graph, ECC(timesteps=4), case.calibration)


@pytest.mark.parametrize("step", passes.members, ids=lambda s: s.__name__)
def test_the_settings_of_a_step_cannot_change(step):
    made = step()
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.anything = 1


LONG = {
    "few-steps": ["SquaredErrorThresholds", "CalibrateBias", "CalibratePotential"],
    "ecc": ["PercentileThresholds"],
    "adafire": ["PercentileThresholds", "SearchBursts", "CalibrateBias"],
    "t2fsnn": ["PercentileThresholds", "TrainKernels"],
    "exact-mapping": ["ExactTimes"],
    "ltb": ["LocalThresholdBalancing"],
}


@pytest.mark.parametrize("name", LONG)
def test_progress_is_that_of_the_whole_conversion_and_never_falls(name):
    case, heard = small_cnn(), []
    recipe = ts.recipes.table[name]()
    ts.convert(case.graph, recipe, case.calibration.abs(), progress=lambda *what: heard.append(what))
    stages, done, totals = zip(*heard, strict=True)
    assert list(dict.fromkeys(stages)) == [*LONG[name], "firing rates"]
    assert list(done) == sorted(done) and done[0] == 0 and done[-1] == totals[0] and len(set(totals)) == 1
    for stage in LONG[name]:  # each tells of its own parts, up to its share
        told = [d for s, d, _ in heard if s == stage]
        assert len(set(told)) > 1 and told[-1] > told[0]


def test_the_work_of_layers_is_that_of_their_multiplications():
    """Two layers, the second with ten times the weights: when the first is done, a tenth is."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 2))
    heard: list[tuple[float, float]] = []
    graph = ts.convert(model, ECC(4), torch.rand(32, 20)).graph
    source = ts.capture(model, torch.rand(1, 20))
    encoder, told = ConstantCurrent(), lambda *what: heard.append(what)
    given = Context(source, (torch.rand(32, 20),), 4, encoder=encoder, analogue=[source], progress=told)
    passes.CalibrateBias(8).apply(graph, given)
    first, second = [done / total for done, total in heard]
    assert first == pytest.approx((400 + 20) / (400 + 20 + 4000 + 200)) and second == 1


def test_parts_of_a_pass_report_the_progress_of_all():
    heard: list[float] = []
    source = small_cnn().graph
    whole = Context(source, (), 4, progress=lambda done, total: heard.append(done / total))
    first, second, third = whole.divided(1, 0, 3)
    for part in (first, second, third):
        part.progress(1, 2)
        part.progress(2, 2)
    assert heard == [0.125, 0.25, 0.25, 0.25, 0.625, 1.0]


class Sums(nn.Module):
    """Neurons a, b, c, d whose spikes meet in chained sums, after a pool and through a flattening; e meets a current."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 2, 1) for _ in range(6))
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e = (layer(x).relu() for layer in list(self.layers)[:5])
        chained = (a + self.pool(b)).flatten(1) + c.flatten(1)
        return chained + (c + d).flatten(1) + (e + self.layers[5](x)).flatten(1)


def test_thresholds_are_shared_along_chains_of_sums_and_a_current_ends_them():
    torch.manual_seed(0)
    model, x = Sums(), torch.rand(64, 1, 4, 4)
    for k, layer in enumerate(model.layers):
        nn.init.constant_(layer.weight, 1.0 + k)
    graphs = {
        r: ts.convert(model, ECC(8, residual=r, granularity="layer"), x, exact_grid=False).graph
        for r in ("currents", "shared")
    }
    own, shared = (
        [float(node.op.threshold) for node in graph if isinstance(node.op, IntegrateAndFire)]
        for graph in graphs.values()
    )
    assert len(set(own)) == 5
    assert shared[:4] == [max(own[:4])] * 4 and shared[4] == own[4]


def test_sharing_nothing_leaves_a_remark():
    case = mlp()
    plain = ts.convert(case.graph, ECC(8, residual="shared"), case.calibration)
    assert not [remark for remark in plain.remarks if "changed nothing" in remark]  # it has no sum
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Residual(nn.Linear(3, 3), nn.Identity()))
    snn = ts.convert(model, ECC(8, residual="shared"), torch.rand(32, 3))
    assert [remark for remark in snn.remarks if "changed nothing" in remark]


@pytest.mark.parametrize(
    ("general", "own"),
    [
        (passes.UseNeuron(), passes.UseNeurons()),
        (passes.UseNeuron(ts.neurons.Burst, (("gamma", 3),)), passes.UseNeurons(kind="burst", gamma=3)),
        (passes.UseNeuron(IntegrateAndFire, (("leak", 0.5),)), passes.UseNeurons(leak=0.5)),
        (passes.UseNeuron(ts.neurons.Switched), passes.UseSwitches()),
    ],
)
def test_one_pass_sets_any_neuron(general, own):
    case = small_cnn()
    before = PercentileThresholds().apply(case.graph, context(case.graph, case.calibration))
    a, b = (one.apply(before, context(case.graph, case.calibration)) for one in (general, own))
    assert ops(a) == ops(b) and general.forgets == own.forgets
    assert all(torch.equal(value, b.parameters()[name]) for name, value in a.parameters().items())
    assert [n.op.describe() for n in a.cells] == [n.op.describe() for n in b.cells]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (ts.neurons.Retimed, (), "Retimed has no field threshold, initial"),
        (ts.neurons.Burst, (("gama", 3),), "Burst has no setting gama; it has gamma"),
        (ts.neurons.Burst, (("gamma", 0),), "gamma must be an integer"),
        (int, (), "derived from Neuron"),
    ],
)
def test_a_neuron_that_does_not_fit_is_refused(kind, settings, message):
    with pytest.raises(SettingError, match=message):
        passes.UseNeuron(kind, settings)
