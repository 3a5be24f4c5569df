"""The reference engine: the specification, step by step in float64. It is slow."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.finite import at
from transpike.core.graph import Input
from transpike.engines.modes.clocked import Clock, clocked
from transpike.engines.run import Run, map_state
from transpike.lowering.program import Program


@dataclass(frozen=True)
class Reference:
    """Runs the lowered form step by step; every other engine must give the same spikes.

    ``every_step``: whole windows too are run step by step, and not in two parts, integrating and firing.
    """

    every_step: bool = False

    def start(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str] = (), count: bool = True
    ) -> "ReferenceRun":
        """``x`` is (batch, *shape) after preprocessing; ``record`` names layers whose trains are recorded."""
        key = ("reference", x.device)
        if key not in program.prepared:
            program.prepared[key] = replace(program, lowered=program.lowered.to(dtype=torch.float64, device=x.device))
        run = ReferenceRun(program.prepared[key], x.double(), sample_ids, record, count, program)
        run.every_step = self.every_step
        return run

    def batch_limit(self, program: Program) -> int:
        return 64


class ReferenceRun(Run):
    """``states``: the state of each cell after the last step, where the run was step by step."""

    every_step = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.states: dict[str, Any] = {}
        self.clock: Clock | None = None

    def _steps(self, steps: int) -> None:
        lowered = self.program.lowered
        for _ in range(steps):
            self.t += 1
            values: dict[str, Tensor] = {}
            for node in lowered.nodes:
                if isinstance(node.op, Input):
                    values[node.name] = self.program.sent(node, self.x, self.sample_ids, self.t)
                elif isinstance(node.op, Cell):
                    inputs = [
                        values[name] + bias for name, bias in zip(node.inputs, lowered.biases[node.name], strict=True)
                    ]
                    if node.name not in self.states:
                        self.states[node.name] = node.op.init(*inputs)
                    state = self.states[node.name]
                    with at(node.name, self.t):
                        self.states[node.name], values[node.name] = node.op.step(state, *inputs, t=self.t)
                else:
                    values[node.name] = node.op.linear(*(values[name] for name in node.inputs))
                self.counter.add(node.name, values[node.name][None])
            output = lowered.output.name
            self.read(values[output] + lowered.biases[output][0], self.t)

    def _window(self, timesteps: int) -> None:
        """Every layer integrates the charge of its whole window, then fires for a window."""
        if self.every_step:
            self._wait_window(timesteps)
            return
        program, lowered = self.program, self.program.lowered
        constant = lowered.time_invariant if program.encoder.is_constant else frozenset()
        values: dict[str, Tensor] = {}
        for node in lowered.nodes:
            # constant nodes are computed for one step, and enter with the length of the window as factor
            window = 1 if node.name in constant else timesteps
            inputs = [values[i] * window if i in constant else values[i] for i in node.inputs]
            if isinstance(node.op, Input):
                is_constant = node.name in constant
                counts = program.counts
                values[node.name] = (
                    node.op.part(self.x) if is_constant else counts(node, self.x, self.sample_ids, timesteps)
                )
            elif isinstance(node.op, Cell):
                charges = [v + timesteps * b for v, b in zip(inputs, lowered.biases[node.name], strict=True)]
                with at(node.name):
                    values[node.name] = node.op.fire_window(*charges, timesteps=timesteps)
            else:
                values[node.name] = node.op.linear(*inputs)
            spikes = program.spikes(node, self.x, timesteps)
            self.counter.add(node.name, values[node.name][None], spikes)
        output, self.t = lowered.output.name, timesteps
        answer = values[output] * timesteps if output in constant else values[output]
        self.read(answer + timesteps * lowered.biases[output][0], timesteps)

    def _differences(self, steps: int) -> None:
        if self.clock is None:
            self.clock = Clock(self, self.program.lowered, self.x, steps, None)
        for _ in range(steps):
            self.clock.tick(self.t + 1)
        self.states = self.clock.states

    def _wait_window(self, timesteps: int) -> None:
        self.states = clocked(self, self.program.lowered, self.x, timesteps)

    _cycles = _slots = _wait_window

    @property
    def cell_states(self) -> dict[str, Any]:
        return {} if self.clock is None else self.clock.states

    def _keep(self, order: Tensor) -> None:
        if self.clock is not None:
            self.clock.keep(order)
            self.states = self.clock.states
        else:
            self.states = {name: map_state(state, lambda v: v[order]) for name, state in self.states.items()}
