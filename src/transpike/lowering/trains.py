"""What wires carry over time while a network is simulated layer by layer, in little memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from transpike.core.alphabet import BINARY, GRADED
from transpike.core.cell import Neuron
from transpike.core.plain import is_plain
from transpike.neurons import IntegrateAndFire

BYTE = 8
"""Steps whose binary spikes share one byte."""
WHOLE = (torch.uint8, torch.int8, torch.int16)
"""Types of levels that are not binary, the smallest first."""


class Train(Protocol):
    """What a wire carries: (time, batch, *shape), of which a few samples are unpacked at a time."""

    def part(self, rows: slice) -> Tensor:
        """The charge of the samples ``rows``, (time, samples, *shape); time is 1 for constants and windows."""


class Sent(Protocol):
    """What a layer sends: its train, and the mean charge over time, (batch, *shape)."""

    @property
    def train(self) -> Train: ...

    @property
    def mean(self) -> Tensor: ...


class Kernel(Protocol):
    """A compiled kernel that simulates one layer of neurons on the trains before it."""

    def __call__(self, cell: Neuron, shift: Tensor | None) -> Sent | None:
        """What the layer sends over all steps if its neurons are ``cell``; None if the kernel does not run them.

        ``shift`` is added to its current in each step.
        """


@dataclass(eq=False)
class Values:
    """A train of real numbers, (time, batch, *shape)."""

    values: Tensor

    def part(self, rows: slice) -> Tensor:
        return self.values[:, rows]


@dataclass(eq=False)
class Levels:
    """A train of levels in the smallest type that holds them, in parts of a few samples each.

    ``bits`` is the number of steps of a binary train, of which eight share a byte; 0 for other levels.
    """

    spike_scale: Tensor | None
    bits: int
    parts: list[Tensor] = field(default_factory=list)

    def part(self, rows: slice) -> Tensor:
        found, start = [], 0
        for part in self.parts:
            first, last = max(rows.start - start, 0), min(rows.stop - start, part.shape[1])
            if first < last:
                found.append(self._charge(part[:, first:last]))
            start += part.shape[1]
        return joined(found, 1)

    def _charge(self, part: Tensor) -> Tensor:
        if self.bits:
            values = torch.empty((self.bits, *part.shape[1:]))
            for t in range(self.bits):
                torch.ne(part[t // BYTE] & (1 << t % BYTE), 0, out=values[t])
        else:
            values = part.to(torch.get_default_dtype(), copy=True)
        return values if self.spike_scale is None else values.mul_(self.spike_scale)


class Recorder:
    """Collects what a cell sends, step by step and part by part: the mean over time, and the train if ``keep``.

    ``samples`` is the number of all samples.
    """

    def __init__(
        self,
        samples: int,
        timesteps: int,
        spike_scale: Tensor | None = None,
        binary: bool = False,
        keep: bool = True,
    ) -> None:
        self.samples, self.timesteps, self.spike_scale, self.keep = samples, timesteps, spike_scale, keep
        self._train = Levels(spike_scale, timesteps if binary and timesteps > 1 else 0)
        self.total: Tensor | None = None
        self.seen = 0
        self.sum = torch.empty(0)
        self.steps: list[Tensor] = []

    def step(self, t: int, levels: Tensor) -> None:
        """The levels (samples, *shape) of step t, from 0 on; the tensor may be reused afterwards."""
        self.sum = self.sum.add_(levels) if t else levels.clone()
        if self.keep and not self._train.bits:
            self.steps.append(levels.clone())
        elif self.keep and t % BYTE:
            self.steps[-1].bitwise_or_(levels.to(torch.uint8).mul_(1 << t % BYTE))
        elif self.keep:
            self.steps.append(levels.to(torch.uint8))
        if t == self.timesteps - 1:
            self._end()

    def _end(self) -> None:
        """A part is complete."""
        if self.total is None:
            self.total = self.sum.new_empty((self.samples, *self.sum.shape[1:]))
        self.total[self.seen : self.seen + len(self.sum)] = self.sum
        self.seen += len(self.sum)
        if self.keep:
            whole = joined([one[None] for one in self.steps], 0)
            self._train.parts.append(whole if self._train.bits else _smallest(whole))
            self.steps = []

    @property
    def train(self) -> Train:
        return self._train

    @property
    def mean(self) -> Tensor:
        """(batch, *shape): the mean charge over time; the caller may change it."""
        assert self.total is not None
        mean = self.total / self.timesteps
        return mean if self.spike_scale is None else mean.mul_(self.spike_scale)


def joined(parts: list[Tensor], axis: int) -> Tensor:
    """The parts (time, batch, *shape) side by side, in their own layout of memory."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].ndim == 5 and not parts[0].is_contiguous() and parts[0].movedim(2, -1).is_contiguous():
        return torch.cat([part.movedim(2, -1) for part in parts], axis).movedim(-1, 2)
    return torch.cat(parts, axis)


def is_binary(cell: Neuron) -> bool:
    """True for neurons whose levels are 0 and 1."""
    return cell.output_alphabet(GRADED) == BINARY


def _smallest(levels: Tensor) -> Tensor:
    """Levels as integers of few bits where that is exact."""
    low, high = levels.aminmax()
    for kind in WHOLE:
        limits = torch.iinfo(kind)
        if (
            limits.min <= float(low)
            and float(high) <= limits.max
            and bool(((whole := levels.to(kind)) == levels).all())
        ):
            return whole
    return levels


def scanned(cell: Neuron, current: Tensor, timesteps: int) -> Iterator[tuple[int, Tensor]]:
    """(t, levels) for t = 0, 1 … of a neuron that receives ``current``, (time or 1, batch, *shape).

    The levels (batch, *shape) may be overwritten in the next step.
    """
    current = current.expand(timesteps, *current.shape[1:])
    state = cell.init(current[0])
    if not is_plain(cell, IntegrateAndFire) or not isinstance(cell, IntegrateAndFire) or cell.leak != 1:
        for t in range(timesteps):
            state, levels = cell.step(state, current[t], t=t + 1)
            yield t, levels
        return
    state = torch.empty_like(current[0]).copy_(state)  # in the layout of the currents
    threshold, spikes = cell.threshold.to(state), torch.empty_like(state)
    for t in range(timesteps):  # the same in place
        torch.ge(state.add_(current[t]), threshold, out=spikes)
        if cell.reset == "soft":
            state.addcmul_(spikes, threshold, value=-1)
        else:
            state.addcmul_(state, spikes, value=-1)
        yield t, spikes
