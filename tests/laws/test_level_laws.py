"""Neurons that send several levels or leak: the event engine against the reference, for every rule."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from instruction_sets import instructions  # noqa: F401 (a fixture of the whole module)
from networks import STEPS, Case, assert_same_counts, assert_same_spikes, cases, cells, recipes, run, wide_network
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.run import EventPlan
from transpike.engines.native import library as _native
from transpike.errors import UnsupportedModel
from transpike.neurons import Burst, IntegrateAndFire, MultiThreshold, SignedEncoder, SignedIntegrateAndFire

LIBRARY, WHY = _native.load()
# Without a C compiler the library is not built, and there is nothing to test.
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")

Made = Callable[[IntegrateAndFire], IntegrateAndFire]


def signed(rule: str, depth: float = 0.0) -> Made:
    return lambda cell: SignedIntegrateAndFire(cell.source, cell.threshold, cell.initial, rule, depth)


def burst(gamma: int) -> Made:
    """Levels of a third of the threshold."""
    return lambda cell: Burst(cell.source, cell.threshold / 3, cell.initial / 3, gamma)


def several(count: int, rule: str) -> Made:
    """Levels of a quarter of the threshold."""
    return lambda cell: MultiThreshold(cell.source, cell.threshold / 4, cell.initial / 4, count, rule)


RULES: dict[str, Made] = {
    "snm": signed("snm"), "fast-snn": signed("fast-snn"), "pascal": signed("pascal"), "dual": signed("dual", 0.3),
    "encoder": lambda cell: SignedEncoder(cell.source, cell.threshold, cell.initial),
    "burst 1": burst(1), "burst 5": burst(5), "burst 12": burst(12), "any 1": several(1, "any"),
    "any 3": several(3, "any"), "any 4": several(4, "any"), "one 1": several(1, "one"), "one 4": several(4, "one"),
    "one 6": several(6, "one"),
}  # fmt: skip


def with_neurons(snn: ts.SNN, *made: Made) -> ts.SNN:
    """The network with other neurons, layer by layer in turn."""
    nodes, index = [], 0
    for node in snn.graph:
        if isinstance(node.op, IntegrateAndFire):
            node = dataclasses.replace(node, op=made[index % len(made)](node.op))
            index += 1
        nodes.append(node)
    return dataclasses.replace(snn, graph=ts.core.graph.Graph(tuple(nodes)))


def network(case: Case, recipe: ts.recipes.ECC, *made: Made, **options: object) -> ts.SNN:
    """On the grid, with layers that fire."""
    try:
        snn = ts.convert(case.graph, recipe, case.calibration, **options)
    except UnsupportedModel as error:  # a maximum pooling after a sum of spikes
        assume("cannot move before" not in str(error))
        raise
    return with_neurons(snn, *made)


def assert_is_the_reference(snn: ts.SNN, x: Tensor, timesteps: int = STEPS) -> ts.Trace:
    event, dense, reference = (run(snn, x, name, timesteps) for name in ("event", "dense", "reference"))
    for other in (dense, reference):
        assert_same_spikes(event, other)
        assert_same_counts(event, other)
    return event


rules = st.sampled_from(sorted(RULES)).map(RULES.__getitem__)


@settings(max_examples=12)
@given(st.one_of(cases(), st.integers(0, 59).map(wide_network)), recipes(), st.lists(rules, min_size=1, max_size=2))
def test_networks_of_any_rules_fire_the_spikes_of_the_reference(case, recipe, made):
    snn = network(case, dataclasses.replace(recipe, reset="soft"), *made)
    assume(snn.exactness.timesteps >= STEPS)
    assert_is_the_reference(snn, case.x)


def test_the_networks_of_these_tests_use_every_kernel_and_rule():
    found: set[str] = set()
    for made in RULES.values():
        for seed in (4, 17, 30):
            case = wide_network(seed)
            snn = network(case, ts.recipes.ECC(timesteps=STEPS), made)
            plan = EventPlan(snn.program)
            found |= {
                f"dense: {plan.choice.kernels[name]}" for name in set(plan.choice.kernels) - set(plan.choice.layers)
            }
            for layer in plan.choice.layers.values():
                if isinstance(layer, EventLayer):
                    found |= {f"rule {layer.firing.rule}"}
                    for source in layer.sources:
                        several = len(plan.choice.planes[source.wire]) > 1
                        found |= {f"{source.kind} of {'levels' if several else 'spikes'}"}
                        found |= {"pooled levels"} if len(source.planes) > 1 and several else set()
    rules_ = {f"rule {rule}" for rule in range(4)}
    assert found >= rules_ | {"1 of levels", "2 of levels", "3 of levels", "5 of levels", "pooled levels"}
    assert not any("kernel" in text for text in found)


@pytest.mark.parametrize("timesteps", [33, 64])
@pytest.mark.parametrize("name", ["dual", "burst 5", "one 4"])
def test_words_of_32_steps_may_end_anywhere(name, timesteps):
    case = wide_network(8)
    snn = network(case, ts.recipes.ECC(timesteps=70), RULES[name])
    assert_is_the_reference(snn, case.x, timesteps)


@pytest.mark.parametrize("name", ["snm", "any 4", "one 6"])
def test_samples_may_leave(name):
    case = wide_network(8)
    snn = network(case, ts.recipes.ECC(timesteps=STEPS), RULES[name])
    found = []
    for engine in (ts.engines.Event(), ts.engines.Reference()):
        run_ = engine.start(snn.program, snn.prepare(case.x), torch.arange(3))
        run_.advance(4)
        run_.keep(torch.tensor([False, True, True]))
        run_.advance(4)
        found.append(run_.finish())
    assert torch.equal(found[0].logits, found[1].logits)
    assert_same_counts(*found)


@pytest.mark.parametrize("name", ["pascal", "burst 12"])
def test_streams_give_the_answers_of_a_run(name):
    case = wide_network(8)
    snn = network(case, ts.recipes.ECC(timesteps=STEPS), RULES[name])
    stream = snn.start(case.x, engine="event")
    logits = torch.stack([stream.step() for _ in range(STEPS)])
    assert torch.equal(logits, run(snn, case.x, "reference").logits)


def leaky(reset: str) -> Made:
    return lambda cell: IntegrateAndFire(cell.source, cell.threshold / 2, cell.initial, reset, 0.9)


@pytest.mark.parametrize("made", [leaky("soft"), leaky("hard"), *RULES.values()])
def test_off_the_grid_engines_differ_only_where_ties_are_reported(made):
    case = wide_network(17)
    snn = network(case, ts.recipes.ECC(timesteps=STEPS), made, exact_grid=False)
    event, dense = (ts.simulate(snn, case.x, STEPS, engine=name, record=cells(snn)) for name in ("event", "dense"))
    assert all(kernel.startswith("event") for name, kernel in event.kernels.items() if "max" not in kernel)
    same = all(torch.equal(event.trains[name], dense.trains[name]) for name in event.trains)
    assert same or (event.ties and not event.exact)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_a_leak_takes_the_word_exact_away(reset):
    case = wide_network(8)
    trace = ts.simulate(network(case, ts.recipes.ECC(timesteps=STEPS), leaky(reset)), case.x)
    assert not trace.exact and "leak" in trace.why


def test_a_tie_is_counted_for_every_rule():
    """A potential that is a threshold."""
    for made in (*RULES.values(), leaky("soft"), leaky("hard")):
        cell = IntegrateAndFire(None, torch.tensor(1.0), torch.tensor(0.0))
        level = made(cell).threshold * (0.75 if "one a step" in made(cell).describe() else 1)
        nodes = (
            ts.core.graph.Node("input", ts.core.graph.Input((1,))),
            ts.core.graph.Node("weight", ts.ops.Linear(weight=level.reshape(1, 1)), ("input",)),
            ts.core.graph.Node("neuron", made(cell), ("weight",)),
            ts.core.graph.Node("answer", ts.ops.Linear(weight=torch.ones(1, 1)), ("neuron",)),
        )
        graph, recipe = ts.core.graph.Graph(nodes), ts.recipes.ECC(timesteps=1)
        snn = ts.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0), None, False)
        ties = [ts.simulate(snn, torch.tensor([[x]]), 1, engine="event").ties for x in (1.0, 1.1)]
        assert ties == [1, 0], made(cell).describe()
