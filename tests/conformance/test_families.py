"""What every member of every family must do; a new member is tested by being in its folder's table."""

import dataclasses
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch
from torch import Tensor

import transpike as ts
from networks import Case, mlp, small_cnn
from transpike import activations, encoders, engines, exits, neurons, ops, passes, readouts, recipes, schedules, testing
from transpike.core.activity import Activity
from transpike.core.cell import Cell
from transpike.core.encoder import Encoder
from transpike.core.graph import Node
from transpike.core.naming import is_ours
from transpike.core.op import Op, Synapse
from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import Schedule

FAMILIES: dict[ModuleType, type] = {
    ops: Op, activations: Op, neurons: Cell, encoders: Encoder, readouts: Readout, schedules: Schedule, recipes: Recipe,
    passes: Pass,
}  # fmt: skip


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


POOL = ops.MaxPool()
# Settings for which much happens on few values (two groups, weights of both signs, three periods). They are made for
# these tests; a new class that needs more than defaults has a classmethod `example` (transpike.testing.example).
EXAMPLES: dict[type, tuple[object, tuple[tuple[int, ...], ...]]] = {
    neurons.SignedMultiThreshold: (
        neurons.SignedMultiThreshold(activations.Unchanged(), torch.tensor(0.0625), torch.zeros(()), 5), ((4,),)
    ),
    ops.Add: (ops.Add(coefficients=(1.0, -2.0)), ((2, 3), (2, 3))),
    ops.AdaptiveMaxPool: (ops.AdaptiveMaxPool(size=(2, 2)), ((2, 4, 4),)),
    ops.AvgPool: (ops.AvgPool(kernel=(3, 3), stride=(2, 2), padding=(1, 1)), ((2, 5, 5),)),
    ops.BatchNorm: (
        ops.BatchNorm(weight=rand(2), bias=rand(2), mean=rand(2), variance=rand(2).abs(), epsilon=0.1), ((2, 3),),
    ),
    ops.Cat: (ops.Cat(axis=1), ((2, 3), (1, 3))),
    ops.Conv: (ops.Conv(weight=rand(4, 1, 3, 3), bias=rand(4), groups=2, padding=(1, 1)), ((2, 5, 5),)),
    ops.Dropout: (ops.Dropout(), ((4,),)),
    ops.Identity: (ops.Identity(), ((4,),)),
    ops.AnalogueOp: (ops.AnalogueOp.of("aten.silu.default", (ts.core.call.Wire("x", (4,)),), {})[0], ((4,),)),
    ops.Linear: (ops.Linear(weight=rand(3, 4), bias=rand(3)), ((4,),)),
    ops.MaxPool: (POOL, ((2, 4, 4),)),
    ops.Mean: (ops.Mean(), ((2, 3, 3),)),
    ops.Nearest: (ops.Nearest(picks=((0, 0, 1, 1), (0, 1, 1))), ((2, 2, 2),)),
    ops.Pad: (ops.Pad(amounts=(1, 0, 0, 2)), ((2, 3, 3),)),
    ops.Pick: (ops.Pick(axis=2, positions=(3, 0, 0)), ((2, 5),)),
    ops.Permute: (ops.Permute(axes=(0, 2, 1)), ((2, 3),)),
    ops.Resample: (ops.Resample(rows=rand(2, 3), columns=rand(4, 3)), ((2, 3, 3),)),
    ops.Reshape: (ops.Reshape(shape=(6,)), ((2, 3),)),
    ops.Scale: (ops.Scale(weight=rand(2), bias=rand(2)), ((2, 3),)),
    ops.Slice: (ops.Slice(axis=2, start=1, stop=4, step=2), ((2, 5),)),
    activations.ReLU: (activations.ReLU(), ((4,),)),
    activations.Staircase: (activations.Staircase(torch.tensor([0.5]), 4), ((4,),)),
    activations.Clip: (activations.Clip(ceiling=0.5), ((4,),)),
    activations.LeakyReLU: (activations.LeakyReLU(rand(4), floor=0.5), ((4,),)),
    neurons.IntegrateAndFire: (
        neurons.IntegrateAndFire(activations.ReLU(), torch.tensor([0.5, 1.0]), torch.tensor([0.1, 0.2])), ((2,),),
    ),
    neurons.Burst: (neurons.Burst(activations.ReLU(), torch.tensor(0.25), torch.tensor(0.1), 3), ((2,),)),
    neurons.SignedIntegrateAndFire: (
        neurons.SignedIntegrateAndFire(activations.ReLU(), torch.tensor(0.5), torch.tensor(0.2), "fast-snn"), ((2,),),
    ),
    neurons.Bistable: (neurons.Bistable(activations.ReLU(), torch.tensor(1.0), torch.tensor(0.1), 3), ((2,),)),
    neurons.Synchronous: (neurons.Synchronous(period=3), ((2, 4),)),
    activations.FirstSpikeStaircase: (
        activations.FirstSpikeStaircase(torch.tensor([0.5]), ts.codes.time_code.TimeCode(6, 2.0)), ((4,),),
    ),
    neurons.ExactReLU: (
        neurons.ExactReLU(
            activations.ReLU(), torch.tensor(0.5), torch.tensor(0.0), span=torch.tensor(2.0), total=torch.tensor(0.25)
        ),
        ((2,),),
    ),
    neurons.FirstCrossing: (
        neurons.FirstCrossing(activations.ReLU(), torch.tensor([0.5, 1.0]), torch.tensor([0.1, 0.2]), timed=12), ((2,),),
    ),
    neurons.FirstSpike: (
        neurons.FirstSpike(
            activations.ReLU(), torch.tensor(1.0), torch.tensor(0.0), code=ts.codes.time_code.TimeCode(12, 2.0)
        ),
        ((2,),),
    ),
    neurons.Integrator: (neurons.Integrator(), ((2,),)),
    neurons.Latched: (neurons.Latched(activations.ReLU(), torch.tensor(2.0), torch.tensor(0.0), "corrective"), ((2,),)),
    neurons.PendingInput: (neurons.PendingInput(activations.ReLU(), torch.tensor(2.0), torch.tensor(0.0)), ((2,),)),
    neurons.Retimed: (neurons.Retimed(), ((2, 4),)),
    neurons.DifferentialMultiThreshold: (
        neurons.DifferentialMultiThreshold(activations.ReLU(), torch.tensor([0.05, 0.1]), torch.tensor(0.0), 5), ((2,),),
    ),
    activations.Function: (
        activations.Function("aten.silu.default", (("input", 0),)), ((4,),),
    ),
    neurons.SigmaDelta: (
        neurons.SigmaDelta(
            activations.Function("aten.silu.default", (("input", 0),)), torch.tensor([0.05, 0.1]), torch.tensor(0.0), 5
        ),
        ((2,),),
    ),
    neurons.DifferentialOperator: (neurons.DifferentialOperator(ops.Scale(weight=rand(2))), ((2, 3),)),
    neurons.OffsetCorrected: (
        neurons.OffsetCorrected(
            activations.ReLU(), torch.tensor([0.5, 1.0]), torch.tensor([0.1, 0.2]), torch.tensor([0.01, 0.02]), 3, 2
        ),
        ((2,),),
    ),
    neurons.ResidualGate: (
        neurons.ResidualGate(activations.ReLU(), torch.tensor(0.5), torch.tensor(0.2), torch.tensor(0.01), 2), ((2,),),
    ),
    neurons.Switched: (neurons.Switched(activations.ReLU(), torch.tensor(0.5), torch.tensor(0.2)), ((2,),)),
    neurons.MultiThreshold: (
        neurons.MultiThreshold(activations.ReLU(), torch.tensor([0.1, 0.2]), torch.tensor(0.05), 3), ((2,),),
    ),
    neurons.LateralInhibition: (neurons.LateralInhibition(POOL), ((2, 4, 4),)),
    neurons.MaximumOfEstimates: (neurons.MaximumOfEstimates(POOL), ((2, 4, 4),)),
    neurons.CurrentMaximum: (neurons.CurrentMaximum(POOL), ((2, 4, 4),)),
    neurons.OrMaximum: (neurons.OrMaximum(POOL), ((2, 4, 4),)),
    neurons.GatedMaximum: (neurons.GatedMaximum(POOL), ((2, 4, 4),)),
    neurons.TemporalDifference: (neurons.TemporalDifference(ops.Scale(weight=rand(2))), ((2, 3),)),
}  # fmt: skip
OPS = [*ops.members, *activations.members]
LINEAR = [kind for kind in ops.members if kind in EXAMPLES and EXAMPLES[kind][0].is_linear]
LOWERED = [kind for kind in LINEAR if kind is not ops.BatchNorm]  # which is folded before


