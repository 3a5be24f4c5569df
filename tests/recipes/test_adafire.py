"""AdaFire: bursts where the answer minds, within a budget of spikes."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import transpike as ts
from measured import counts
from networks import small_cnn
from transpike.core.pass_ import Context
from transpike.neurons import Burst
from transpike.passes.thresholds.sensitivity import BINS, cheapest, sensitivities
from transpike.recipes import AdaFire

LAYER = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 40)), min_size=2, max_size=5)


@given(st.lists(LAYER, min_size=1, max_size=4), st.integers(5, 120))
def test_the_search_finds_the_best_of_all_choices(layers, budget):
    table = [[(float(k), damage, float(spikes)) for k, (damage, spikes) in enumerate(layer)] for layer in layers]
    choices = [c for c in itertools.product(*table) if sum(one[2] for one in c) <= budget]
    if not choices:
        with pytest.raises(ts.TranspikeError, match="raise the budget"):
            cheapest(table, budget)
        return
    assert budget < BINS  # whole spikes fall into bins of their own
    found = cheapest(table, budget)
    chosen = [next(one for one in layer if one[0] == k) for layer, k in zip(table, found, strict=True)]
    assert sum(one[2] for one in chosen) <= budget
    assert sum(one[1] for one in chosen) == pytest.approx(min(sum(one[1] for one in c) for c in choices))


@given(st.lists(LAYER, min_size=1, max_size=4))
def test_more_budget_never_does_more_damage(layers):
    table = [[(float(k), damage, float(spikes)) for k, (damage, spikes) in enumerate(layer)] for layer in layers]
    least = sum(min(one[2] for one in layer) for layer in table)

    def damage(budget: float) -> float:
        return sum(
            next(o[1] for o in layer if o[0] == k) for layer, k in zip(table, cheapest(table, budget), strict=True)
        )

    damages = [damage(least * k) for k in (1.0, 1.5, 2.0, 5.0)]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(damages))


def gammas(snn: ts.SNN) -> list[int]:
    return [node.op.gamma for node in snn.graph if isinstance(node.op, Burst)]


def test_a_larger_budget_buys_longer_bursts_and_nearer_answers(digits):
    rich, poor = (digits.converted(AdaFire(timesteps=4, budget=b, samples=32)) for b in (1.2, 0.6))
    assert sum(gammas(rich)) > sum(gammas(poor)) and max(gammas(rich)) <= 8
    with torch.no_grad():
        wanted = digits.model(digits.images)
    # of the answers themselves, which is what a budget buys: both get 535 of 540 digits right
    error = [float((snn(digits.images) - wanted).square().mean()) for snn in (rich, poor)]
    sent = [float(sum(c.sum() for c in counts(snn, digits.images[:64]).values())) for snn in (rich, poor)]
    assert error[0] < 0.5 * error[1] and sent[0] > 1.5 * sent[1]
    assert re.search(r"bursts of up to \d", " ".join(rich.remarks))


def test_compression_raises_thresholds_and_saves_spikes(digits):
    plain, fewer = (digits.converted(AdaFire(timesteps=4, compress=c, samples=32)) for c in (1.0, 0.6))
    sent = [float(sum(c.sum() for c in counts(snn, digits.images[:64]).values())) for snn in (plain, fewer)]
    assert sent[1] < 0.8 * sent[0]
    ratios = [
        float(b.op.threshold / a.op.threshold) for a, b in zip(plain.graph.cells, fewer.graph.cells, strict=True)
        if isinstance(a.op, Burst)
    ]  # fmt: skip
    assert min(ratios) >= 1 and max(ratios) > 1
    assert all(r * 2 == pytest.approx(round(r * 2)) for r in ratios)


def two_layers(weights: tuple[float, float]) -> tuple[torch.nn.Module, torch.Tensor]:
    """Two activations in a row, each of one unit, called ``neuron``; the answer minds them as ``weights`` say."""

    class Block(torch.nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.layer, self.neuron = torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU()
            torch.nn.init.eye_(self.layer.weight)
            self.scale = scale

        def forward(self, x):
            return torch.cat([x, self.scale * self.neuron(self.layer(x[:, :2]))], 1)

    last = torch.nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        last.weight.zero_()
        for column, weight in ((2, weights[0]), (4, weights[1])):
            last.weight[:, column : column + 2] = weight * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    model = torch.nn.Sequential(Block(1.0), Block(1.0), last)
    return model.eval(), torch.rand(64, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", [(5.0, 0.001), (0.001, 5.0)])
def test_the_layer_that_the_answer_minds_gets_the_bursts(weights):
    """In order, whatever activations are called; and with compression the other one the higher threshold."""
    model, x = two_layers(weights)
    snn = ts.convert(model, AdaFire(timesteps=2, budget=0.75, samples=64), x)
    first, second = gammas(snn)
    assert (first > second) == (weights[0] > weights[1]) and first != second
    fewer = ts.convert(model, AdaFire(timesteps=2, budget=0.75, samples=64, compress=0.7), x)
    ratios = [float(b.op.threshold / a.op.threshold) for a, b in zip(snn.graph.cells, fewer.graph.cells, strict=True)]
    assert (ratios[0] < ratios[1]) == (weights[0] > weights[1]) and ratios[0] != ratios[1]
    assert all(float(node.op.initial / node.op.threshold) == pytest.approx(0.5) for node in snn.graph.cells)


def test_damage_is_the_symmetric_divergence():
    model, x = two_layers((2.0, 1.0))
    graph = ts.capture(model, x[:1])
    context = Context(graph, (x,), 2)
    ((damage, spikes),) = sensitivities(graph, context, 64, {"0.neuron": [(torch.tensor(1.0), 1)]})["0.neuron"]
    levels = torch.floor(2 * x + 0.5).clamp(0, 2)
    both = torch.cat([2 * (levels / 2 - x) * torch.tensor([[1.0, -1.0]])], 1).sum(1)
    answers = model(x).detach().double()
    p = answers.softmax(1)
    moved = answers + torch.stack([both, -both], 1).double()
    q = moved.softmax(1)
    kl = lambda a, b: float((a * (a / b).log()).sum(1).mean())  # noqa: E731
    assert damage == pytest.approx(kl(p, q) + kl(q, p), rel=1e-4) and kl(p, q) != pytest.approx(kl(q, p), rel=1e-3)
    assert spikes == pytest.approx(float(levels.sum() / 64))


def test_sensitivities_are_those_of_whole_runs_and_the_front_runs_once(monkeypatch):
    """Through shortcuts too: a walk is a run in which one activation is replaced."""
    case, steps = small_cnn(), 4
    graph, batches = case.graph, tuple(case.calibration.split(24))
    names = [node.name for node in graph if isinstance(node.op, ts.activations.ReLU)]
    tried = {name: [(torch.tensor(theta), gamma) for theta, gamma in ((0.8, 1), (0.5, 3))] for name in names}
    run, runs = ts.ops.Conv.run, []
    monkeypatch.setattr(ts.ops.Conv, "run", lambda *given: runs.append(given[0]) or run(*given))
    found = sensitivities(graph, Context(graph, batches, steps), 1000, tried)
    places = {node.name: place for place, node in enumerate(graph)}
    layers = [places[node.name] for node in graph if isinstance(node.op, ts.ops.Conv)]
    behind = sum(place > places[name] for name in names for place in layers)
    assert len(runs) == len(batches) * (2 * len(layers) + 2 * behind)  # two choices in each place
    monkeypatch.undo()
    for name in names:
        for (theta, gamma), (damage, spikes) in zip(tried[name], found[name], strict=True):
            expected = [0.0, 0.0]

            def see(node, inputs, output, name=name, theta=theta, gamma=gamma, expected=expected):
                if node.name != name:
                    return None
                levels = torch.floor(output * steps / theta + 0.5).clamp(0, gamma * steps)
                expected[1] += float(levels.sum())
                return levels * theta / steps

            for batch in batches:
                p, q = (graph.run(batch, observe=o).double().log_softmax(1) for o in (None, see))
                expected[0] += float(((p.exp() - q.exp()) * (p - q)).sum())
            assert [damage, spikes] == [one / len(case.calibration) for one in expected]


def test_each_layer_has_its_own_threshold():
    with pytest.raises(ts.TranspikeError, match="residual must be 'currents'"):
        AdaFire(residual="shared")


def test_a_network_with_one_output_has_no_sensitivity():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    with pytest.raises(ts.TranspikeError, match="one output"):
        ts.convert(model, AdaFire(timesteps=4), torch.rand(32, 3))
