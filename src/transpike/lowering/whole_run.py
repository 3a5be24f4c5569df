"""The run of an integer network: the specification of every exporter, in integers."""

from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.lowering.whole import Follow, Front, Integers, Layer, Samples, Term, Trains, Whole, Window

_CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def run_whole(whole: Whole, samples: Samples) -> Trains:
    """Every spike of every layer and step, and the totals of the readout."""
    return _run_of(whole, samples).trains()


def peaks(whole: Whole, samples: Samples) -> dict[str, int]:
    """The largest |v| of each neuron layer before its reset; never above ``Layer.bound``."""
    run = _run_of(whole, samples)
    run.trains()
    return run.peaks


def _run_of(whole: Whole, samples: Samples) -> "_Run":
    return _FirstSpikes(whole, samples) if whole.first_spikes else _Run(whole, samples)


class _Run:
    def __init__(self, whole: Whole, samples: Samples) -> None:
        first = whole.entrances[0]
        entering = samples.entering[first.name]
        batch = len(entering[0] if first.kind == "spikes" else entering)
        self.whole, self.samples, self.batch = whole, samples, batch
        self.ties = 0
        self.peaks = {layer.name: 0 for layer in whole.layers if layer.integrates}
        self.weights = {
            id(term): torch.from_numpy(term.weight).double() for layer in whole.layers for term in layer.terms
        }
        self.potentials = {
            layer.name: np.broadcast_to(layer.initial, (batch, *layer.shape)).copy()
            for layer in whole.layers
            if layer.integrates
        }
        self.sent = {
            layer.name: np.zeros((batch, *layer.shape), np.int64) for layer in whole.layers if layer.rule.remembers
        }
        self.sums = {
            layer.name: np.zeros((batch, *whole.table[layer.source].shape), np.int64)
            for layer in whole.layers
            if layer.kind == "maximum"
        }

    def trains(self) -> Trains:
        steps = [self._step(t) for t in range(self.samples.timesteps)]
        names = [layer.name for layer in self.whole.layers if layer.kind != "readout"]
        readout = self.whole.readout
        totals = sum(levels[readout.name] for levels in steps[readout.start :])
        trains = {name: np.stack([levels[name] for levels in steps]) for name in names}
        return Trains(trains, np.asarray(totals), dict(self.potentials), self.ties)

    def _step(self, t: int) -> dict[str, Integers]:
        """The levels of every layer in step t, from 0; of the readout its charge."""
        levels = {
            one.name: self.samples.entering[one.name][t] if one.kind == "spikes" else self.samples.entering[one.name]
            for one in self.whole.entrances
        }
        for layer in self.whole.layers:
            if layer.kind == "maximum":
                before = self.sums[layer.name]
                self.sums[layer.name] = before + levels[layer.source]
                assert layer.pool is not None
                levels[layer.name] = maximum(self.sums[layer.name], layer.pool) - maximum(before, layer.pool)
                continue
            charge = self._charge(layer, levels, t)
            levels[layer.name] = charge if layer.kind == "readout" else self._fire(layer, charge, t)
        return levels

    def _charge(self, layer: Layer, levels: dict[str, Integers], t: int) -> Integers:
        charge = np.zeros((self.batch, *layer.shape), np.int64)
        if layer.active("bias", t):
            charge += layer.bias
        for name in layer.currents if layer.active("currents", t) else ():
            charge += levels[name]
        for term in layer.terms:
            charge += self._product(term, levels[term.source]).reshape(charge.shape)
        return charge

    def _product(self, term: Term, levels: Integers) -> Integers:
        x = torch.from_numpy(np.ascontiguousarray(rearranged(term, levels))).double()
        return multiplied(term, self.weights[id(term)], x).numpy().astype(np.int64)

    def _fire(self, layer: Layer, charge: Integers, t: int) -> Integers:
        v, name = self.potentials[layer.name] + charge, layer.name
        self.peaks[name] = max(self.peaks[name], int(abs(v).max()))
        self.potentials[name] = v
        if not layer.active("fires", t):
            return np.zeros_like(v)
        levels = sent_levels(layer, v, self.sent.get(name))
        self.ties += ties(layer, v, self.sent.get(name))
        if layer.rule.remembers:
            self.sent[name] += levels
        if layer.rule.follow is None:
            self.potentials[name] = v - levels * layer.threshold if layer.reset == "subtract" else v * (levels == 0)
        return levels