def example(kind: type) -> tuple[object, tuple[tuple[int, ...], ...]]:
    """A member with weights, and the shapes of its inputs."""
    return EXAMPLES[kind] if kind in EXAMPLES else testing.example(kind)


def name(kind: type) -> str:
    return kind.__name__


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_no_class_of_a_folder_is_missing_from_its_members(family):
    found = set()
    for module in pkgutil.walk_packages(family.__path__, f"{family.__name__}."):
        if not module.name.rpartition(".")[2].startswith("_"):
            loaded = importlib.import_module(module.name)
            found |= {
                kind for _, kind in inspect.getmembers(loaded, inspect.isclass)
                if kind.__module__ == loaded.__name__ and issubclass(kind, FAMILIES[family])
            }  # fmt: skip
    bases = {base for member in family.members for base in member.__mro__[1:]}  # what members are made of
    assert found and found - bases <= set(family.members) <= found | bases


@pytest.mark.parametrize("family", [encoders, readouts, schedules, recipes, engines], ids=lambda f: f.__name__)
def test_a_table_of_names_holds_every_member_once(family):
    assert [one for one in family.table.values() if is_ours(one.__module__)] == list(family.members)
    assert all(text == text.lower() and " " not in text for text in family.table)


def test_no_operator_of_torch_is_claimed_twice():
    claimed = [operator for kind in OPS for operator in kind.aten]
    assert sorted(set(claimed)) == sorted(claimed)


