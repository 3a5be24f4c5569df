"""Phase cycles in the dense engine: one pass per round, in closed form."""

from typing import Any

from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.engines.dense.plan import Plan
from transpike.engines.pieces import linear, pieces, put, taken
from transpike.engines.run import Run


class Cycles:
    """A run in float64, because a cycle's charge needs more than 24 bits.

    States are changed in place, and cells are evaluated for a few samples at a time: otherwise the temporaries of one
    cell are most of the memory of a run, and each of them leaves a gap that the allocator may not fill again.
    """

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run, self.plan, self.lowered = run, plan, plan.float64_form
        self.states: dict[str, Any] = {}

    def advance(self, timesteps: int) -> None:
        """Simulate whole rounds; ``timesteps`` counts the steps in which a layer integrates."""
        run, lowered, period = self.run, self.lowered, self.run.program.schedule.period
        for _ in range(timesteps // period):
            values: dict[str, Tensor] = {}
            run.t += period
            for node in lowered.nodes:
                values[node.name] = self._evaluate(node, values, period)
                if node.name in run.counter.wanted:
                    run.counter.add(node.name, values[node.name][None])
                for name in node.inputs:
                    if lowered.last_reader[name] == node.name:
                        values.pop(name, None)
            answer = values[lowered.output.name] + lowered.biases[lowered.output.name][0]
            run.read(answer * period, run.t)

    def _evaluate(self, node: Node, values: dict[str, Tensor], period: int) -> Tensor:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.op, Input):
            x, ids = self.run.x, self.run.sample_ids
            constant = node.name in self.plan.constant_nodes
            return (node.op.part(x) if constant else self.run.program.counts(node, x, ids, period)).double()
        return self._cell(node, node.op, inputs) if isinstance(node.op, Cell) else linear(node.op, inputs)

    def _cell(self, node: Node, cell: Cell, inputs: list[Tensor]) -> Tensor:
        """The levels of one cycle; the state is changed."""
        biases, batch = self.lowered.biases[node.name], len(self.run.x)
        before = self.states.get(node.name)
        state, levels = before, None
        for part in pieces(batch, max(value[0].nbytes for value in inputs)):
            charges = [value[part] + bias for value, bias in zip(inputs, biases, strict=True)]
            here = cell.init(*charges) if before is None else taken(before, part)
            after, sent = cell.cycle(here, *charges)
            state, levels = put(state, part, after, batch), put(levels, part, sent, batch)
        self.states[node.name] = state
        assert levels is not None
        return levels
