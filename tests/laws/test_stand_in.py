"""A neuron takes the place of an activation only where it can be that activation."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import transpike as ts
from transpike import activations, recipes
from transpike.activations import Clip, FirstSpikeStaircase, ReLU, Staircase
from transpike.codes.time_code import TimeCode
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op, Role
from transpike.errors import UnsupportedModel
from transpike.neurons import Burst, FirstSpike, IntegrateAndFire, SignedEncoder, SignedMultiThreshold, members
from transpike.ops import Linear
from transpike.passes import ReplaceNeurons, UseNeurons


def weights(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


def network(activation: Op) -> Graph:
    return Graph((
        Node("input", Input((8,))),
        Node("first", Linear(weight=weights(16, 8, seed=1)), ("input",)),
        Node("act", activation, ("first",), path="body.act"),
        Node("answer", Linear(weight=weights(4, 16, seed=2)), ("act",)),
    ))  # fmt: skip


def inputs() -> Tensor:
    return torch.rand((64, 8), generator=torch.Generator().manual_seed(0))


def error(snn: ts.SNN, graph: Graph, timesteps: int | None = None) -> float:
    source = graph.run(inputs())
    return float((snn(inputs(), timesteps) - source).abs().max() / source.abs().max())


@dataclass(frozen=True, eq=False)
class Softplus(Op):
    """An activation of somebody else's, that is no ReLU."""

    role: ClassVar[Role] = "activation"
    ceiling: ClassVar[float | None] = None

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.nn.functional.softplus(inputs[0])


@dataclass(frozen=True, eq=False)
class Square(ReLU):
    """An activation that overrides a ReLU."""

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.relu(inputs[0]).square()


@dataclass(frozen=True, eq=False)
class Softer(Softplus):
    """The same with a ceiling, for recipes that want one."""

    ceiling: ClassVar[float | None] = 1.0


STAIRS_ONLY = {recipes.PASCAL}


@pytest.mark.parametrize("kind", [k for k in recipes.members if k not in STAIRS_ONLY], ids=lambda k: k.name)
@pytest.mark.parametrize("activation", [Softplus(), Square()], ids=["unknown", "overridden"])
def test_no_recipe_takes_an_activation_that_does_not_say_it_is_a_relu(kind, activation):
    settings = {"updates": 2, "epochs": 0, "resolution": 1, "iterations": 2}
    steps = 1 if kind is recipes.ExactMapping else 8
    settings = {"timesteps": steps} | settings
    recipe = kind(**{key: value for key, value in settings.items() if key in kind.__dataclass_fields__})
    with pytest.raises(UnsupportedModel, match=f"body.act.*{type(activation).__name__.lower()}"):
        ts.convert(network(activation), recipe, inputs())


def test_the_refusal_names_the_layer_the_activation_the_neuron_and_the_way_out():
    with pytest.raises(UnsupportedModel) as refused:
        ts.convert(network(Softer()), recipes.QCFS(timesteps=4), inputs())
    text = str(refused.value)
    assert all(word in text for word in ("body.act", "softer", "IF soft reset", "Softer is not declared", "nn.ReLU"))


def test_an_activation_that_says_it_is_a_relu_is_taken():
    @dataclass(frozen=True, eq=False)
    class Mine(Square):
        """Their ReLU."""

        rectifies = True

        def run(self, *inputs: Tensor) -> Tensor:
            return inputs[0].clamp(min=0)

    graph = network(Mine())
    assert error(ts.convert(graph, recipes.ECC(timesteps=256, percentile=100.0), inputs()), graph) < 0.03


def test_a_neuron_that_says_what_it_stands_for_is_taken():
    @dataclass(frozen=True, eq=False)
    class Squared(IntegrateAndFire):
        """A neuron for squares."""

        @classmethod
        def stands_for(cls, activation: Op) -> bool | str:
            return isinstance(activation, Square) or "it knows squares only"

    @dataclass(frozen=True)
    class UseSquared(ReplaceNeurons):
        """Puts it in."""

        def neuron(self, old: IntegrateAndFire) -> IntegrateAndFire:
            return Squared(old.source, old.threshold, old.initial)

    @dataclass(frozen=True)
    class Mine(recipes.ECC):
        """A recipe with it."""

        @property
        def neurons(self) -> ReplaceNeurons:
            return UseSquared()

    assert isinstance(ts.convert(network(Square()), Mine(timesteps=4), inputs()).graph["act"].op, Squared)
    with pytest.raises(UnsupportedModel, match="it knows squares only"):
        ts.convert(network(ReLU()), Mine(timesteps=4), inputs())