@pytest.mark.parametrize("kind", OPS, ids=name)
def test_an_op_keeps_its_laws(kind):
    op, shapes = example(kind)
    testing.check_op(op, *shapes)


@pytest.mark.parametrize("kind", neurons.members, ids=name)
def test_a_cell_keeps_its_laws(kind):
    cell, shapes = example(kind)
    testing.check_neuron(cell, *shapes)


@pytest.mark.parametrize("kind", [*readouts.members, *schedules.members, *exits.members], ids=name)
def test_settings_keep_their_laws(kind):
    testing.check_member(kind())


@pytest.mark.parametrize("kind", encoders.members, ids=name)
def test_an_encoder_keeps_its_laws(kind):
    testing.check_encoder(kind())


OUTPUTS_AND_TARGETS = {
    ts.tasks.Binary: (rand(3, 6, 1), torch.arange(6) % 2),
    ts.tasks.MultiLabel: (rand(3, 6, 2), torch.arange(12).reshape(6, 2) % 3 % 2),
    ts.tasks.Regression: (rand(3, 6, 2), rand(6, 2)),
    ts.tasks.Sequence: (rand(3, 6, 5, 4), torch.arange(30).reshape(6, 5) % 4),
    ts.tasks.PixelClassification: (rand(3, 6, 4, 2, 2), torch.arange(24).reshape(6, 2, 2) % 4),
}
"""Where the logits of ten classes do not fit the task."""


@pytest.mark.parametrize("kind", ts.tasks.members, ids=name)
def test_a_task_keeps_its_laws(kind):
    testing.check_task(kind(), *OUTPUTS_AND_TARGETS.get(kind, ()))


@pytest.mark.parametrize("kind", ts.energy.members, ids=name)
def test_an_energy_model_keeps_its_laws(kind):
    model, activity = kind(), None
    if not model.fits(binary := _activity(recipes.ECC(timesteps=8))):
        activity = _activity(recipes.CAT(timesteps=8, weight_bits=5))  # the processor of first spikes runs nothing else
    testing.check_energy_model(model, activity or binary)


def _activity(recipe: Recipe) -> Activity:
    case = small_cnn()
    x = case.calibration.abs()
    return ts.simulate(ts.convert(fitting(recipe, case), recipe, x), x[:4]).activity


@pytest.mark.parametrize("label", ts.chips.NAMES)
def test_a_chip_keeps_its_laws(label):
    testing.check_chip(ts.chips.load(label))


def test_a_data_set_keeps_its_laws():
    testing.check_dataset("digits")


def _learned() -> tuple[ts.Graph, Tensor]:
    case = small_cnn()
    return fitting(recipes.PASCAL(timesteps=8), case), case.calibration


