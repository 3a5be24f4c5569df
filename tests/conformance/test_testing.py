"""The checks of ``transpike.testing`` find what is wrong: each breaks one law and is named with it."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import plugged
import transpike as ts
from transpike import testing
from transpike.activations import ReLU
from transpike.chips import Chip
from transpike.core import registry
from transpike.core.alphabet import Alphabet
from transpike.core.graph import Graph
from transpike.core.marks import Box, Marks
from transpike.core.pass_ import Context, Pass
from transpike.energy import EnergyRow, Operations
from transpike.neurons import Burst, IntegrateAndFire
from transpike.ops import Linear
from transpike.results.quantity import Quantity
from transpike.tasks import Classification

ONE, ZERO = torch.tensor(1.0), torch.tensor(0.0)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with registry.restored():
        yield


def made(parent: type, title: str = "Broken", **content: Any) -> type:
    """A registered subclass with other methods, or fields by ``__annotations__``."""
    kind = type(
        "Broken", (parent,), {"__doc__": "Broken.", "__module__": __name__, "__qualname__": "Broken", **content}
    )
    return ts.register(dataclass(frozen=True, **({"eq": False} if hasattr(parent, "tensors") else {}))(kind))


def broken(check: Callable[[Any], None], thing: Any, law: str, *rest: Any) -> None:
    with pytest.raises(AssertionError, match=f"Broken breaks the law: {law}"):
        check(thing, *rest)


def neuron(parent: type = IntegrateAndFire, **content: Any) -> Any:
    return made(parent, **content)(ReLU(), ONE, ZERO)


class _Counts:
    """Something that remembers how often it was asked."""

    asked = 0


def _forgets(self: Any, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
    state, spikes = IntegrateAndFire.step(self, state, *inputs, t=t)
    return 0.5 * state, spikes


def _keeps(self: Any, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
    potential = state + inputs[0]
    return potential, (potential >= self.threshold).to(potential.dtype)


def _changes_its_state(self: Any, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
    return IntegrateAndFire.step(self, state.add_(0.25), *inputs, t=t)


def _remembers(self: Any, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
    _Counts.asked += 1
    return state + inputs[0], torch.full_like(inputs[0], float(_Counts.asked))


def _the_largest_fires(self: Any, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
    potential = state + inputs[0]
    spikes = ((potential >= self.threshold) & (potential == potential.max())).to(potential.dtype)
    return potential - spikes * self.threshold, spikes


def _doubles(self: Any, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
    potential = state + inputs[0]
    spikes = 2.0 * (potential >= 2 * self.threshold)
    return potential - spikes * self.threshold, spikes


def _always_fires(self, state, *inputs, t):
    spikes = torch.ones_like(state)
    return state + inputs[0] - spikes * self.threshold, spikes


def _fires_less(self, state, *inputs, t):
    potential = state + inputs[0]
    spikes = ((potential >= self.threshold) & (inputs[0] < 0.8 * self.threshold)).to(potential)
    return potential - spikes * self.threshold, spikes


@pytest.mark.parametrize(
    ("content", "law"),
    [
        ({"step": _forgets}, "a neuron that does not spike is not reset"),
        ({"step": _keeps}, "a soft reset takes the threshold"),
        ({"step": _changes_its_state}, r"step\(\) changes neither its state"),
        ({"step": _remembers}, r"step\(\) gives the same again"),
        ({"step": _the_largest_fires}, "each sample is computed alone"),
        ({"step": _doubles}, r"what it sends is in its alphabet \(binary\)"),
        ({"init": lambda self, *inputs: self.initial.to(inputs[0])[None]}, r"init\(\) shares no memory"),
        ({"bound": lambda self, *inputs: 0.5 * torch.ones_like(inputs[0])}, r"bound\(\) bounds"),
        ({"updates": lambda self, timesteps: 0.5}, r"updates\(\) is an integer"),
        ({"describe": lambda self: ""}, r"describe\(\) gives text"),
        ({"stands_for": classmethod(lambda cls, activation: "it cannot")}, "it represents its source"),
        ({"to": lambda self, **where: self}, r"to\(dtype\) moves every tensor"),
        ({"__doc__": None}, "it has a docstring"),
        ({"macs": lambda self, inputs, output: -1}, r"macs\(\) is an integer"),
        ({"evaluations": lambda self, inputs, output: {"exp": 0.5}}, r"evaluations\(\) are integers"),
        ({"output_scale": lambda self, *inputs: 0.5 * self.threshold}, "its mean output is that of its source"),
        ({"peak": property(lambda self: 2 * self.threshold)}, "its mean output reaches peak"),
        ({"peak": property(lambda self: 0.5 * self.threshold)}, "its mean output is at most peak"),
        ({"step": _always_fires}, "it is silent where its source is 0"),
        ({"step": _fires_less}, "a larger current sends as much or more"),
    ],
)
def test_a_broken_neuron_is_found(content, law):
    initial = torch.tensor([0.25, 0.5])
    broken(testing.check_neuron, made(IntegrateAndFire, **content)(ReLU(), ONE, initial), law, (2,))


def test_a_closed_form_that_is_not_the_sum_of_its_steps_is_found():
    kind = made(Burst, counts=lambda self, *charges, timesteps: Burst.counts(self, *charges, timesteps=timesteps) + 1)
    broken(testing.check_neuron, kind(ReLU(), ONE, ZERO), r"counts\(\) is the sum of the steps", (2,))
    quiet = made(IntegrateAndFire)(ReLU(), ONE, torch.tensor(-1e6))
    broken(testing.check_neuron, quiet, "it sends something: give a threshold near 1", (2,))


def test_a_class_that_is_not_registered_is_found():
    with pytest.raises(AssertionError, match=r"Refractory breaks the law: it is registered: put @transpike\.register"):
        testing.check_neuron(plugged.Refractory(ReLU(), ONE, ZERO))
    with pytest.raises(AssertionError, match="Quantity breaks the law: it derives from the contract of one family"):
        testing.check_member(Quantity(1.0, "pJ", "made up"))


@pytest.mark.parametrize(
    ("content", "law"),
    [
        ({"run": lambda self, x: Linear.run(self, x).abs()}, r"run\(\) is linear\(\) plus the bias"),
        ({"linear": lambda self, x: Linear.linear(self, x).abs()}, r"run\(\) is linear\(\) plus|linear\(\) is linear"),
        ({"run": lambda self, x: Linear.run(self, x - x.mean(0))}, "each sample is computed alone"),
        ({"macs": lambda self, inputs, output: 1}, r"macs\(\) of a synapse are at least"),
        ({"macs": lambda self, inputs, output: 1.5}, r"macs\(\) is an integer or None"),
        ({"magnitude": lambda self: self}, r"magnitude\(\) bounds"),
        ({"paths": lambda self: self}, r"paths\(\) has a one"),
        ({"absorb": lambda self, scale: self}, r"propagate_levels\(\) keeps the charge"),
        ({"scale_outputs": lambda self, factor: self}, r"scale_outputs\(\) multiplies the channels"),
        ({"aten": ("no_such_operator.default",)}, "torch has the operators in aten"),
        ({"evaluations": lambda self, inputs, output: {"exp": -1}}, r"evaluations\(\) are integers"),
    ],
)
def test_a_broken_operator_is_found(content, law):
    kept = {name: vars(Linear)[name] for name in ("absorb", "scale_outputs", "macs", "linear") if name in vars(Linear)}
    kept |= {name: getattr(Linear, name) for name in ("paths", "magnitude", "propagate_levels")}
    op = made(Linear, **{**kept, **content})(weight=torch.tensor([[1.5, -2.0], [0.5, 3.0], [0.25, 1.0]]))
    broken(testing.check_op, op, law, (2,))


def test_an_operator_that_differs_from_torch_is_found():
    plugged.register_all()
    testing.check_op(plugged.Tangent(), (4,), module=nn.Tanh())
    with pytest.raises(ts.TranspikeError):  # capture itself compares with the model
        testing.check_op(plugged.Tangent(gain=2.0), (4,), module=nn.Mish())
    with pytest.raises(AssertionError, match="it is captured from the module"):
        testing.check_op(plugged.Tangent(), (4,), module=nn.ReLU())


@dataclass(frozen=True)
class _Changes(Pass):
    """Thresholds from the data, says that it asks for none."""

    def apply(self, graph: Graph, context: Context) -> Graph:
        mean = context.batches[0].square().flatten(1).cumsum(1).mean()
        return graph.rewrite(
            lambda node: (
                dataclasses.replace(node, op=node.op.with_tensors(threshold=mean))
                if isinstance(node.op, IntegrateAndFire)
                else None
            )
        )


def _halves(self: Any, graph: Graph, context: Context) -> Graph:
    return graph.bind({name: value / 2 for name, value in graph.parameters().items()})


def _in_place(self: Any, graph: Graph, context: Context) -> Graph:
    for value in graph.parameters().values():
        value.mul_(2)
    return graph


@pytest.mark.parametrize(
    ("content", "law"),
    [
        ({"apply": _halves, "exact": True}, "an exact pass keeps the function"),
        ({"apply": _in_place}, "the graph that it is given stays"),
        ({"apply": _Changes.apply}, "it asks nothing of calibration data"),
        ({"apply": lambda self, graph, context: graph, "asks": "everything"}, "asks is known"),
        ({"apply": lambda self, graph, context: graph, "sets_thresholds": True}, "it sets thresholds"),
    ],
)
def test_a_broken_pass_is_found(content, law):
    broken(testing.check_pass, made(Pass, **content)(), law)


def _less(self: Any, activity: Any) -> tuple[EnergyRow, ...]:
    rows = Operations.rows(self, activity)
    spikes = sum(float(layer.spikes.sum()) for layer in activity.layers) / activity.samples
    return (*rows, EnergyRow("all", "rest", 1.0, max(0.0, 1e-6 - 1e-9 * spikes)))


@pytest.mark.parametrize(
    ("content", "law"),
    [
        ({"rows": _less}, "joules are linear|another spike"),
        ({"rows": lambda self, activity: (EnergyRow("a", "b", 1.0, -1.0),)}, "no row is negative"),
        ({"joule": lambda self, activity: 1.0}, "the joules are the sum of the rows"),
        ({"excluded": ()}, "excluded names what it does not price"),
        ({"add": Quantity(1.0, "pJ", ""), "__annotations__": {"add": Quantity}}, "constants have a unit and a source"),
    ],
)
def test_a_broken_energy_model_is_found(content, law):
    broken(testing.check_energy_model, made(Operations, name="broken", **content)(), law)


BACKWARDS = Box(0.5, 0.0, 0.1, 1.0, 0, "cat")


@pytest.mark.parametrize(
    ("content", "law"),
    [
        ({"outcomes": lambda self, output, target: output.argmax(-1)}, r"outcomes\(\) is True or False"),
        ({"agrees": lambda self, output, reference: output.sum(-1) > 0}, "an output agrees with itself"),
        (
            {
                "outcomes": lambda self, output, target: output.argmax(-1) == torch.arange(output.shape[-2]),
                "agrees": lambda self, output, reference: output.argmax(-1) == reference.argmax(-1),
            },
            "permuted samples have permuted outcomes",
        ),
        (
            {"marks": lambda self, answer, size: Marks() if answer[0] > 0 else None},
            r"marks\(\) draws the answers of all samples, or of none",
        ),
        ({"marks": lambda self, answer, size: Marks((BACKWARDS,))}, "a box ends after it begins"),
        ({"marks": lambda self, answer, size: Marks(mask=torch.ones(2, 2))}, "a mask has integers on a plane"),
        ({"target_marks": lambda self, target, size: Marks(mask=target)}, "a mask has integers on a plane"),
        ({"picture": lambda self, sample: sample[:2]}, "a picture has one or three channels"),
    ],
)
def test_a_broken_task_is_found(content, law):
    broken(testing.check_task, made(Classification, name="broken", **content)(), law)


def test_a_broken_encoder_is_found():
    encode = ts.encoders.Poisson.encode
    late = made(ts.encoders.Poisson, encode=lambda self, x, ids, t: encode(self, x, torch.arange(len(x)), t))
    broken(testing.check_encoder, late(), "each sample is encoded alone, by its number")
    loud = made(ts.encoders.Poisson, encode=lambda self, x, ids, t: 2 * encode(self, x, ids, t))
    broken(testing.check_encoder, loud(), "what it sends is in its alphabet")
    wrong = made(ts.encoders.Poisson, counts=lambda self, x, ids, timesteps: x)
    broken(testing.check_encoder, wrong(), r"counts\(\) is the sum of the steps")


def test_a_recipe_whose_engines_differ_or_that_never_spikes_is_found():
    mute = made(IntegrateAndFire, "Mute", step=lambda self, state, x, t: (state + x, 0 * x))
    kind = made(ts.recipes.ECC, name="broken", neurons=property(lambda self: ts.passes.UseNeuron(mute)))
    broken(testing.check_recipe, kind(timesteps=4), "something spikes")

    class Lies(IntegrateAndFire):
        """Calls itself plain, so that kernels take it as integrate-and-fire, while its ``step`` differs."""

    liar = ts.register(dataclass(frozen=True, eq=False)(Lies))
    liar.step = _keeps  # after the class was made, so that nothing notices
    use = ts.passes.UseNeuron(liar)
    kind = made(ts.recipes.ECC, name="broken", neurons=property(lambda self: use))
    broken(testing.check_recipe, kind(timesteps=4), "the engines reference and dense give the same spikes")


def test_a_chip_without_sources_and_a_data_set_that_changes_are_found():
    with pytest.raises(AssertionError, match=r"Chip breaks the law: every limit has a source\s+.*max_layers"):
        testing.check_chip(Chip("bare", "Bare", max_layers=3))
    drawn = torch.Generator().manual_seed(0)

    def unsteady() -> ts.data.Dataset:
        split = ts.data.Split(torch.rand(4, 1, 2, 2, generator=drawn), torch.arange(4) % 2)
        return ts.data.Dataset("unsteady", split, split, ("a", "b"), ts.Preprocessing())

    ts.register(kind="data", name="unsteady")(unsteady)
    with pytest.raises(AssertionError, match="train is the same whenever it is read"):
        testing.check_dataset("unsteady")


def test_what_others_register_keeps_the_laws():
    plugged.register_all()
    testing.check_neuron(plugged.Refractory(ReLU(), ONE, ZERO, rest=2), (3,))
    testing.check_op(plugged.Tangent(), (4,))
    testing.check_pass(plugged.UseRefractory(2))
    testing.check_pass(plugged.Nothing())
    testing.check_encoder(plugged.Dimmed())
    testing.check_energy_model(plugged.PerSpike())
    testing.check_dataset("blobs")
    testing.check_task(plugged.Second())
    for kind in plugged.RECIPES:
        testing.check_recipe(kind(timesteps=6))
    for kind in (plugged.Twice, plugged.OurStream, plugged.Spread):
        testing.check_member(kind())


def test_an_alphabet_is_read_as_it_is_defined():
    values = torch.tensor([-4.0, -1.0, -0.5, 0.0, 1.0, 3.0, 4.0, 8.0])
    allowed = {
        Alphabet("binary"): {0, 1}, Alphabet("ternary", signed=True): {-1, 0, 1}, Alphabet("levels", 3): {0, 1, 3},
        Alphabet("phase", 4): {0, 1, 4}, Alphabet("levels", 4, signed=True): {-4, -1, 0, 1, 3, 4},
    }  # fmt: skip
    for alphabet, inside in allowed.items():
        assert set(testing._law.outside(alphabet, values)) == set(values.tolist()) - inside


class Example(ReLU):
    """Has an example."""

    ceiling: ClassVar[float | None] = None

    @classmethod
    def example(cls) -> tuple["Example", tuple[tuple[int, ...], ...]]:
        return cls(), ((7,),)


def test_a_class_brings_its_own_example():
    op, shapes = testing.example(Example)
    assert type(op) is Example and shapes == ((7,),) and not Example.altered
