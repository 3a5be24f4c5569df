"""What a conversion stores of spike trains is what was sent, whatever the parts; what it reads in parts is the whole."""

import dataclasses
import math
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import small_cnn
from transpike.activations import ReLU
from transpike.core import pass_
from transpike.core.finite import NotFinite, finite
from transpike.core.graph import Graph, Input, Node
from transpike.core.pass_ import Context
from transpike.engines.event import one_layer
from transpike.engines.native import library as _native
from transpike.lowering import layerwise
from transpike.lowering.trains import Levels, Recorder
from transpike.ops import Add, Linear
from transpike.passes import PercentileThresholds, SquaredErrorThresholds
from transpike.passes.shift import passes_unchanged
from transpike.passes.thresholds import squared_error
from transpike.workflow import sharing as shared_results
from transpike.workflow.convert import spike_rates
from transpike.workflow.sharing import Shared, answer_of, sharing

KINDS = {
    "binary": lambda x: (x > 0.3).float(),
    "ternary": lambda x: x.sign() * (x.abs() > 0.5),
    "bursts": lambda x: (x.abs() * 300).round(),
    "real": lambda x: x,
}


def recorded(levels: Tensor, parts: list[int], scale: Tensor | None, binary: bool) -> Recorder:
    found, start = Recorder(levels.shape[1], len(levels), scale, binary), 0
    for size in parts:
        for t, now in enumerate(levels[:, start : start + size]):
            found.step(t, now.clone())
        start += size
    return found