@pytest.mark.parametrize("kind", [k for k in members if hasattr(k, "stands_for")], ids=lambda kind: kind.__name__)
def test_every_neuron_says_which_activations_it_stands_for(kind):
    level = torch.tensor([0.5])
    if kind in (SignedEncoder, SignedMultiThreshold):
        assert kind.stands_for(activations.Unchanged()) is True and isinstance(kind.stands_for(ReLU()), str)
        return
    for activation in (ReLU(), Clip(ceiling=1.0), Staircase(level, 4), Staircase(level, 4, slope=0.5)):
        assert kind.stands_for(activation) is True
    assert isinstance(kind.stands_for(Staircase(level, 4, slope=0.5, offset=0.25)), str)
    assert isinstance(kind.stands_for(Softplus()), str) and isinstance(kind.stands_for(Square()), str)
    assert (kind.stands_for(FirstSpikeStaircase(level)) is True) == issubclass(kind, FirstSpike)


def test_every_activation_of_the_package_says_what_it_is():
    functions = {
        activations.Function,
        activations.LeakyReLU,
        activations.Quantiser,
        activations.Unchanged,
    }  # of sigma-delta neurons only
    assert set(activations.members) == {Clip, FirstSpikeStaircase, ReLU, Staircase, *functions}


def test_slots_of_first_spikes_are_no_rate():
    graph = network(FirstSpikeStaircase(torch.tensor([0.6]), TimeCode(24, 4.0)))
    with pytest.raises(UnsupportedModel, match=r"slots of first spikes.*use the recipe cat"):
        ts.convert(graph, recipes.ECC(timesteps=16), inputs())
    assert error(ts.convert(graph, recipes.CAT(timesteps=24), inputs()), graph) < 0.02


SHARP = Clip(ceiling=0.3)  # which cuts off much of what the calibration data bring


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.BurstLIP(timesteps=64),
        recipes.Cao(timesteps=64, threshold=4.0),
        recipes.RMP(timesteps=64),
    ],
    ids=lambda recipe: recipe.name,
)
def test_neurons_that_send_more_than_a_ceiling_are_refused_where_it_matters(recipe):
    with pytest.raises(UnsupportedModel, match=r"body\.act is a clip 0…0\.3, which clips activations at 0\.3"):
        ts.convert(network(SHARP), recipe, inputs())
    wide = network(Clip(ceiling=50.0))  # nothing reaches it
    ts.convert(wide, recipe, inputs())


@pytest.mark.parametrize("kind", [recipes.ECC, recipes.BSNN, recipes.SNM, recipes.DengGu], ids=lambda kind: kind.name)
def test_neurons_that_end_at_a_ceiling_keep_it(kind):
    graph = network(SHARP)
    settings = {"timesteps": 256, "percentile": 100.0}
    recipe = kind(**{key: value for key, value in settings.items() if key in kind.__dataclass_fields__})
    assert error(ts.convert(graph, recipe, inputs()), graph) < 0.03


def test_a_little_beyond_a_ceiling_is_a_remark():
    graph = network(ReLU())
    seen: dict[str, Tensor] = {}
    graph.run(inputs(), observe=lambda node, given, out: seen.update({node.name: out}))
    values = seen["act"].flatten().sort().values
    graph = graph.replaced(dataclasses.replace(graph["act"], op=Clip(ceiling=float(values[-3]))))
    snn = ts.convert(graph, recipes.BurstLIP(timesteps=8), inputs())
    assert any("does not clip at its ceiling" in remark for remark in snn.remarks)


def test_the_peak_of_a_neuron_is_the_most_that_it_sends_in_a_step():
    theta, zero = torch.tensor(0.5), torch.tensor(0.0)
    burst = Burst(ReLU(), theta, zero, gamma=3)
    sent = burst.window(torch.full((4, 1), 100.0)) * burst.output_scale()
    assert float(burst.peak) == float(sent.max()) == 1.5
    cell = UseNeurons("bistable", period=3).neuron(IntegrateAndFire(ReLU(), theta, zero))
    assert float(cell.peak) == pytest.approx(
        float((cell.cycle(zero, torch.tensor(9.0))[1] * cell.output_scale()).max())
    )
