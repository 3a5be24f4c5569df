"""What a conversion stores of spike trains is what was sent, whatever the parts; what it reads in parts is the whole."""

import math

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
from transpike.lowering.trains import Levels, Recorder
from transpike.ops import Add, Linear
from transpike.passes import PercentileThresholds, SquaredErrorThresholds
from transpike.passes.shift import passes_unchanged
from transpike.passes.thresholds import squared_error
from transpike.workflow.convert import sharing, spike_rates

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
@given(st.integers(0, 2**31), st.integers(2, 70), st.sampled_from([(3,), (17, 2), (3, 2, 5), (16, 3, 3)]))
def test_packing_keeps_a_train(seed, timesteps, shape):
    levels = (torch.randn((timesteps, 4, *shape), generator=torch.Generator().manual_seed(seed)) > 0.3).float()
    found = recorded(levels, [1, 3], torch.tensor(0.5), True)
    packed = one_layer.packed(found.train, shape)
    assert torch.equal(packed.part(slice(1, 4)), 0.5 * levels[:, 1:])
    assert torch.equal(packed.mean, found.mean)
    assert packed.rate == pytest.approx(float(levels.mean()))


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
    found: dict = {}
    with sharing(found):
        together = [ts.convert(case.graph, recipe, case.calibration) for recipe in recipes]
        other = ts.convert(case.graph, recipes[0], 0.5 * case.calibration)
    assert runs == [4, 8, 4, 4, 4]  # once for each set of data
    for one, same in zip(alone, together, strict=True):
        expected, given = one.graph.parameters() | one.ranges, same.graph.parameters() | same.ranges
        assert expected.keys() == given.keys() and all(torch.equal(given[name], expected[name]) for name in given)
    assert any(not torch.equal(value, other.ranges[name]) for name, value in together[0].ranges.items())