@given(
    st.integers(0, 2**31), st.integers(1, 70), st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(sorted(KINDS)), st.sampled_from([(), (3,), (3, 2), (3, 2, 5)]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_train_is_what_was_sent(seed, timesteps, parts, kind, shape, scaled, last):
    generator = torch.Generator().manual_seed(seed)
    levels = KINDS[kind](torch.randn((timesteps, sum(parts), *shape), generator=generator))
    if last and len(shape) == 3:  # channels last in memory
        levels = levels.movedim(2, -1).contiguous().movedim(-1, 2)
    scale = torch.tensor(0.75) if scaled else None
    found = recorded(levels, parts, scale, kind == "binary")
    charge = levels if scale is None else levels * scale
    first, end = sorted(torch.randint(0, sum(parts) + 1, (2,), generator=generator).tolist())
    first = min(first, sum(parts) - 1)
    end = max(end, first + 1)
    assert torch.equal(found.train.part(slice(first, end)), charge[:, first:end])
    assert torch.allclose(found.mean, charge.mean(0), rtol=1e-5, atol=1e-6)
    assert isinstance(found.train, Levels)
    if kind == "binary" and timesteps > 1:
        assert sum(part.nbytes for part in found.train.parts) == math.ceil(timesteps / 8) * levels[0].numel()
    if kind == "ternary":
        assert sum(part.nbytes for part in found.train.parts) == levels.numel()


@pytest.mark.skipif(_native.load()[0] is None, reason="the native library is not built")
@given(
    st.integers(0, 2**31), st.integers(1, 70), st.sampled_from([(3,), (17, 2), (3, 2, 5), (16, 3, 3)]),
    st.sampled_from([(1,), (1, -1), (2, 2, 1), (4, 2, 1, -4, -2, -1)]),
)  # fmt: skip
def test_packing_keeps_a_train(seed, timesteps, shape, factors):
    generator = torch.Generator().manual_seed(seed)
    most, least = sum(f for f in factors if f > 0), sum(f for f in factors if f < 0)
    levels = (torch.randn((timesteps, 4, *shape), generator=generator) * 3).round().clamp(least, most)
    found = recorded(levels, [1, 3], torch.tensor(0.5), factors == (1,))
    packed = one_layer.packed(found.train, shape, factors, timesteps)
    assert torch.equal(packed.part(slice(1, 4)), 0.5 * levels[:, 1:])
    assert torch.allclose(packed.mean, found.mean, rtol=1e-6, atol=1e-7)
    if max(abs(f) for f in factors) == 1:
        assert packed.rate == pytest.approx(float(levels.abs().mean()))


def thresholds(rule: object, batches: tuple[Tensor, ...], graph: Graph) -> dict[str, Tensor]:
    context = Context(graph, batches, 8)
    spiking = rule.apply(graph, context)
    ranges = {f"range of {name}": value for name, value in context.ranges.items()}
    return {node.name: node.op.threshold for node in spiking.cells} | ranges


@pytest.mark.parametrize("granularity", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("kind", [PercentileThresholds, SquaredErrorThresholds])
def test_thresholds_do_not_depend_on_the_parts_in_which_data_are_read(kind, granularity, monkeypatch):
    case = small_cnn()
    graph, x = case.graph.to(dtype=torch.float64), case.calibration.double()
    monkeypatch.setattr(squared_error, "VALUES", 50)
    monkeypatch.setattr(squared_error, "LAYER", 100)
    whole = thresholds(kind(granularity), (x,), graph)
    for size, batches in ((1, (x,)), (10**6, x.split(7))):
        monkeypatch.setattr(pass_, "OBSERVED", size)
        monkeypatch.setattr(squared_error, "OBSERVED", size)
        found = thresholds(kind(granularity), tuple(batches), graph)
        assert found.keys() == whole.keys() and len(whole) > 3
        for name, value in whole.items():
            assert torch.allclose(found[name], value, rtol=1e-12), name


@given(
    st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 300), st.integers(1, 40), st.integers(1, 3),
    st.sampled_from([0.0, 0.25, 0.5]),
)  # fmt: skip
def test_squared_errors_are_those_of_the_staircase(seed, rows, values, timesteps, gamma, shift):
    generator = torch.Generator().manual_seed(seed)
    given_ = torch.randn(rows, values, generator=generator, dtype=torch.float64).clamp(min=0)
    rule, largest = SquaredErrorThresholds(gamma=gamma, shift=shift), given_.amax(1)
    found = rule._errors(given_.sort(1).values, largest, timesteps)
    steps = (squared_error.candidates()[:, None] * largest / (gamma * timesteps)).clamp(min=1e-30)[..., None]
    levels = (given_ / steps + shift).floor().clamp(0, gamma * timesteps)
    expected = (levels * steps - given_).square().sum(2) - given_.square().sum(1)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6 * float(given_.square().sum() + 1))  # values at an edge


@pytest.mark.parametrize("granularity", ["layer", "channel", "neuron"])
def test_thresholds_do_not_depend_on_how_many_activations_fit_into_memory(granularity, monkeypatch):
    case, runs = small_cnn(), []
    graph, x = case.graph.to(dtype=torch.float64), case.calibration.double()
    run = Graph.run
    monkeypatch.setattr(
        Graph, "run", lambda self, x, observe=None: runs.append(len(x)) or run(self, x, observe=observe)
    )
    monkeypatch.setattr(pass_, "OBSERVED", 10**3)
    monkeypatch.setattr(squared_error, "OBSERVED", 10**3)
    whole, once = thresholds(SquaredErrorThresholds(granularity), (x,), graph), sum(runs)
    assert once == 2 * len(x)  # the ranges, and the activations that count
    for kept in (0, 2**14):
        monkeypatch.setattr(squared_error, "KEPT", kept)
        found = thresholds(SquaredErrorThresholds(granularity), (x,), graph)
        assert all(torch.allclose(found[name], value, rtol=1e-12) for name, value in whole.items())
    assert sum(runs) == once + 2 * 3 * len(x)  # the candidates must be known first


@given(st.integers(1, 10**7), st.integers(1, 2000), st.integers(1, 5000))
def test_every_position_has_its_turn(values, rows, each):
    stride = squared_error._stride(values, rows, each)
    assert math.gcd(stride, each) == 1
    few = max(squared_error.VALUES, squared_error.LAYER // rows)
    assert stride == 1 if values <= few else stride >= values / few


def test_values_are_finite_although_their_sum_is_not():
    large = torch.full((4, 3), 2e38)
    assert finite(large, ReLU()) is large
    for wrong in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(NotFinite, match="for 1 of 4 samples"):
            finite(large.clone().index_put_((torch.tensor(2), torch.tensor(1)), torch.tensor(wrong)), ReLU())


def test_rates_are_those_of_few_samples():
    case = small_cnn()
    snn = ts.convert(case.graph, ts.recipes.ECC(8), case.calibration)
    assert len(case.calibration) > 16
    assert spike_rates(snn, case.calibration) == spike_rates(snn, case.calibration[:16]) == snn.rates
    assert snn.rates != spike_rates(snn, case.calibration[:15])


def test_a_shift_behind_a_weighted_sum_is_no_shift_of_the_current():
    nodes = (
        Node("x", Input((2,))),
        Node("a", Linear(torch.eye(2), torch.zeros(2)), ("x",)),
        Node("b", Linear(torch.eye(2), torch.zeros(2)), ("x",)),
        Node("sum", Add((1.0, 2.0)), ("a", "b")),
        Node("act", ReLU(), ("sum",)),
    )
    graph = Graph(nodes)
    assert passes_unchanged(graph, "a", "act") and not passes_unchanged(graph, "b", "act")


def test_conversions_for_several_lengths_share_what_does_not_depend_on_them(monkeypatch):
    case, runs = small_cnn(), []
    measure = Context.measure
    monkeypatch.setattr(Context, "measure", lambda self, *given: runs.append(self.timesteps) or measure(self, *given))
    recipes = [ts.recipes.FewSteps(t, samples=16) for t in (4, 8)] + [
        ts.recipes.FewSteps(4, granularity="layer", samples=16)
    ]
    alone = [ts.convert(case.graph, recipe, case.calibration) for recipe in recipes]
    assert runs == [4, 8, 4]
    found = Shared()
    with sharing(found):
        together = [ts.convert(case.graph, recipe, case.calibration) for recipe in recipes]
        other = ts.convert(case.graph, recipes[0], 0.5 * case.calibration)
    assert runs == [4, 8, 4, 4, 4]  # once for each set of data
    for one, same in zip(alone, together, strict=True):
        expected, given = one.graph.parameters() | one.ranges, same.graph.parameters() | same.ranges
        assert expected.keys() == given.keys() and all(torch.equal(given[name], expected[name]) for name in given)
    assert any(not torch.equal(value, other.ranges[name]) for name, value in together[0].ranges.items())


def test_what_is_kept_of_the_source_is_its_activations_and_bounded(monkeypatch):
    """One forward pass for all corrections of several conversions; none is kept if they are too large."""
    case, runs = small_cnn(), []
    run = ts.ops.Conv.run
    recipes = [ts.recipes.FewSteps(t, samples=16) for t in (4, 8)]

    def converted() -> list[ts.SNN]:
        runs.clear()
        with sharing(Shared()):
            return [ts.convert(case.graph, recipe, case.calibration) for recipe in recipes]

    monkeypatch.setattr(ts.ops.Conv, "run", lambda *given: runs.append(len(given[1])) or run(*given))
    kept, once = converted(), sum(runs)
    monkeypatch.setattr(layerwise, "KEPT_ACTIVATIONS", 0)
    again = converted()
    convolutions = sum(isinstance(node.op, ts.ops.Conv) for node in case.graph)
    assert sum(runs) - once == 3 * 16 * convolutions  # of 2 conversions with 2 corrections, all but the first
    for one, same in zip(kept, again, strict=True):
        assert all(torch.equal(value, same.graph.parameters()[name]) for name, value in one.graph.parameters().items())


def test_only_what_the_last_conversion_used_is_kept():
    case, found = small_cnn(), Shared()
    with sharing(found):
        ts.convert(case.graph, ts.recipes.FewSteps(4, samples=16), case.calibration)
        first = set(found.passes)
        ts.convert(case.graph, ts.recipes.ECC(4), case.calibration)
    assert first - set(found.passes) and not found.used


def test_answers_of_source_networks_are_kept_by_network_and_input(monkeypatch):
    case, runs = small_cnn(), []
    run = Graph.run
    monkeypatch.setattr(Graph, "run", lambda self, x, observe=None: runs.append(self) or run(self, x, observe=observe))
    other = case.graph.rewrite(lambda node: dataclasses.replace(node, op=dataclasses.replace(node.op, bias=node.op.bias + 1)) if isinstance(node.op, Linear) else None)  # fmt: skip
    expected = {graph: run(graph, case.x) for graph in (case.graph, other)}
    for found, times in ((None, 3), (Shared(), 1)):
        for graph in (case.graph, other):
            runs.clear()
            with sharing(found) if found else nullcontext():
                answers = [answer_of(graph, case.x) for _ in range(3)]
            assert len(runs) == times and all(torch.equal(one, expected[graph]) for one in answers)
    monkeypatch.setattr(shared_results, "ANSWERS", 0)
    with sharing(Shared()):
        assert torch.equal(answer_of(other, case.x), answer_of(other, case.x)) and len(runs) == 3