def _without_biases() -> tuple[ts.Graph, Tensor]:
    case = mlp()
    return fitting(recipes.Cao(), case), case.calibration


NETWORKS = {
    passes.LearnedThresholds: _learned, passes.RefuseLevels: _learned, passes.RefuseBiases: _without_biases,
    passes.RefuseUnquantised: _learned, passes.UseQuantisedLevels: _learned,
}  # fmt: skip
AFTER = {passes.SpikeNorm: (passes.RemoveDropout(), passes.FoldBatchNorm(), passes.PercentileThresholds())}


@pytest.mark.parametrize("kind", [kind for kind in passes.members if kind is not passes.ReplaceNeurons], ids=name)
def test_a_pass_keeps_its_laws(kind):
    model, x = NETWORKS[kind]() if kind in NETWORKS else (None, None)
    testing.check_pass(kind(), model, x, AFTER.get(kind))


def test_every_linear_op_but_an_interpolation_passes_levels_of_one_spike_scale():
    refusing = set()
    for kind in LOWERED:
        op, shapes = example(kind)
        spike_scales = tuple(torch.full((1, *shape), 0.5, dtype=torch.float64) for shape in shapes)
        if op.to(dtype=torch.float64).propagate_levels(spike_scales) is None:
            refusing.add(kind)
    assert refusing == {ops.Resample, ops.Add}  # this Add subtracts twice its second input


@pytest.mark.parametrize("kind", [encoders.EventFrames, encoders.SignedEventFrames], ids=name)
def test_a_run_ends_with_the_frames(kind):
    x = (rand(6, 9, 4) > 0).float()
    assert kind().most_steps(x) == 9
    with pytest.raises(ts.errors.SettingError, match="10 time steps of an input with 9 frames"):
        kind().calibrated(1.0).counts(x, torch.arange(6), 10)


@pytest.mark.parametrize("kind", readouts.members, ids=name)
def test_a_readout_answers_the_mean_so_far(kind):
    readout, outputs = kind(), [rand(2, 3) + t for t in range(5)]
    state = readout.init(outputs[0])
    for t, output in enumerate(outputs, 1):
        state = readout.update(state, output, t)
        # sums in float64, in another order
        assert torch.allclose(readout.logits(state, t), torch.stack(outputs[:t]).double().mean(0), rtol=0, atol=1e-12)


def test_streaming_answers_at_every_step_and_needs_no_more():
    graph, schedule = _chain(), ts.schedules.Streaming()
    assert schedule.total_steps(graph, 12) == 12
    assert schedule.answers(12) == tuple(range(1, 13))


def test_synchronous_layers_need_a_window_for_each_neuron_and_one_for_the_answer():
    graph, schedule = _chain(), ts.schedules.LayerSynchronous()
    assert schedule.total_steps(graph, 12) == 3 * 12
    assert [schedule.start(graph, node, 12) for node in graph] == [0, 0, 0, 12, 12, 24]
    assert schedule.answers(12) == (1, 2, 4, 8, 12)


def _chain() -> ts.Graph:
    case = mlp(sizes=(3, 4, 4, 2))
    return ts.convert(case.graph, recipes.ECC(timesteps=4), case.calibration).graph


# what fires before it has heard everything answers like its source on networks that were trained for it only, and a
# gate that is set after a few steps is wrong for some neurons for ever
NO_TWINS = (recipes.RueckauerLiu, recipes.S4NN, recipes.SRP)


def suited(kind: type[Recipe], **settings: object) -> Recipe:
    """The recipe with those of the settings that it has."""
    if kind is recipes.ExactMapping:  # whose time is continuous
        settings = {**settings, "timesteps": 1}
    if kind is recipes.RueckauerLiu:  # whose largest activation fires after so many steps
        settings = {"resolution": 4, **settings}
    if kind is recipes.SRP:
        settings = {"pre_simulation_steps": 2, **settings}
    return kind(**{key: value for key, value in settings.items() if key in kind.__dataclass_fields__})


def clipped(case: Case) -> ts.Graph:
    """The network with clips that change nothing on the calibration data: thresholds that were learned."""
    highest: dict[str, float] = {}
    case.graph.run(case.calibration, observe=lambda node, inputs, out: highest.update({node.name: float(out.max())}))

    def change(node: Node) -> Node | None:
        ceiling = activations.Clip(ceiling=highest[node.name])
        return dataclasses.replace(node, op=ceiling) if isinstance(node.op, activations.ReLU) else None

    return case.graph.rewrite(change)


