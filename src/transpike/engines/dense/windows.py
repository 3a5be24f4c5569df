"""Whole windows in the dense engine: one pass, from charges to counts."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.finite import at
from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.engines.dense.narrow import Narrow
from transpike.engines.dense.plan import Plan
from transpike.engines.native import library as _native
from transpike.engines.native.staircase import Staircase
from transpike.engines.pieces import linear
from transpike.engines.run import Run
from transpike.neurons import IntegrateAndFire

NEAR = 1e-5  # of a threshold: off the grid, engines may differ for a potential that is so close to it


class Windows:
    """Counts in closed form; in float64 if float32 is too narrow for the window, with the weights that can be cut into
    parts in float32 (``narrow``). On the grid the library counts for integrate-and-fire neurons.

    ``constants``: the values of the constant nodes, one step each; ``sums``: what a convolution without its bias gives
    that a GPU must not round, or None.
    """

    def __init__(
        self, run: Run, plan: Plan, narrow: Narrow, constants: Mapping[str, Tensor],
        sums: Callable[[Node, Op, list[Tensor]], Tensor | None],
    ) -> None:  # fmt: skip
        self.run, self.plan, self.narrow, self.constants, self.sums = run, plan, narrow, constants, sums

    def advance(self, timesteps: int) -> None:
        run, plan, values = self.run, self.plan, dict[str, Tensor]()
        exactness = plan.lowered.exactness
        wide = run.exact and exactness is not None and timesteps > exactness.window
        lowered = plan.float64_form if wide else plan.lowered
        last, biases, constants = lowered.last_reader, lowered.biases, self.constants
        if wide:
            constants = {name: value.double() for name, value in constants.items()}
        for node in lowered.nodes:
            if node.name in plan.constant_nodes:
                continue
            inputs = [values[i] if i in values else constants[i] * timesteps for i in node.inputs]
            if isinstance(node.op, Input):
                counts = run.program.counts(node, run.x, run.sample_ids, timesteps)
                values[node.name] = counts.double() if wide else counts
            elif isinstance(node.op, Cell):
                values[node.name] = self._levels(node, node.op, inputs, biases[node.name], timesteps)
            elif wide:
                values[node.name] = self.narrow.linear(node.name, node.op, inputs, timesteps)
            else:
                sums = self.sums(node, node.op, inputs)
                values[node.name] = linear(node.op, inputs) if sums is None else sums
            spikes = run.program.spikes(node, run.x, timesteps)
            run.counter.add(node.name, values[node.name][None], spikes)
            for name in node.inputs:
                if last[name] == node.name:
                    values.pop(name, None)
        output, run.t = lowered.output.name, timesteps
        answer = values[output] if output in values else constants[output] * timesteps
        run.read(answer.double() + timesteps * biases[output][0].double(), timesteps)

    def _levels(
        self, node: Node, cell: Cell, inputs: list[Tensor], biases: tuple[Tensor, ...], timesteps: int
    ) -> Tensor:
        """The sum of the levels that a cell sends in its window."""
        run = self.run
        if (found := self._staircase(node, cell, inputs[0], biases[0], timesteps)) is not None:
            return found
        charges = [v + timesteps * b for v, b in zip(inputs, biases, strict=True)]
        with at(node.name):
            levels = cell.counts(*charges, timesteps=timesteps)
        if not run.exact and cell.unit is not None:
            count = partial(_counted, cell, charges[1:], timesteps)
            run.ties += near(count, cell.unit.threshold, charges[0], levels)
        return levels

    def _staircase(self, node: Node, cell: Cell, charge: Tensor, bias: Tensor, timesteps: int) -> Tensor | None:
        """By the native library, or None: of sums that are exact in any order, so that a bias may join v(0)."""
        library = _native.load()[0]
        plain = is_plain(cell, IntegrateAndFire) and cell.unit is not None and cell.unit.is_plain
        if library is None or not self.run.exact or not plain or charge.device.type != "cpu":
            return None
        assert isinstance(cell, IntegrateAndFire)
        if cell.reset != "soft":
            return None
        key, prepared = ("staircase", node.name, timesteps), self.run.program.prepared
        if key not in prepared:
            offset = timesteps * bias.double() + cell.initial.double()
            prepared[key] = Staircase.of(node.shape, offset, cell.threshold, timesteps)
        return prepared[key](library, charge)


def near(answer: Callable[[Tensor], Tensor], threshold: Tensor, charge: Tensor, sent: Tensor) -> int:
    """The number of neurons whose charge is so close to an edge, of any rule, that rounding may decide their answer.

    float32 rounds a large charge by more: the room grows with the level that is sent.
    """
    room = NEAR * threshold.to(charge) * sent.abs().clamp(min=1)
    return int((answer(charge + room) != answer(charge - room)).sum())


def _counted(cell: Cell, others: list[Tensor], timesteps: int, charge: Tensor) -> Tensor:
    return cell.counts(charge, *others, timesteps=timesteps)
