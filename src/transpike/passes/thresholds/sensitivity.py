"""Spike budgets and thresholds per layer, chosen by the sensitivity of the output."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import DataError, SettingError
from transpike.neurons import Burst, IntegrateAndFire
from transpike.passes._base import ReplaceNeurons
from transpike.passes._walk import Walk
from transpike.passes.thresholds.squared_error import SquaredErrorThresholds

REFERENCE = 4
"""Γ whose spike count is the budget of the burst search."""
BINS = 2048
"""Resolution of spike counts in the search over all layers."""
MULTIPLIERS = tuple(1 + k / 2 for k in range(19))
"""Candidate factors of a threshold: 1, 1.5 … 10."""
SCALED = ("threshold", "initial", "spike_scale")


@dataclass(frozen=True)
class SearchBursts(ReplaceNeurons):
    """Γ of each layer in 1 … ``gamma``: least damage for at most ``budget`` times the spikes of Γ = 4 everywhere.

    The damage of a choice is the symmetric divergence ``KL(p‖q) + KL(q‖p)`` of the answers with one layer's staircase
    (T steps, Γ spikes each, θ of least squared error for that Γ, v(0) = θ/2) in an otherwise analogue network. The
    damages and spikes of layers are added; the result is the best point of a Pareto front that is built layer by layer.
    Source: Wang et al. 2025 (AdaFire, AAAI), sensitivity and Pareto search, from its code.
    Differs from the paper: v(0) = θ/2 replaces its θ/2T per step. Raises SettingError where no choice fits the budget.
    """

    asks: ClassVar[str] = "activations"
    gamma: int = 8
    budget: float = 1.0
    samples: int = 64

    def __post_init__(self) -> None:
        _check(self.budget, self.samples)
        if isinstance(self.gamma, bool) or not isinstance(self.gamma, int) or not 1 <= self.gamma <= 255:
            raise SettingError(f"gamma must be an integer from 1 to 255, not {self.gamma!r}")

    def _searching(self, context: Context) -> float:
        return _work(context, self.samples, max(self.gamma, REFERENCE))

    def work(self, context: Context) -> float:
        return 2 * min(self.samples, context.samples) + self._searching(context)

    def apply(self, graph: Graph, context: Context) -> Graph:
        analogue = context.analogue[0]
        places = _places(graph, analogue)
        gammas = range(1, max(self.gamma, REFERENCE) + 1)
        rules = [SquaredErrorThresholds("layer", gamma=gamma, shift=0.5, samples=self.samples) for gamma in gammas]
        rate, search = context.divided(rules[0].measuring(context), self._searching(context))
        thresholds = {rule.gamma: rule.measured(analogue, rate) for rule in rules}
        tried = {name: [(thresholds[gamma][name].reshape(()), gamma) for gamma in gammas] for name in places}
        found = sensitivities(analogue, search, self.samples, tried)
        reference = sum(found[name][REFERENCE - 1][1] for name in places)
        table = [[(gamma, *found[name][gamma - 1]) for gamma in gammas if gamma <= self.gamma] for name in places]
        chosen = cheapest(table, self.budget * reference)
        context.remark(f"bursts of up to {', '.join(map(str, chosen))} spikes, layer by layer")
        new = {}
        for name, most in zip(places, chosen, strict=True):
            cell, theta = graph[name].op, thresholds[int(most)][name].reshape(())
            assert isinstance(cell, IntegrateAndFire)
            new[name] = Burst(cell.source, theta, theta / 2, int(most))
        return graph.rewrite(lambda node: dataclasses.replace(node, op=new[node.name]) if node.name in new else None)

    def describe(self) -> str:
        return f"up to {self.gamma} spikes, and θ of least squared error, by sensitivity"


@dataclass(frozen=True)
class SearchThresholds(Pass):
    """θ of each layer times 1, 1.5 … 10: least damage for at most ``budget`` times the present spikes.

    Higher thresholds give fewer spikes with a larger scale. Damage and search as in ``SearchBursts``.
    Source: Wang et al. 2025 (AdaFire, AAAI), sensitivity spike compression, whose code assigns its list to the layers
    in reverse order.
    """

    asks: ClassVar[str] = "activations"
    budget: float = 0.8
    samples: int = 64

    def __post_init__(self) -> None:
        _check(self.budget, self.samples)

    def work(self, context: Context) -> float:
        return _work(context, self.samples, len(MULTIPLIERS))

    def apply(self, graph: Graph, context: Context) -> Graph:
        analogue = context.analogue[0]
        places = _places(graph, analogue)
        tried: dict[str, list[tuple[Tensor, int]]] = {}
        for name in places:
            unit = graph[name].op.unit  # type: ignore[union-attr]
            assert unit is not None
            tried[name] = [(unit.threshold * k, unit.levels) for k in MULTIPLIERS]
        found = sensitivities(analogue, context, self.samples, tried)
        reference = sum(found[name][0][1] for name in places)
        table = [[(k, *one) for k, one in zip(MULTIPLIERS, found[name], strict=True)] for name in places]
        chosen = dict(zip(places, cheapest(table, self.budget * reference), strict=True))
        context.remark(f"thresholds times {', '.join(f'{k:g}' for k in chosen.values())}, layer by layer")

        def change(node: Node) -> Node | None:
            if node.name not in chosen:
                return None
            cell, k = node.op, chosen[node.name]
            moved = {name: value * k for name, value in cell.tensors().items() if name in SCALED}
            return dataclasses.replace(node, op=cell.with_tensors(**moved))

        return graph.rewrite(change)

    def describe(self) -> str:
        return f"× 1 … 10 by sensitivity, for {self.budget:g} of the spikes"


def _work(context: Context, samples: int, choices: int) -> float:
    """That of ``sensitivities``: half of the network after each activation, for each choice and sample."""
    places = sum(getattr(node.op, "role", "") == "activation" for node in context.source)
    return min(samples, context.samples) * (1 + choices * places / 2)


def sensitivities(
    analogue: Graph, context: Context, samples: int, tried: Mapping[str, Sequence[tuple[Tensor, int]]]
) -> dict[str, list[tuple[float, float]]]:
    """Activation → (damage, spikes) per sample for each (θ, Γ) that is ``tried`` in its place, all others analogue.

    One walk through the network: the layers before an activation, which no choice changes, are computed once.
    """
    batches, axis = context.first(samples), analogue.channel_axes[analogue.output.name]  # that of the classes
    count, steps = sum(map(len, batches)), context.timesteps
    found = {name: [[0.0, 0.0] for _ in choices] for name, choices in tried.items()}
    for number, batch in enumerate(batches):
        p = analogue.run(batch).double().log_softmax(axis)
        if p.shape[axis] < 2:
            raise DataError("sensitivity compares the answers of classes, but this network has one output")
        walk = Walk(analogue, batch)
        for done, (name, output) in enumerate(walk.to(tried), 1):
            for sums, (theta, gamma) in zip(found[name], tried[name], strict=True):
                levels = torch.floor(output * steps / theta + 0.5).clamp(0, gamma * steps)
                q = walk.answer(levels * theta / steps).double().log_softmax(axis)
                sums[0] += float(((p.exp() - q.exp()) * (p - q)).sum())
                sums[1] += float(levels.sum())
            context.progress(number * len(tried) + done, len(batches) * len(tried))
    return {name: [(damage / count, spikes / count) for damage, spikes in sums] for name, sums in found.items()}


def cheapest(table: Sequence[Sequence[tuple[float, float, float]]], budget: float) -> list[float]:
    """One choice per layer of (choice, damage, spikes): the least sum of damages with at most ``budget`` spikes.

    Partial sums that need as many spikes (in ``BINS`` parts of the budget) as another and do more damage are dropped.
    Raises SettingError where no combination fits the budget.
    """
    front: list[tuple[float, float, tuple[float, ...]]] = [(0.0, 0.0, ())]
    for layer in table:
        best: dict[int, tuple[float, float, tuple[float, ...]]] = {}
        for spikes, damage, choices in front:
            for choice, more, cost in layer:
                one = (spikes + cost, damage + more, (*choices, choice))
                if one[0] > budget * (1 + 1e-9):
                    continue
                key = int(one[0] / budget * BINS)
                if key not in best or one[1] < best[key][1]:
                    best[key] = one
        front, least = [], float("inf")
        for _, one in sorted(best.items()):
            if one[1] < least:
                front.append(one)
                least = one[1]
    if not front:
        raise SettingError(
            f"no combination of layers needs at most {budget:.4g} spikes per sample: raise the budget or timesteps"
        )
    return list(min(front, key=lambda one: one[1])[2])


def _places(graph: Graph, analogue: Graph) -> list[str]:
    """The neurons that replace activations, without one after the last layer."""
    activations = {node.name for node in analogue}
    places = [n.name for n in graph if is_plain(n.op, (IntegrateAndFire, Burst)) and n.name in activations]
    if not places:
        raise SettingError("no neuron of this network replaces an activation: there is nothing to search")
    return places


def _check(budget: float, samples: int) -> None:
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < float("inf"):
        raise SettingError(f"budget must be positive, not {budget!r}: it multiplies the spikes")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise SettingError(f"samples must be an integer of at least 1, not {samples!r}")