def fitting(recipe: Recipe, case: Case) -> ts.Graph:
    """A network that the recipe takes: ReLUs, clips, stairs, or no biases."""
    if isinstance(recipe, recipes.ExactMapping):
        return case.graph

    def change(node: Node) -> Node | None:
        op = node.op
        if isinstance(recipe, recipes.PASCAL | recipes.SpikeZIP) and isinstance(op, activations.Clip):
            return dataclasses.replace(node, op=activations.Staircase(torch.tensor([op.ceiling]), recipe.timesteps))
        if isinstance(recipe, recipes.Cao) and isinstance(op, ops.BatchNorm):
            return dataclasses.replace(node, op=dataclasses.replace(op, bias=0 * op.bias, mean=0 * op.mean))
        if isinstance(recipe, recipes.Cao) and isinstance(op, Synapse):
            return dataclasses.replace(node, op=dataclasses.replace(op, bias=None))
        return None

    return clipped(case).rewrite(change)


@pytest.mark.parametrize("kind", recipes.members, ids=name)
@pytest.mark.parametrize(
    "changes", [{}, {"timesteps": 5, "percentile": 98.0, "granularity": "layer", "weight_bits": 6}]
)
def test_a_recipe_keeps_its_laws(kind, changes):
    firing = {"threshold": 1.0} if kind is recipes.S4NN else {}  # the default is that of networks trained for it
    case, recipe = mlp() if changes else small_cnn(), suited(kind, **{"timesteps": 8, **changes, **firing})
    testing.check_recipe(recipe, fitting(recipe, case), case.calibration.abs())  # from 0 on, for first spikes


@pytest.mark.parametrize("kind", recipes.members, ids=name)
def test_a_recipe_prints_what_differs_from_its_defaults(kind):
    assert str(kind()) == f"{kind.name}()"
    if kind is not recipes.ExactMapping:
        assert str(kind(timesteps=7)) == f"{kind.name}(timesteps=7)"


@pytest.mark.parametrize("label", sorted(recipes.table))
def test_a_recipe_is_listed_under_its_own_name(label):
    assert recipes.table[label].name == label


@pytest.mark.parametrize("kind", [k for k in recipes.members if k not in NO_TWINS], ids=name)
def test_a_recipe_converts_a_network_that_answers_like_its_source(kind):
    case = small_cnn()
    settings = {"timesteps": 256, "reset": "soft", "percentile": 100.0, "encoder": encoders.ConstantCurrent()}
    fine = {
        "tau": 32.0 if kind is not recipes.T2FSNN else 45.0,
        "wait_steps": 256,
        "epochs": 0,
    }  # eight octaves of slots
    fine |= {"threshold_count": 10, "levels": 1023, "gamma": 4, "threshold": 8.0}  # no clip, no coarse step
    fine |= {} if kind().schedule.mode == "differences" else {"pooling": "lateral-inhibition"}  # others are approximate
    recipe = suited(kind, **settings, **fine, updates=1000)
    network = fitting(recipe, case)
    snn = ts.convert(network, recipe, case.calibration)
    x = case.calibration[:8]  # nothing clips on it
    source, answer = network.run(x), snn(x)
    # two layers of neurons, each within a few steps of θ/256
    assert (answer - source).abs().max() < 0.05 * source.abs().max()


@pytest.mark.parametrize("kind", recipes.members, ids=name)
def test_unknown_settings_of_a_recipe_are_refused(kind):
    with pytest.raises(ts.errors.SettingError, match="has no setting 'nonsense'; it has timesteps"):
        kind(nonsense=1)
    with pytest.raises(ts.errors.SettingError, match=r"'time_steps' \(did you mean 'timesteps'\?\)"):
        kind(time_steps=1)


def test_a_plain_member_needs_no_example_of_its_own():
    for kind in (neurons.IntegrateAndFire, neurons.Switched, neurons.OrMaximum, activations.ReLU, ops.Identity):
        assert isinstance(testing.example(kind)[0], kind)

    @dataclasses.dataclass(frozen=True, eq=False)
    class Root(ops.Identity):
        degree: int

    with pytest.raises(AssertionError, match=r"Root has fields without default \(degree\).*classmethod example"):
        testing.example(Root)