def sent_levels(layer: Layer, v: Integers, sent: Integers | None) -> Integers:
    """What neurons with the potentials ``v`` send, by their rule; ``sent`` is the sum of what they have sent."""
    rule, threshold = layer.rule, layer.threshold
    if rule.is_plain:
        return (v >= threshold).astype(np.int64)
    if rule.kind == "levels":
        return np.clip(v // threshold, 0, rule.most)
    sent = np.zeros_like(v) if sent is None else sent
    if rule.takes_back:
        return (v >= threshold).astype(np.int64) - ((v <= -rule.below) & ((sent > 0) | (rule.kind == "both")))
    left = v if rule.follow is None else wanted(rule.follow, v) - threshold * sent
    found = np.zeros_like(v)
    for power in rule.powers:
        rest = left - found * threshold
        reached = 4 * abs(rest) >= 3 * power * threshold
        reached &= (found == 0) | (rule.kind == "all")
        reached &= (left >= 0) | (sent >= power) | (rule.kind != "nearest")
        found += np.sign(rest) * reached * power
    return found


def ties(layer: Layer, v: Integers, sent: Integers | None) -> int:
    """How many potentials are exactly at an edge of their rule, where > and ≥ differ."""
    rule, threshold = layer.rule, layer.threshold
    if rule.kind == "levels":
        return int(((v > 0) & (v % np.maximum(threshold, 1) == 0) & (v <= rule.most * threshold)).sum())
    if rule.takes_back:
        return int(((v == threshold) | (v == -rule.below)).sum())
    sent = np.zeros_like(v) if sent is None else sent
    left = v if rule.follow is None else wanted(rule.follow, v) - threshold * sent
    return sum(int((4 * abs(left) == 3 * power * threshold).sum()) for power in rule.powers)


def wanted(follow: Follow, v: Integers) -> Integers:
    """What neurons with the estimates ``v`` want to have sent, in parts of a level."""
    kept = np.clip(v, -follow.reach, follow.reach)
    product = np.where(v < 0, follow.falling, follow.rising) * kept + follow.offset
    return follow.times * np.clip(product // follow.divisor, follow.low, follow.high)


class _FirstSpikes(_Run):
    """A network of time slots: biases and currents enter once, and a neuron fires at most once."""

    def __init__(self, whole: Whole, samples: Samples) -> None:
        super().__init__(whole, samples)
        self.fired = {name: np.zeros(v.shape, bool) for name, v in self.potentials.items()}
        self.steps: list[dict[str, Integers]] = []
        for name in self.potentials:
            layer = whole.table[name]
            assert isinstance(layer, Layer)
            self.potentials[name] = self.potentials[name] + self._once(layer)

    def trains(self) -> Trains:
        found = super().trains()
        return replace(found, totals=found.totals + self._once(self.whole.readout))

    def _once(self, layer: Layer) -> Integers:
        """What enters before the first step."""
        return sum((self.samples.entering[name] for name in layer.currents), layer.bias)

    def _step(self, t: int) -> dict[str, Integers]:
        levels = super()._step(t)
        self.steps.append(levels)
        return levels

    def _charge(self, layer: Layer, levels: dict[str, Integers], t: int) -> Integers:
        charge = np.zeros((self.batch, *layer.shape), np.int64)
        if layer.kind == "delay":
            assert layer.slots is not None
            then = t - layer.slots.wait
            return (levels if then == t else self.steps[then])[layer.source] if then >= 0 else charge
        for term in layer.terms:
            if levels[term.source].any():
                charge += self._product(term, levels[term.source]).reshape(charge.shape)
        return charge

    def _fire(self, layer: Layer, charge: Integers, t: int) -> Integers:
        slots = layer.slots
        assert slots is not None
        if layer.kind == "delay":
            return charge
        v = self.potentials[layer.name] = self.potentials[layer.name] + charge
        self.peaks[layer.name] = max(self.peaks[layer.name], int(abs(v).max()))
        level = slots.level(t + 1)
        if not level:
            return np.zeros_like(v)
        limit, before = slots.thresholds[t - slots.before], self.fired[layer.name]
        self.ties += int(((v == limit) & ~before).sum())
        now = (v >= limit) & ~before
        self.fired[layer.name] |= now
        return now * np.int64(level)


def charge_of(front: Front, raw: Integers) -> Integers:
    """The charge, (batch, outputs, …), of an input of integers (batch, *shape)."""
    x = torch.from_numpy(rearranged(front.term, raw)).double()
    found = multiplied(front.term, torch.from_numpy(front.term.weight).double(), x).numpy()
    return np.rint(found / np.exp2(front.shift)).astype(np.int64)


def rearranged(term: Term, levels: Integers) -> Integers:
    """What a term multiplies, (batch, *term.shape), for the levels (batch, *shape) of its source."""
    flat = levels.reshape(len(levels), prod(levels.shape[1:]))
    if term.index is None:
        return flat.reshape(len(flat), *term.shape)
    found = flat[:, term.index.ravel()] * (term.index.ravel() >= 0)
    return found.reshape(len(flat), *term.shape)


def multiplied(term: Term, weight: Tensor, x: Tensor) -> Tensor:
    """The charge of a term; float64 adds integers below 2⁵³ exactly."""
    if term.kind == "scale":
        return x * weight
    if term.kind == "linear":
        return F.linear(x, weight)
    convolution = _CONVS[weight.ndim - 2]
    return convolution(x, weight, None, term.stride, term.padding, term.dilation, term.groups)


def maximum(sums: Integers, pool: Window) -> Integers:
    """The largest sum of each window of (batch, channels, *space); the padding is below every sum."""
    padded = np.pad(sums, [(0, 0), (0, 0), *((p, p) for p in pool.padding)], constant_values=np.iinfo(np.int64).min)
    sizes = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], pool.kernel, pool.stride, strict=True)]
    best = None
    for offset in product(*(range(k) for k in pool.kernel)):
        cut = [slice(o, o + (m - 1) * s + 1, s) for o, m, s in zip(offset, sizes, pool.stride, strict=True)]
        part = padded[(slice(None), slice(None), *cut)]
        best = part if best is None else np.maximum(best, part)
    assert best is not None
    return best
