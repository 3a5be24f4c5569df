"""A class counts as the plain form of its parent only where nothing in it behaves differently."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import transpike as ts
from transpike import activations, encoders, neurons, ops, recipes, schedules
from transpike.activations import FirstSpikeStaircase, ReLU, Staircase
from transpike.codes.time_code import TimeCode
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.core.recipe import Recipe
from transpike.errors import SettingError, TranspikeError, UnsupportedModel
from transpike.passes import RemoveDropout
from transpike.training.spiking.unrolled import Unrolled

ENGINES = ("dense", "event", "auto")
STEPS = 6


def weights(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


def network(activation: Op, pool: bool = True) -> Graph:
    """A convolution, maximum pooling and a linear layer, without biases."""
    end = 3 * 3 if pool else 6 * 6
    pooled = (Node("pool", ops.MaxPool(), ("first",)),) if pool else ()
    return Graph((
        Node("input", Input((1, 6, 6))),
        Node("conv", ops.Conv(weight=weights(3, 1, 3, 3, seed=1), padding=(1, 1)), ("input",)),
        Node("first", activation, ("conv",)),
        *pooled,
        Node("flat", ops.Reshape(shape=(3 * end,)), ("pool" if pool else "first",)),
        Node("hidden", ops.Linear(weight=weights(8, 3 * end, seed=2)), ("flat",)),
        Node("second", activation, ("hidden",)),
        Node("answer", ops.Linear(weight=weights(4, 8, seed=3)), ("second",)),
    ))  # fmt: skip


def inputs() -> Tensor:
    return torch.rand((12, 1, 6, 6), generator=torch.Generator().manual_seed(0))


def converted(kind: type[Recipe], **changes: object) -> ts.SNN:
    """What the recipe makes of the first network that it takes."""
    steps = 8 if kind is recipes.BSNN else 1 if kind is recipes.ExactMapping else STEPS
    wanted = {"timesteps": steps, "resolution": 2, "percentile": 97.3, "reset": "soft", "updates": 20, "epochs": 1}
    settings = {key: value for key, value in wanted.items() if key in kind.__dataclass_fields__} | changes
    reasons = []
    for activation in (
        ReLU(),
        Staircase(torch.tensor([0.5]), steps, 0.5),
        Staircase(torch.tensor([0.5]), steps, 0.001),
        FirstSpikeStaircase(torch.tensor([0.5]), TimeCode(24, 4.0)),
    ):
        for pool in (True, False):
            given = settings | ({"timesteps": 24} if isinstance(activation, FirstSpikeStaircase) else {})
            try:
                return ts.convert(network(activation, pool), kind(**given), inputs())
            except TranspikeError as error:
                reasons.append(str(error))
    raise AssertionError(reasons)


ALTERED: dict[type[Cell], type[Cell]] = {}


def altered(kind: type[Cell]) -> type[Cell]:
    """A subclass that sends nothing in every third step."""

    def step(self: Cell, state: object, *inputs: Tensor, t: int) -> object:
        after, sent = kind.step(self, state, *inputs, t=t)
        return after, sent if t % 3 else torch.zeros_like(sent)

    if kind not in ALTERED:
        made = type(f"Altered{kind.__name__}", (kind,), {"step": step, "__doc__": "Silent in every third step."})
        ALTERED[kind] = dataclass(frozen=True, eq=False)(made)
    return ALTERED[kind]


def with_cells(snn: ts.SNN, of: object) -> ts.SNN:
    """The network with each cell of the class that ``of`` makes of its own."""

    def change(node: Node) -> Node | None:
        if not isinstance(node.op, Cell):
            return None
        fields = {field.name: getattr(node.op, field.name) for field in dataclasses.fields(node.op)}
        return dataclasses.replace(node, op=of(type(node.op))(**fields))

    return dataclasses.replace(snn, graph=snn.graph.rewrite(change))


@pytest.mark.parametrize("kind", recipes.members, ids=lambda kind: kind.name)
def test_cells_that_override_step_give_in_every_engine_what_their_steps_give(kind):
    snn = with_cells(converted(kind), altered)
    x = inputs()
    reference = ts.simulate(snn, x, engine="reference")
    for engine in ENGINES:
        trace = ts.simulate(snn, x, engine=engine)
        if trace.exact:
            assert torch.equal(trace.logits, reference.logits), engine
        else:  # off the grid float32 rounds sums, and may decide over a few spikes
            assert trace.logits.shape == reference.logits.shape
            assert (trace.logits - reference.logits).abs().mean() < 0.02 * reference.logits.abs().mean() + 1e-6, engine


@pytest.mark.parametrize("schedule", [schedules.Streaming(), schedules.LayerSynchronous()], ids=str)
@pytest.mark.parametrize("kind", [recipes.ECC, recipes.BurstLIP, recipes.SNM], ids=lambda kind: kind.name)
def test_cells_that_override_step_are_fine_tuned_as_they_are_or_refused(kind, schedule):
    snn = with_cells(converted(kind, schedule=schedule), altered)
    snn = dataclasses.replace(snn, exact_grid=False)  # fine-tuning rounds nothing
    x = inputs()
    reference = ts.simulate(snn, x, engine="reference").logits
    module = Unrolled.of(snn).double()  # as the reference: thresholds that were measured lie on potentials
    try:
        with torch.no_grad():
            found = module.answers(module(snn.prepare(x).double()))
    except SettingError as error:
        assert schedule.mode == "windows" and "Altered" in str(error)
        return
    assert schedule.mode == "steps"
    assert torch.equal(found, reference)
    assert not any(name.endswith(".leak") for name, _ in module.named_parameters())


@pytest.mark.parametrize("kind", [recipes.S4NN, recipes.ExactMapping], ids=lambda kind: kind.name)
def test_the_sorted_engine_refuses_neurons_that_override_step(kind):
    with pytest.raises(SettingError, match="cannot be simulated event by event"):
        ts.simulate(with_cells(converted(kind), altered), inputs(), engine="sorted")


@dataclass(frozen=True, eq=False)
class Labelled(neurons.IntegrateAndFire):
    """Integrate and fire, with a label."""

    plain: ClassVar[bool] = True
    label: str = "a"

    def describe(self) -> str:
        return f"{super().describe()} {self.label}"


@pytest.mark.parametrize("schedule", [schedules.Streaming(), schedules.LayerSynchronous()], ids=str)
def test_a_subclass_that_says_it_is_plain_has_the_kernels_of_its_parent(schedule):
    before = ts.convert(network(ReLU()), recipes.ECC(timesteps=STEPS, schedule=schedule), inputs())
    after = with_cells(before, lambda kind: Labelled if kind is neurons.IntegrateAndFire else kind)
    wanted, found = (ts.simulate(snn, inputs(), engine="event") for snn in (before, after))
    assert torch.equal(wanted.logits, found.logits) and wanted.kernels == found.kernels
    assert any(kernel.startswith("event") for kernel in found.kernels.values()) or schedule.mode == "windows"
    assert any(name.endswith(".leak") for name, _ in Unrolled.of(after).named_parameters())
    assert all(node.op.unit is not None for node in after.graph.cells if isinstance(node.op, Labelled))


def test_a_class_cannot_say_that_it_is_plain_and_step_otherwise():
    with pytest.raises(TypeError, match=r"Liar says plain = True and overrides step\(\) of IntegrateAndFire"):

        class Liar(neurons.IntegrateAndFire):
            """Steps otherwise."""

            plain: ClassVar[bool] = True

            def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
                return state, inputs[0]


def test_an_overridden_helper_ends_the_trust_too():
    @dataclass(frozen=True, eq=False)
    class Eager(neurons.SignedIntegrateAndFire):
        """Takes spikes back at any potential."""

        def _below(self, potential: Tensor) -> Tensor:
            return torch.ones_like(potential)

    cell = Eager(ReLU(), torch.tensor(1.0), torch.tensor(0.0))
    assert Eager.altered == ("_below",) and cell.unit is None and Eager.single_steps
    assert not is_plain(cell, neurons.SignedIntegrateAndFire) and is_plain(cell, Eager)
    with pytest.raises(SettingError, match="Eager has no closed form"):
        cell.counts(torch.ones(1), timesteps=3)


def test_no_class_of_the_package_claims_what_it_does_not_do():
    """The prospect beside latched neurons is the one that steps otherwise than its parent, and it claims nothing."""
    found = [kind for kind in (*neurons.members, *ops.members, *activations.members) if kind.altered]
    assert found == [neurons.PendingInput]


@dataclass(frozen=True, eq=False)
class Doubled(ops.Linear):
    """``y = 2 x Wᵀ + b``, and nothing said of it as a linear map."""

    def run(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], 2 * self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class DoubledKnown(Doubled):
    """The same with all that a conversion asks for."""

    linear = Doubled.run
    absorb = ops.Linear.absorb
    scale_outputs = ops.Linear.scale_outputs
    per_input = ops.Linear.per_input
    per_output = ops.Linear.per_output
    propagate_levels = ops.Linear.propagate_levels
    paths = ops.Linear.paths
    magnitude = ops.Linear.magnitude
    rounded = ops.Linear.rounded
    macs = ops.Linear.macs
    is_whole = True


def with_hidden(graph: Graph, kind: type[ops.Linear]) -> Graph:
    hidden = graph["hidden"]
    return graph.replaced(dataclasses.replace(hidden, op=kind(weight=hidden.op.weight)))


def test_a_layer_that_overrides_run_is_refused_until_it_says_what_it_is():
    graph = with_hidden(network(ReLU()), Doubled)
    with pytest.raises(UnsupportedModel, match=r"Doubled overrides run\(\) of Linear.*define \w+\(\) in Doubled"):
        ts.convert(graph, recipes.ECC(timesteps=STEPS), inputs())
    assert graph.macs(graph["hidden"]) is None


def test_a_layer_that_says_what_it_is_runs_dense_as_itself():
    graph = with_hidden(network(ReLU()), DoubledKnown)
    snn = ts.convert(graph, recipes.ECC(timesteps=128), inputs(), exact_grid=False)
    source = graph.run(inputs())
    for engine in ("reference", *ENGINES):
        assert (ts.simulate(snn, inputs(), engine=engine).logits[-1] - source).abs().max() < 0.1 * source.abs().max()
    kernels = ts.simulate(snn, inputs(), engine="event").kernels
    assert kernels["second"].startswith("dense") and kernels["first"].startswith("event")


@dataclass(frozen=True, eq=False)
class MinimumPool(ops.MaxPool):
    """The least of a window."""

    def run(self, *inputs: Tensor) -> Tensor:
        return -super().run(-inputs[0])


def test_a_pool_that_overrides_run_is_not_taken_for_maximum_pooling():
    graph = network(ReLU())
    graph = graph.replaced(dataclasses.replace(graph["pool"], op=MinimumPool()))
    snn = ts.convert(graph, recipes.ECC(timesteps=256), inputs())
    assert isinstance(snn.graph["pool"].op, neurons.TemporalDifference)
    source = graph.run(inputs())
    assert (snn(inputs()) - source).abs().max() < 0.05 * source.abs().max()


def test_dropout_that_overrides_run_stays():
    @dataclass(frozen=True, eq=False)
    class Half(ops.Dropout):
        """Halves its input."""

        def run(self, *inputs: Tensor) -> Tensor:
            return inputs[0] / 2

    graph = network(ReLU())
    for op, stays in ((ops.Dropout(), False), (Half(), True)):
        longer = Graph((*graph.nodes, Node("end", op, ("answer",))))
        assert (RemoveDropout().apply(longer, None).output.name == "end") is stays


@dataclass(frozen=True)
class Alternating(encoders.ConstantCurrent):
    """Twice the input in every other step."""

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        return 2.0 * (t % 2) * x


@pytest.mark.parametrize("schedule", [schedules.Streaming(), schedules.LayerSynchronous()], ids=str)
def test_an_encoder_that_overrides_encode_is_asked_in_every_step(schedule):
    recipe = recipes.ECC(timesteps=5, schedule=schedule, encoder=Alternating())
    snn = ts.convert(network(ReLU()), recipe, inputs())
    assert not snn.encoder.is_constant
    reference = ts.simulate(snn, inputs(), engine="reference")
    constant = ts.simulate(dataclasses.replace(snn, encoder=encoders.ConstantCurrent(1.0)), inputs()).logits
    assert not torch.equal(reference.logits, constant)
    for engine in ENGINES:
        assert (ts.simulate(snn, inputs(), engine=engine).logits - reference.logits).abs().max() < 1e-4
    times = 5 if schedule.mode == "steps" else 1
    assert reference.activity.macs["conv"] == times * 3 * 36 * 9  # the input's products are worked out in every step


def test_a_schedule_that_overrides_when_neurons_fire_is_refused():
    @dataclass(frozen=True)
    class Late(schedules.LayerSynchronous):
        """Fires a step later."""

        def fires(self, own: int, timesteps: int) -> bool:
            return super().fires(own - 1, timesteps)

    snn = ts.convert(network(ReLU()), recipes.ECC(timesteps=4, schedule=schedules.LayerSynchronous()), inputs())
    with pytest.raises(SettingError, match="Late overrides fires of LayerSynchronous"):
        ts.simulate(dataclasses.replace(snn, recipe=dataclasses.replace(snn.recipe, schedule=Late())), inputs())


def test_cells_around_an_operator_keep_their_class_when_they_move():
    @dataclass(frozen=True, eq=False)
    class Mine(neurons.TemporalDifference):
        """A temporal difference of mine."""

    cell = Mine(ops.MaxPool())
    assert type(cell.to(dtype=torch.float64)) is Mine and type(cell.with_tensors()) is Mine


class EverySecondStep:
    """A mixin: fires in even steps only."""

    def step(self, state, *inputs, t):
        v = state + inputs[0]
        spikes = ((v >= self.threshold) & (t % 2 == 0)).to(v.dtype)
        return v - spikes * self.threshold, spikes


@dataclass(frozen=True, eq=False)
class MixedIn(EverySecondStep, ts.neurons.IntegrateAndFire):
    """Overrides ``step`` by a base class that is no neuron."""


class Squares:
    """A mixin: another function."""

    def run(self, *inputs):
        return inputs[0].square()


@dataclass(frozen=True, eq=False)
class MixedOp(Squares, ts.ops.Linear):
    """Overrides ``run`` by a base class that is no op."""


def test_an_override_by_a_mixin_counts_as_one():
    assert MixedIn.altered == ("step",) and MixedOp.altered == ("run",)
    neuron = MixedIn(ts.activations.ReLU(), torch.tensor(0.5), torch.tensor(0.0))
    assert neuron.unit is None and not is_plain(neuron, ts.neurons.IntegrateAndFire)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x = torch.rand(16, 6)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=8), x)
    cells = {n.name: MixedIn(n.op.source, n.op.threshold, n.op.initial) for n in snn.graph.cells}
    mixed = dataclasses.replace(
        snn, graph=snn.graph.rewrite(lambda n: dataclasses.replace(n, op=cells[n.name]) if n.name in cells else None)
    )
    names = list(cells)
    expected = ts.simulate(mixed, x, engine="reference", record=names)
    assert all(not train[::2].any() for train in expected.trains.values()) and expected.activity.spikes > 0
    for engine in ENGINES:
        found = ts.simulate(mixed, x, engine=engine, record=names)
        assert all(torch.equal(found.trains[n].double(), expected.trains[n].double()) for n in names), engine
