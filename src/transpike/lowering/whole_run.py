"""The run of a whole-number network: the specification of every exporter, in integers."""

from itertools import product
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.lowering.whole import Front, Integers, Layer, Samples, Term, Trains, Whole, Window

_CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def run_whole(whole: Whole, samples: Samples) -> Trains:
    """Every spike of every layer and step, and the totals of the readout."""
    return _Run(whole, samples).trains()


def peaks(whole: Whole, samples: Samples) -> dict[str, int]:
    """The largest |v| of each neuron layer before its reset; never above ``Layer.bound``."""
    run = _Run(whole, samples)
    run.trains()
    return run.peaks


class _Run:
    def __init__(self, whole: Whole, samples: Samples) -> None:
        first = whole.entrances[0]
        entering = samples.entering[first.name]
        batch = len(entering[0] if first.kind == "spikes" else entering)
        self.whole, self.samples, self.batch = whole, samples, batch
        self.peaks = {layer.name: 0 for layer in whole.layers if layer.kind == "integrate"}
        self.weights = {
            id(term): torch.from_numpy(term.weight).double() for layer in whole.layers for term in layer.terms
        }
        self.potentials = {
            layer.name: np.broadcast_to(layer.initial, (batch, *layer.shape)).copy()
            for layer in whole.layers
            if layer.kind == "integrate"
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
        return Trains(trains, np.asarray(totals), dict(self.potentials))

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
            charge = self._charge(layer, levels)
            levels[layer.name] = charge if layer.kind == "readout" else self._fire(layer, charge)
        return levels

    def _charge(self, layer: Layer, levels: dict[str, Integers]) -> Integers:
        charge = np.broadcast_to(layer.bias, (self.batch, *layer.shape)).copy()
        for name in layer.currents:
            charge += levels[name]
        for term in layer.terms:
            x = torch.from_numpy(np.ascontiguousarray(rearranged(term, levels[term.source]))).double()
            found = multiplied(term, self.weights[id(term)], x)
            charge += found.reshape(charge.shape).numpy().astype(np.int64)
        return charge

    def _fire(self, layer: Layer, charge: Integers) -> Integers:
        v = self.potentials[layer.name] + charge
        self.peaks[layer.name] = max(self.peaks[layer.name], int(abs(v).max()))
        spikes = (v >= layer.threshold).astype(np.int64)
        self.potentials[layer.name] = v - spikes * layer.threshold if layer.reset == "subtract" else v * (1 - spikes)
        return spikes


def charge_of(front: Front, raw: Integers) -> Integers:
    """The charge, (batch, outputs, …), of an input of whole numbers (batch, *shape)."""
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
    """The charge of a term; float64 adds whole numbers below 2⁵³ exactly."""
    if term.kind == "scale":
        return x * weight
    if term.kind == "linear":
        return F.linear(x, weight)
    convolution = _CONVS[weight.ndim - 2]
    return convolution(x, weight, None, term.stride, term.padding, term.dilation, term.groups)


def maximum(sums: Integers, pool: Window) -> Integers:
    """The largest sum of each window of (batch, channels, *space); sums are 0 or more, and so is the padding."""
    padded = np.pad(sums, [(0, 0), (0, 0), *((p, p) for p in pool.padding)])
    sizes = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], pool.kernel, pool.stride, strict=True)]
    best = None
    for offset in product(*(range(k) for k in pool.kernel)):
        cut = [slice(o, o + (m - 1) * s + 1, s) for o, m, s in zip(offset, sizes, pool.stride, strict=True)]
        part = padded[(slice(None), slice(None), *cut)]
        best = part if best is None else np.maximum(best, part)
    assert best is not None
    return best
