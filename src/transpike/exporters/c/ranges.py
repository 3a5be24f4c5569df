"""Bounds of every potential in the C network: proven from the weights, whatever enters within the entrances' bounds."""

from dataclasses import dataclass

import numpy as np

from transpike.lowering.whole import Entrance, Integers, Layer, Term, Whole
from transpike.lowering.whole_rules import after_firing
from transpike.lowering.whole_terms import charge_shape


@dataclass(frozen=True)
class Range:
    """``low`` … ``high`` hold the potential and all its partial sums; those of ``current`` what net_start computes."""

    low: int
    high: int
    current_low: int = 0
    current_high: int = 0


def _sums(term: Term, low: int, high: int, shape: tuple[int, ...]) -> tuple[Integers, Integers]:
    """The smallest and largest charge of one term, from levels low … high and 0, in the layer's shape."""
    smallest = np.minimum(np.minimum(term.weight * low, term.weight * high), 0)
    largest = np.maximum(np.maximum(term.weight * low, term.weight * high), 0)

    def total(contributions: Integers) -> Integers:
        if term.kind != "scale":
            contributions = contributions.reshape(len(contributions), -1).sum(1)
        if term.kind == "conv":
            contributions = contributions.reshape(-1, *[1] * (len(charge_shape(term)) - 1))
        return np.broadcast_to(contributions, charge_shape(term)).reshape(shape)

    return total(smallest), total(largest)


def range_of(whole: Whole, layer: Layer) -> Range:
    """The range of a layer's potentials within ``whole.timesteps`` steps.

    Every step adds at least the sum of the negative and at most that of the positive contributions; what follows is up
    to the rule. Borders are not considered: the range holds with and without them.
    """
    low = high = np.broadcast_to(layer.initial, layer.shape).astype(np.int64)
    bias = np.broadcast_to(layer.bias, layer.shape).astype(np.int64)
    steady, partial, given = [0 * bias, 0 * bias], [np.minimum(bias, 0), np.maximum(bias, 0)], []
    for term in layer.terms:
        source = whole.table[term.source]
        least, most = _sums(term, *whole.ends(term.source), layer.shape)
        if isinstance(source, Entrance) and source.kind == "values":
            steady, partial = [steady[0] + least, steady[1] + most], [partial[0] + least, partial[1] + most]
        else:
            given.append((term.source, least, most))
    added = [0, 0]
    for name in layer.currents:
        entrance = whole.table[name]
        assert isinstance(entrance, Entrance)
        added = [added[0] + min(entrance.low, 0), added[1] + max(entrance.high, 0)]
    lowest, highest = int(low.min()), int(high.max())
    for t in range(whole.timesteps):
        sent = [(least, most) for source, least, most in given if whole.sends(source, t)]
        down, up = (low + sum(least for least, _ in sent), high + sum(most for _, most in sent))
        if layer.active("currents", t):
            down, up = down + added[0], up + added[1]
        lowest, highest = (
            min(lowest, int((down + partial[0]).min())),
            max(highest, int((up + partial[1]).max())),
        )
        low, high = down + steady[0], up + steady[1]
        if layer.active("bias", t):
            low, high = low + bias, high + bias
        if layer.kind != "readout" and layer.active("fires", t):
            low, high = after_firing(layer, low, high)
    return Range(lowest, highest, int(partial[0].min()), int(partial[1].max()))


def in_one_run(whole: Whole, layer: Layer) -> Range:
    """The range of the potentials of a first-spike network, in which every source sends once."""
    constant = np.broadcast_to(layer.bias + layer.initial, layer.shape)
    low, high = np.minimum(constant, 0), np.maximum(constant, 0)
    for name in layer.currents:
        entrance = whole.table[name]
        assert isinstance(entrance, Entrance)
        low, high = low + min(entrance.low, 0), high + max(entrance.high, 0)
    for term in layer.terms:
        slots = whole.table[term.source].slots
        assert slots is not None
        least, most = _sums(term, 0, int(slots.levels.max()), layer.shape)
        low, high = low + least, high + most
    return Range(int(low.min()), int(high.max()))
