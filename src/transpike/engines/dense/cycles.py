"""Phase cycles in the dense engine: one pass per round, in closed form."""

from typing import Any

from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.engines.dense.narrow import Narrow
from transpike.engines.dense.plan import Plan
from transpike.engines.pieces import pieces, put, taken
from transpike.engines.run import Run


class Cycles:
    """A run in float64, because a cycle's charge needs more than 24 bits; weights that can be cut into parts add in
    float32 (``narrow``). What depends on a constant input is computed once.

    States are changed in place, and cells are evaluated for a few samples at a time: otherwise the temporaries of one
    cell are most of the memory of a run, and each of them leaves a gap that the allocator may not fill again.
    """

    def __init__(self, run: Run, plan: Plan, narrow: Narrow) -> None:
        self.run, self.plan, self.lowered, self.narrow = run, plan, plan.float64_form, narrow
        self.states: dict[str, Any] = {}
        self.constants: dict[str, Tensor] = {}  # those that others read
        changing = [node for node in self.lowered.nodes if node.name not in plan.constant_nodes]
        read = {name for node in changing for name in node.inputs} | run.counter.wanted | {self.lowered.output.name}
        self.constant_nodes = plan.constant_nodes & read

    def advance(self, timesteps: int) -> None:
        """Simulate whole rounds; ``timesteps`` counts the steps in which a layer integrates."""
        run, lowered, period = self.run, self.lowered, self.run.program.schedule.period
        for _ in range(timesteps // period):
            first, values = not self.constants, dict[str, Tensor]()
            run.t += period
            for node in lowered.nodes:
                if node.name in self.constants:
                    values[node.name] = self.constants[node.name]
                elif first or node.name not in self.plan.constant_nodes:
                    values[node.name] = self._evaluate(node, values, period)
                if node.name in run.counter.wanted:
                    run.counter.add(node.name, values[node.name][None])
                for name in node.inputs:
                    if lowered.last_reader[name] == node.name:
                        values.pop(name, None)
                if node.name in self.constant_nodes:
                    self.constants[node.name] = values[node.name]
            answer = values[lowered.output.name] + lowered.biases[lowered.output.name][0]
            run.read(answer * period, run.t)

    def _evaluate(self, node: Node, values: dict[str, Tensor], period: int) -> Tensor:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.op, Input):
            x, ids = self.run.x, self.run.sample_ids
            constant = node.name in self.plan.constant_nodes
            return (node.op.part(x) if constant else self.run.program.counts(node, x, ids, period)).double()
        if isinstance(node.op, Cell):
            return self._cell(node, node.op, inputs)
        # the levels of a cycle, 1, 1/2, 1/4 … of the largest one, add up to less than twice that
        return self.narrow.linear(node.name, node.op, inputs, times=2)

    def _cell(self, node: Node, cell: Cell, inputs: list[Tensor]) -> Tensor:
        """The levels of one cycle; the state is changed."""
        biases, batch = self.lowered.biases[node.name], len(self.run.x)
        before = self.states.get(node.name)
        state, levels = before, None
        for part in pieces(batch, 8 * max(value[0].numel() for value in inputs)):  # cells compute in float64
            charges = [value[part] + bias for value, bias in zip(inputs, biases, strict=True)]
            here = cell.init(*charges) if before is None else taken(before, part)
            after, sent = cell.cycle(here, *charges)
            state, levels = put(state, part, after, batch), put(levels, part, sent, batch)
        self.states[node.name] = state
        assert levels is not None
        return levels
