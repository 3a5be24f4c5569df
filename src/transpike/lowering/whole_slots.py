"""First spikes in integers: when a layer fires, what its potential must reach in each slot, and what it sends."""

import numpy as np
import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.encoder import Encoder
from transpike.core.graph import Node
from transpike.core.plain import is_plain
from transpike.encoders.first_spikes import FirstSpikes
from transpike.errors import UnsupportedModel
from transpike.lowering.program import Program
from transpike.lowering.whole import Integers, Layer, Slots
from transpike.lowering.whole_timing import Times
from transpike.neurons.exact_relu import ExactReLU
from transpike.neurons.first_crossing import FirstCrossing, Integrator, Latched
from transpike.neurons.first_spike import FirstSpike, Retimed

WAY_OUT = "use a recipe whose neurons fire once in a time slot, such as cat, linear-ttfs, t2fsnn or s4nn"


def check_slots(program: Program, window: int) -> None:
    """Raises UnsupportedModel for what sends no first spikes, and SettingError for a longer window than converted."""
    encoder = program.encoder
    if not encoder.is_constant and not is_plain(encoder, FirstSpikes):
        raise UnsupportedModel(
            f"the encoder {type(encoder).__name__} has no integer form in time slots: use FirstSpikes() or "
            "ConstantCurrent()"
        )
    for node in program.lowered.nodes:
        if isinstance(node.op, Neuron) and not node.op.is_delay:
            _check(node, node.op)
    program.check_steps(window)


class Slotting:
    """Makes the slots of the layers of a program."""

    def __init__(self, encoder: Encoder, times: Times) -> None:
        self.encoder, self.times = encoder, times

    def entering(self) -> Slots:
        """The slots of the input's spikes."""
        assert isinstance(self.encoder, FirstSpikes)
        code = self.encoder.code
        levels = code.levels if self.encoder.weighted else torch.ones(code.slots)
        return Slots(0, _integers(levels[: self.times.window]))

    def delay(self, node: Node, cell: Cell, source: Node, slots: Slots | None) -> Layer:
        """The layer of a delay; ``slots`` are those of its source, None where that sends no spikes.

        Raises UnsupportedModel for a delay of anything else than the spikes of one layer.
        """
        if not is_plain(cell, Retimed) or slots is None:
            raise UnsupportedModel(
                f"{node.name} ({cell.describe()}) delays what {source.name} ({source.op.describe()}) makes of spikes, "
                "or currents, not the spikes of one layer: begin the shortcut directly after an activation"
            )
        later = Slots(slots.before + self.times.lag, slots.levels, wait=self.times.lag)
        return Layer(node.name, "delay", node.shape, 0, np.ones(1), source=source.name, slots=later)

    def first_spikes(self, node: Node, cell: Cell, unit: Tensor) -> Slots:
        """The slots of a layer of neurons; ``unit`` (*shape) is that of the potentials.

        A threshold is compared in float64, also by the reference engine, so that the smallest integer that reaches
        it decides alike. Raises UnsupportedModel for other cells.
        """
        _check(node, cell)
        assert isinstance(cell, (FirstSpike, FirstCrossing))
        before, theta = self.times.starts[node.name] + self.times.lag, cell.threshold.double().expand(node.shape)
        if isinstance(cell, FirstSpike):
            count = min(self.times.window, cell.code.slots)
            factors = [float(factor) for factor in cell.code.slot_thresholds[:count]]
            thresholds = np.stack([_integers(torch.ceil(theta * factor / unit)) for factor in factors])
            return Slots(before, _integers(cell.code.levels[:count]), _shared(thresholds))
        count = min(self.times.window, cell.timed or self.times.window)
        levels = np.arange(cell.timed, cell.timed - count, -1) if cell.timed else np.ones(count)
        reached = torch.floor(theta / unit) + 1 if cell.strict else torch.ceil(theta / unit)
        thresholds = _integers(reached)[None].repeat(count, 0)
        return Slots(before, levels.astype(np.int64), _shared(thresholds))


def _check(node: Node, cell: Cell) -> None:
    if not is_plain(cell, (FirstSpike, FirstCrossing)):
        raise UnsupportedModel(f"{node.name} ({cell.describe()}) has no integer form: {_reason(cell)}")
    if bool(cell.initial.any()):
        raise UnsupportedModel(
            f"{node.name} ({cell.describe()}) starts with charge, which has no integer form in time slots: put it "
            "into the bias"
        )


def _reason(cell: Cell) -> str:
    """Why a cell of a network of time slots has no integer form, and the remedy."""
    if isinstance(cell, (Latched, Integrator)):
        return f"a spike is a current that remains, and not one level; {WAY_OUT}"
    if isinstance(cell, ExactReLU):
        return f"it fires at an exact time, and not in a time slot; {WAY_OUT}"
    return f"only neurons that fire once have, and the maximum of their spikes; {WAY_OUT}"


def _integers(values: Tensor) -> Integers:
    return values.numpy().astype(np.int64)


def _shared(thresholds: Integers) -> Integers:
    """With size 1 on every axis but that of slots on which all values are equal."""
    for axis in range(1, thresholds.ndim):
        first = thresholds.take([0], axis)
        if np.array_equal(np.broadcast_to(first, thresholds.shape), thresholds):
            thresholds = first
    return thresholds
