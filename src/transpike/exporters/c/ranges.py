"""Bounds of every potential in the C network: proven from the weights, whatever enters within the entrances' bounds."""

from dataclasses import dataclass

import numpy as np

from transpike.lowering.whole import Entrance, Integers, Layer, Term, Whole
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

    Every step adds at least the sum of the negative and at most that of the positive contributions; a spike takes the
    threshold off, or clears the potential. Borders are not considered: the range holds with and without them.
    """
    low = high = np.broadcast_to(layer.initial, layer.shape).astype(np.int64)
    down, up = np.zeros(layer.shape, np.int64), np.zeros(layer.shape, np.int64)
    current = [np.broadcast_to(layer.bias, layer.shape).astype(np.int64)] * 2
    partial = [np.minimum(current[0], 0), np.maximum(current[1], 0)]
    for term in layer.terms:
        source = whole.table[term.source]
        ends = (source.low, source.high) if isinstance(source, Entrance) else (0, 1)
        least, most = _sums(term, *ends, layer.shape)
        if isinstance(source, Entrance) and source.kind == "values":
            current = [current[0] + least, current[1] + most]
            partial = [partial[0] + least, partial[1] + most]
        else:
            down, up = down + least, up + most
    added = [0, 0]
    for name in layer.currents:
        entrance = whole.table[name]
        assert isinstance(entrance, Entrance)
        added = [added[0] + min(entrance.low, 0), added[1] + max(entrance.high, 0)]
    lowest, highest = int(low.min()), int(high.max())
    threshold = np.broadcast_to(layer.threshold, layer.shape)
    for _ in range(whole.timesteps):
        lowest = min(lowest, int((low + down + partial[0] + added[0]).min()))
        highest = max(highest, int((high + up + partial[1] + added[1]).max()))
        low, high = low + down + current[0] + added[0], high + up + current[1] + added[1]
        if layer.kind == "readout":
            continue
        fires = high >= threshold
        after_low, after_high = (
            (0, 0) if layer.reset == "zero" else (np.maximum(low, threshold) - threshold, high - threshold)
        )
        silent_high = np.minimum(high, threshold - 1)
        low = np.where(fires, np.where(low < threshold, np.minimum(low, after_low), after_low), low)
        high = np.where(fires, np.maximum(silent_high, after_high), high)
    return Range(lowest, highest, int(partial[0].min()), int(partial[1].max()))
