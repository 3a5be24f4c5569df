"""What calibrations hear is what the engine simulates: layer by layer in ``lowering/layerwise.py``, all at once there."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import Case, cases, neurons, small_cnn
from transpike.activations import ReLU
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.pass_ import Context
from transpike.core.recipe import Recipe
from transpike.encoders import ConstantCurrent, DeterministicCounts, Poisson, SignedEventFrames
from transpike.errors import SettingError
from transpike.lowering import currents
from transpike.lowering import layerwise as sequence
from transpike.lowering.layerwise import LayerInput, Visit, sequential
from transpike.ops import Scale
from transpike.passes.shift import only_synapse, shifted
from transpike.recipes import BSNN, ECC, SNM, T2FSNN, YOSO, BurstLIP, FewSteps, LinearTTFS, Rueckauer
from transpike.schedules import LayerSynchronous, PhaseCycles, Streaming

T, SAMPLES = 10, 9
SCHEDULES = (Streaming(), LayerSynchronous())
STILL = (ConstantCurrent(), DeterministicCounts(), Poisson(seed=3))
# every neuron, every rule of maximum pooling
METHODS: tuple[Recipe, ...] = (
    ECC(T, percentile=98.0),
    ECC(T, percentile=97.0, granularity="neuron", pooling="before-neuron"),
    ECC(T, percentile=99.0, pooling="gated", weight_bits=6),
    ECC(T, percentile=98.0, pooling="or", average_pooling="spiking", residual="shared"),
    SNM(T, percentile=98.0, granularity="channel"),
    SNM(T, percentile=96.0, rule="fast-snn"),
    BurstLIP(T, percentile=95.0, gamma=3),
    Rueckauer(T, percentile=97.0),
)
# in a window of slots one level is all that is sent
SLOTTED: tuple[Recipe, ...] = (
    YOSO(T, tau=2.0, retime=False),
    YOSO(T, tau=3.0, rounding="down", granularity="channel", weight_bits=5, retime=False),
    YOSO(T, tau=2.0, input="spikes", average_pooling="spiking", retime=False),
    LinearTTFS(T, retime=False),
)
STREAMED: tuple[Recipe, ...] = (ECC(T, percentile=98.0, reset="hard"), ECC(T, percentile=98.0, leak=0.875))


@contextlib.contextmanager
def floats(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def heard_by(visit: Visit, graph: ts.Graph, context: Context, samples: int = SAMPLES) -> ts.Graph:
    """``sequential`` in float64 as the reference engine, where sums in another order move no spike."""

    with floats(torch.float64):
        return sequential(graph, context, samples, visit)


@dataclass(frozen=True)
class Simulated:
    """One network both ways: levels that layers send, (time, batch, *shape), in a window their counts in one."""

    snn: ts.SNN
    x: Tensor
    context: Context

    @classmethod
    def of(cls, case: Case, recipe: Recipe) -> "Simulated":
        x = frames(case) if recipe.encoder.has_frames else case.calibration
        snn = ts.convert(case.graph, recipe, x, exact_grid=False)
        still = snn.encoder.accumulate(x).double()
        context = Context(
            snn.source, (still[:5], still[5:]), T, encoder=snn.encoder, schedule=snn.schedule,
            recorded=x.double() if recipe.encoder.has_frames else None, remarks=[],
            analogue=[prepared(case, recipe)],
        )  # fmt: skip
        return cls(dataclasses.replace(snn, graph=off_ties(snn.graph)), x, context)

    @property
    def graph(self) -> ts.Graph:
        return self.snn.graph.to(dtype=torch.float64)

    def layer_by_layer(self, samples: int = SAMPLES) -> dict[str, Tensor]:
        found = {}
        heard_by(lambda h: found.update({h.node.name: levels(h)}), self.graph, self.context, samples)
        return found

    def at_once(self, graph: ts.Graph | None = None, samples: int = SAMPLES) -> dict[str, Tensor]:
        snn = dataclasses.replace(self.snn, graph=graph or self.graph)
        trace = ts.simulate(snn, self.x[:samples], T, engine="reference", record=neurons(snn))
        return trace.trains


def off_ties(graph: ts.Graph) -> ts.Graph:
    """Thresholds that no sum of currents meets exactly; a percentile may be the value that a dead branch leaves."""

    def change(node: Node) -> Node | None:
        if not isinstance(node.op, Neuron):
            return None
        return dataclasses.replace(node, op=node.op.with_tensors(threshold=0.98765 * node.op.tensors()["threshold"]))

    return graph.rewrite(change)


def prepared(case: Case, recipe: Recipe) -> ts.Graph:
    """The source as the thresholds saw it: before its activations became neurons."""
    graph = case.graph
    for step in recipe.passes:
        if isinstance(step, ts.passes._base.Thresholds):
            break
        graph = step.apply(graph, Context(graph, (case.calibration,), T))
    return graph.to(dtype=torch.float64)


def frames(case: Case) -> Tensor:
    """Signed events whose mean over time is about the still input."""
    draw = torch.rand(
        (len(case.calibration), T, *case.calibration.shape[1:]), generator=torch.Generator().manual_seed(1)
    )
    return ((draw < case.calibration.abs()[:, None]) * torch.sign(case.calibration)[:, None]).float()


def levels(heard: LayerInput, delta: Tensor | float = 0.0, cell: object = None) -> Tensor:
    """What the layer sends, in levels instead of charge and counts instead of means."""
    used = heard.cell if cell is None else cell
    shift = torch.as_tensor(delta, dtype=torch.float64)
    train = heard.fired(used, shift).train.part(slice(0, len(heard.analogue))) / used.output_scale()  # type: ignore[arg-type, attr-defined]
    return train * heard.per if heard.windows else train


def assert_same(heard: dict[str, Tensor], simulated: dict[str, Tensor]) -> None:
    assert heard.keys() == simulated.keys() and heard
    assert sum(float(train.abs().mean()) for train in simulated.values()) > 0.01 * len(simulated)
    for name, train in simulated.items():
        # a level is charge divided by its worth: off by rounding
        assert heard[name].shape == train.shape and torch.equal(heard[name].round(), train.double()), name
        assert float((heard[name] - heard[name].round()).abs().max()) < 1e-9


@settings(max_examples=20)
@given(cases(), st.sampled_from(METHODS), st.sampled_from(SCHEDULES), st.sampled_from(STILL))
def test_every_layer_hears_what_the_engine_simulates(case, recipe, schedule, encoder):
    both = Simulated.of(case, dataclasses.replace(recipe, schedule=schedule, encoder=encoder))
    assert_same(both.layer_by_layer(), both.at_once())


@settings(max_examples=8)
@given(cases(), st.sampled_from(STREAMED), st.sampled_from(STILL))
def test_neurons_that_forget_hear_it_too(case, recipe, encoder):
    both = Simulated.of(case, dataclasses.replace(recipe, encoder=encoder))
    assert_same(both.layer_by_layer(), both.at_once())


@settings(max_examples=20)
@given(cases(), st.sampled_from(SLOTTED))
def test_slots_are_heard_as_one_charge(case, recipe):
    both = Simulated.of(dataclasses.replace(case, calibration=case.calibration.abs()), recipe)
    simulated = {name: train.sum(0, keepdim=True) for name, train in both.at_once().items()}
    assert_same(both.layer_by_layer(), simulated)


def test_slots_that_begin_early_have_no_such_picture():
    case = small_cnn()
    snn = ts.convert(case.graph, T2FSNN(T, tau=3.0, wait_steps=4, epochs=0), case.calibration)
    context = Context(case.graph, (case.calibration,), T, schedule=snn.schedule, analogue=[case.graph])
    with pytest.raises(SettingError, match="wait steps"):
        sequential(snn.graph, context, 8, lambda heard: None)


@settings(max_examples=10)
@given(cases(), st.sampled_from(METHODS), st.sampled_from(SCHEDULES))
def test_recordings_enter_frame_by_frame(case, recipe, schedule):
    both = Simulated.of(case, dataclasses.replace(recipe, schedule=schedule, encoder=SignedEventFrames()))
    assert_same(both.layer_by_layer(), both.at_once())


@settings(max_examples=12)
@given(cases(), st.sampled_from(METHODS), st.sampled_from(SCHEDULES), st.sampled_from((*STILL, SignedEventFrames())))
def test_later_layers_hear_what_changed_layers_send(case, recipe, schedule, encoder):
    both = Simulated.of(case, dataclasses.replace(recipe, schedule=schedule, encoder=encoder))
    found = {}

    def change(heard: LayerInput) -> ts.Graph:
        graph, node, delta = heard.graph, heard.node, torch.zeros(heard.node.shape[0])
        synapse = only_synapse(graph, node.name)
        if synapse is not None:
            delta = torch.linspace(0.03, -0.05, len(delta))
            with floats(torch.float32):  # graphs check shapes in it
                graph = shifted(graph, synapse, delta)
        cell = heard.cell.with_tensors(threshold=0.83 * heard.cell.tensors()["threshold"])
        found[node.name] = levels(heard, delta.reshape(-1, *(1,) * (len(node.shape) - 1)), cell)
        new = dataclasses.replace(node, op=cell)
        with floats(torch.float32):
            return graph.rewrite(lambda old: new if old.name == new.name else None)

    changed = heard_by(change, both.graph, both.context)
    assert_same(found, both.at_once(changed))


@pytest.mark.parametrize("encoder", [*STILL, SignedEventFrames()])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_memory_does_not_matter(schedule, encoder, monkeypatch):
    both = Simulated.of(small_cnn(), dataclasses.replace(METHODS[0], schedule=schedule, encoder=encoder))
    whole = both.layer_by_layer()
    assert not both.context.remarks
    monkeypatch.setattr(sequence, "CACHED", 1)
    monkeypatch.setattr(currents, "CACHED", 1)
    monkeypatch.setattr(currents, "KEPT", 1)
    assert all(torch.equal(train, whole[name]) for name, train in both.layer_by_layer().items())
    monkeypatch.setattr(sequence, "BUDGET", 1)
    few = both.layer_by_layer()
    assert both.context.remarks == [
        f"layers were corrected on {sequence.FEWEST_SAMPLES} instead of {SAMPLES} calibration samples, to limit memory"
    ]
    for name, train in few.items():
        assert train.shape[1] == sequence.FEWEST_SAMPLES and torch.equal(train, whole[name][:, : train.shape[1]])


@pytest.mark.parametrize("bias", [(), (3,), (3, 1, 2)], ids=str)
def test_a_shift_of_channels_reaches_every_bias_of_a_scale(bias):
    """A scale has one bias, one for each channel, or one for each element."""
    nodes = (
        Node("input", Input((3, 1, 2))),
        Node("scale", Scale(torch.tensor(1.0), bias=torch.rand(bias)), ("input",)),
        Node("act", ReLU(), ("scale",)),
    )
    graph, delta, x = Graph(nodes), torch.tensor([0.25, 0.5, 0.75]), torch.rand(4, 3, 1, 2)
    with floats(torch.float32):
        moved = shifted(graph, graph["scale"], delta)
        assert torch.allclose(moved.run(x), graph.run(x) + delta[:, None, None])


def test_no_more_samples_are_heard_than_were_recorded():
    both = Simulated.of(small_cnn(), dataclasses.replace(METHODS[0], encoder=SignedEventFrames()))
    short = dataclasses.replace(both.context, recorded=both.context.recorded[:7])
    found = dataclasses.replace(both, context=short).layer_by_layer()
    assert {train.shape[1] for train in found.values()} == {7}
    assert_same(found, both.at_once(samples=7))


def test_a_layer_is_shown_its_source_s_activation():
    case = small_cnn()
    both = Simulated.of(case, METHODS[0])
    expected = {}
    case.graph.to(dtype=torch.float64).run(
        case.calibration[:SAMPLES].double(), observe=lambda node, inputs, output: expected.update({node.name: output})
    )

    def see(heard: LayerInput) -> None:
        assert torch.allclose(heard.analogue, expected[heard.node.name], rtol=1e-5, atol=1e-5)  # folded in float32

    heard_by(see, both.graph, both.context)


def test_a_calibration_takes_the_error_away_that_the_engine_shows():
    """The point of it all: after the last step of FewSteps no layer errs in the mean, in the real simulation."""
    case = small_cnn()
    errors = {}
    for calibrate in ("none", "bias"):
        recipe = FewSteps(T, calibrate=calibrate, samples=48, readout=ts.readouts.AccumulatedMembrane())
        snn = ts.convert(case.graph, recipe, case.calibration, exact_grid=False)
        analogue, spiking = case.graph.run(case.calibration), snn(case.calibration)
        errors[calibrate] = float((analogue - spiking).mean(0).abs().max())
    assert errors["bias"] < 0.5 * errors["none"]


def test_phase_cycles_have_no_such_picture():
    case = small_cnn()
    snn = ts.convert(case.graph, BSNN(8), case.calibration)
    context = Context(case.graph, (case.calibration,), 8, schedule=PhaseCycles(), analogue=[case.graph])
    with pytest.raises(SettingError, match="do not support phase cycles"):
        sequential(snn.graph, context, 8, lambda heard: None)
