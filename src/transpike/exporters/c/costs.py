"""Memory and operations of the C network, next to an ANN with 8-bit weights on the same core."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, Self

import numpy as np

from transpike.exporters.c.layout import Array, sources_of, x_of
from transpike.exporters.c.plan import Plan
from transpike.lowering.whole import Integers, Samples, Term, Trains
from transpike.lowering.whole_terms import charge_shape


@dataclass(frozen=True)
class Costs:
    """Bytes of a C network, and operations for one sample.

    ``flash``: constants; ``ram``: the state on a 32-bit core. ``additions``: of weights to potentials, measured on the
    samples; those with graded levels, and those of an input of integers, are multiplications as well.
    ``updates``: additions and comparisons of neurons, one of each in every step; of first spikes comparisons, one in
    every slot in which a layer may fire. ``ann_macs``: multiplications of the
    network without spikes after the same entrance, sums of windows not counted.
    """

    flash: int
    ram: int
    additions: float
    updates: int
    ann_macs: int

    @property
    def ratio(self) -> float:
        """Operations for one multiplication of the ANN; an update counts as one."""
        return (self.additions + self.updates) / self.ann_macs

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``."""
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}

    def describe(self) -> str:
        """Two sentences."""
        return (
            f"{self.flash:,} bytes of constants, {self.ram:,} bytes of state. Each sample takes "
            f"{self.additions:,.0f} additions of weights and {self.updates:,} updates of neurons; the ANN with 8-bit "
            f"weights takes {self.ann_macs:,} multiplications: {self.ratio:.1f} operations for each of them"
        )


def costs(plan: Plan, flash: int, samples: Samples, trains: Trains) -> Costs:
    """The costs of a run of ``samples`` that gave ``trains``."""
    whole, additions, updates, macs = plan.whole, 0, 0, 0
    fronts = [one.front.term for one in whole.entrances if one.front]  # once for each sample in both networks
    at_start = sum(prod(charge_shape(term)) * term.weight[0].size for term in fronts)
    macs += sum(map(multiplications, fronts))
    for layer in whole.layers:
        firing = samples.timesteps if layer.kind == "integrate" else 0
        if layer.kind == "first-spike" and layer.slots is not None:
            firing = len(layer.slots.levels)
        updates += plan.size(layer.name) * firing
        weights = {term.weight.tobytes(): term for term in layer.terms}  # sums of windows are terms of equal weights
        macs += sum(multiplications(term) for term in weights.values())
        for term in layer.terms:
            source = plan.arrays[term.source]
            levels = trains.levels.get(term.source)
            events = samples.entering[term.source] if levels is None else levels
            if layer.start and len(events) == samples.timesteps and events.ndim > len(source.shape) + 1:
                events = events[layer.start :]
            fired = source.stored((events != 0).astype(np.int64)).reshape(-1, source.size).sum(0)
            additions += int(fired @ fan_out(term, source, plan.arrays[layer.name]))
    return Costs(flash, plan.ram, additions / len(trains.totals) + at_start, updates, macs)


def fan_out(term: Term, source: Array, target: Array) -> Integers:
    """The number of weights that an event of each element of the source adds, in the order of memory."""
    x = x_of(term, target)
    if term.kind == "conv":
        outputs = len(term.weight) // term.groups
        reached = np.ones((), np.int64)
        for axis, size in enumerate(charge_shape(term)[1:]):
            reached = np.multiply.outer(reached, _reached(term, axis, term.shape[axis + 1], size))
        targets = x.spread(reached) * outputs
    else:
        targets = np.full(x.size, 1 if term.kind == "scale" else len(term.weight), np.int64)
    found = sources_of(term, source, x)
    inside = found >= 0
    if term.kind == "linear" and len(term.shape) == 1:  # rows of equal sources are merged
        return np.where(np.bincount(found[inside], minlength=source.size) > 0, len(term.weight), 0)
    return np.bincount(found[inside], targets[inside], minlength=source.size).astype(np.int64)


def _reached(term: Term, axis: int, size: int, outputs: int) -> Integers:
    """For each position along an axis the number of outputs whose windows hold it."""
    count = np.zeros(size, np.int64)
    for k in range(term.weight.shape[axis + 2]):
        places = np.arange(outputs) * term.stride[axis] - term.padding[axis] + k * term.dilation[axis]
        np.add.at(count, places[(places >= 0) & (places < size)], 1)
    return count


def multiplications(term: Term) -> int:
    """Multiplications of one ANN pass: equal weights of one output, which come from sums of windows, multiply once."""
    if term.kind == "scale":
        return 0 if (np.abs(term.weight) == np.abs(term.weight).max()).all() else prod(charge_shape(term))
    flat = term.weight.reshape(*term.weight.shape[:2], -1)
    if term.kind == "conv":
        return prod(charge_shape(term)) * flat.shape[1] * np.unique(flat, axis=2).shape[2]
    return prod(charge_shape(term)) * np.unique(term.weight, axis=1).shape[1]
