"""A run of the dense engine: layer by layer, time folded into the batch, neurons scanned in place."""

from collections.abc import Iterable
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell, NeuronSpec
from transpike.core.channels import shaped
from transpike.core.finite import at
from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.engines.dense import fused
from transpike.engines.dense.cycles import Cycles
from transpike.engines.dense.estimates import Estimates
from transpike.engines.dense.narrow import Narrow
from transpike.engines.dense.plan import FOLDED_IMAGES, LARGEST_TENSOR, LIVE_WIRES, Plan
from transpike.engines.dense.windows import NEAR, Windows, near
from transpike.engines.modes.clocked import Clock, aligned, clocked, has_cycles
from transpike.engines.modes.slots import Coder, has_closed_form
from transpike.engines.pieces import linear
from transpike.engines.run import Run, map_state
from transpike.lowering.exact_grid import RANGE_CHECK_EVERY
from transpike.lowering.lowered import Lowered
from transpike.lowering.program import Program
from transpike.ops import Conv

CONSTANT_SAMPLES = 4  # samples per computation of constant currents: float64 images that fit into the cache


class FoldedRun(Run):
    """Wires hold (time · batch, *shape); ``constant_values`` are the values of the constant nodes, one step each."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        x: Tensor,
        sample_ids: Tensor,
        record: Iterable[str],
        count: bool,
        memory: int,
    ) -> None:
        super().__init__(program, x.float(), sample_ids, record, count)
        self.plan, self.memory, self.states = plan, memory, dict[str, Any]()
        exactness = program.lowered.exactness
        # exact spike times are real numbers: float32 would round them
        self.wide = self.double or (self.exact and exactness is not None and exactness.wide)
        self.clock: Clock | None = None
        self.estimates: Estimates | None = None

    def enter(self, x: Tensor) -> None:
        super().enter(x)
        self.__dict__.pop("constant_values", None)  # computed from the new input when they are next read

    @cached_property
    def constant_values(self) -> dict[str, Tensor]:
        """The values of the constant nodes that others read, computed in float64, a few samples at a time.

        Only when they are first read: differences, cycles and runs step by step do not need them.
        """
        if not self.plan.constant_nodes:
            return {}
        parts = [self._constants_of(x) for x in self.x.split(CONSTANT_SAMPLES)]
        values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]
        return {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in values.items()}

    def _constants_of(self, x: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        plan = self.plan
        needed = {i for n in plan.lowered.nodes if n.name not in plan.constant_nodes for i in n.inputs}
        for node in plan.float64_form.nodes:
            if node.name in plan.constant_nodes:
                inputs = [values[name] for name in node.inputs]
                values[node.name] = node.op.part(x.double()) if isinstance(node.op, Input) else node.op.linear(*inputs)  # type: ignore[union-attr]
        dtype = torch.float64 if self.wide else torch.float32
        found = {name: value.to(dtype) for name, value in values.items() if name in needed}
        output = plan.lowered.output.name
        if output in values:  # no neuron has a part in the answer, which is rounded after its bias
            found.setdefault(output, values[output])
        return found

    def _steps(self, steps: int) -> None:
        batch, largest = len(self.x), self.plan.largest
        spare = self.memory - batch * self.plan.state
        room = min(FOLDED_IMAGES // batch, LARGEST_TENSOR // (batch * largest), spare // (LIVE_WIRES * batch * largest))
        room = max(1, room)
        while steps > 0:
            chunk = min(room, steps)
            self._chunk(chunk)
            steps -= chunk

    def _chunk(self, steps: int) -> None:
        """All layers over ``steps`` steps; wires hold (steps · batch, *shape), time first."""
        plan, values = self.plan, dict[str, Tensor]()
        last = plan.lowered.last_reader
        for node in plan.lowered.nodes:
            if node.name in plan.constant_nodes:
                continue
            values[node.name] = self._evaluate(node, values, steps)
            self.counter.add(node.name, values[node.name].unflatten(0, (steps, len(self.x))))
            for name in node.inputs:
                if last[name] == node.name:
                    values.pop(name, None)
        self._answer(values.get(plan.lowered.output.name), steps)

    def _evaluate(self, node: Node, values: dict[str, Tensor], steps: int) -> Tensor:
        """The output of a node in these steps, from the ``values`` of the nodes before it."""
        if isinstance(node.op, Input):
            sent = self.program.sent
            return torch.cat([sent(node, self.x, self.sample_ids, self.t + k + 1) for k in range(steps)])
        if isinstance(node.op, Cell):
            return self._scan(node, node.op, values, steps)
        inputs = [values[i] if i in values else _repeated(self.constant_values[i], steps) for i in node.inputs]
        op = self.plan.ops[node.name]
        found = self._exact_sums(node, op, inputs)
        return op.run(*inputs) if found is None else found

    def _exact_sums(self, node: Node, op: Op, inputs: list[Tensor], biased: bool = True) -> Tensor | None:
        """What a convolution gives that a GPU must not round; None for everything else."""
        sums = self.plan.sums
        if sums is None or not self.exact or not is_plain(op, Conv) or inputs[0].dtype != torch.float32:
            return None
        found = sums.linear(node.name, op, inputs[0])
        if sums.rounds:
            self.exact, self.why = False, f"the convolution {sums.rounds} rounds its sums on {self.x.device}"
        return found if op.bias is None or not biased else found + op.bias.reshape(-1, *(1,) * op.dimensions)

    def _answer(self, answer: Tensor | None, steps: int) -> None:
        """Read the output's currents, (steps · batch, …), step by step; None if they are constant."""
        output = self.plan.lowered.output.name
        answer = _repeated(self.constant_values[output], steps) if answer is None else answer
        bias = self.plan.biases[output][0]
        answer = answer.double() if bias is None else answer.double() + bias.double()
        for now in answer.unflatten(0, (steps, len(self.x))):
            self.t += 1
            self.read(now, self.t)

    def _scan(self, node: Node, cell: Cell, values: dict[str, Tensor], steps: int) -> Tensor:
        biases, unit, batch = self.plan.biases[node.name], cell.unit, len(self.x)
        trains = [values.get(name) for name in node.inputs]
        if unit is not None and unit.is_plain and len(trains) == 1:
            return self._scan_unit(node, unit, trains[0], steps)
        outputs = []
        graded = any(not self.plan.lowered.alphabets[name].is_spiking for name in node.inputs)
        wide = self.exact and graded  # float32 does not bound its sums
        for k in range(steps):
            now = [
                self.constant_values[name] if train is None else train[k * batch : (k + 1) * batch]
                for name, train in zip(node.inputs, trains, strict=True)
            ]
            now = [value if bias is None else value + bias for value, bias in zip(now, biases, strict=True)]
            now = [value.double() for value in now] if wide else now
            if node.name not in self.states:
                self.states[node.name] = cell.init(*now)
            before, t = self.states[node.name], self.t + k + 1
            with at(node.name, t):
                self.states[node.name], output = cell.step(before, *now, t=t)
            if unit is not None and not self.exact:
                step = partial(_sent, cell, before, now[1:], t)
                self.ties += near(step, unit.threshold, now[0], output)
            elif unit is not None and t % RANGE_CHECK_EVERY == 0:
                self._check_range(node, cell.potential(self.states[node.name]))
            outputs.append(output.float())
        return torch.cat(outputs)

    def _scan_unit(self, node: Node, unit: NeuronSpec, train: Tensor | None, steps: int) -> Tensor:
        """Integrate and fire in place: the buffer of currents is overwritten with spikes."""
        bias, batch = self.plan.biases[node.name][0], len(self.x)
        current = None
        if train is None:
            current = self.constant_values[node.inputs[0]]
            spikes = torch.empty((steps, *current.shape), device=current.device).flatten(0, 1)
            if current.ndim == 4:
                spikes = spikes.contiguous(memory_format=torch.channels_last)
        else:
            spikes = train if self.plan.owned(node) else train.clone()
        potential = self.states.get(node.name)
        if potential is None:
            layout = torch.channels_last if spikes.ndim == 4 else torch.contiguous_format
            potential = unit.initial.to(spikes).expand_as(spikes[:batch]).clone(memory_format=layout)
            self.states[node.name] = potential
        scan = fused.scan_on(spikes.device.type)
        if scan is not None and spikes.dtype == potential.dtype == torch.float32:
            return self._scan_fused(scan, node, unit, spikes, current)
        scalar = unit.threshold.numel() == 1
        threshold: Any = float(unit.threshold) if scalar else unit.threshold.to(spikes)
        for k in range(steps):
            here = spikes[k * batch : (k + 1) * batch]
            potential.add_(here if current is None else current)
            if bias is not None:
                potential.add_(bias)
            if not self.exact:
                self.ties += int(((potential - threshold).abs() < NEAR * threshold).sum())
            torch.ge(potential, threshold, out=here)
            if unit.reset == "hard":
                potential.addcmul_(potential, here, value=-1)
            elif scalar:
                potential.sub_(here, alpha=threshold)
            else:
                potential.addcmul_(here, threshold, value=-1)
            if self.exact and (self.t + k + 1) % RANGE_CHECK_EVERY == 0:
                self._check_range(node, potential)
        return spikes

    def _scan_fused(
        self, scan: fused.Scan, node: Node, unit: NeuronSpec, train: Tensor, current: Tensor | None
    ) -> Tensor:
        """The same in one kernel."""
        train, name, key = fused.in_order(train), node.name, (node.name, self.exact)
        if key not in self.plan.rows:
            limit = NEAR * unit.threshold
            if self.exact:
                limit = shaped(self.plan.rooms[name], self.plan.lowered.axes[name], train.ndim - 1)
            self.plan.rows[key] = fused.row(train, unit.threshold, self.plan.biases[name][0], limit)
        self.states[name] = potential = fused.in_order(self.states[name])
        current = None if current is None else fused.in_order(current)
        found = scan(train, current, potential, self.plan.rows[key], unit.reset, self.exact, self.t)
        if found and self.exact:
            self._left_the_grid(node)
        elif found:
            self.ties += found
        return train

    def _check_range(self, node: Node, potential: Tensor) -> None:
        """Potentials beyond their exact range may be rounded: the run is then marked as not exact."""
        room = self.plan.rooms[node.name]
        axis = self.plan.lowered.axes[node.name]
        flat = potential.movedim(axis, -1).reshape(-1, potential.shape[axis])
        low, high = flat.aminmax(dim=0)
        if bool((torch.maximum(-low, high) > room).any()):
            self._left_the_grid(node)

    def _left_the_grid(self, node: Node) -> None:
        self.exact = False
        self.why = f"a potential of {node.name} left the grid: its currents far exceed those on calibration data"

    def _window(self, timesteps: int) -> None:
        sums = partial(self._exact_sums, biased=False)
        Windows(self, self.plan, self._narrow, self.constant_values, sums).advance(timesteps)

    def _slots(self, timesteps: int) -> None:
        """One pass in closed form if neurons integrate whole windows, else step by step."""
        plan, wide = self.plan, self.wide
        lowered = plan.float64_form if wide else plan.lowered
        if not has_closed_form(lowered, self.program.schedule):
            # in float64, as the reference: a neuron without a `unit` has no ties to be counted, and a GPU may round
            if not self.exact or plan.sums is not None:
                lowered, wide = plan.float64_form, True
            step_of = self._narrow.linear if wide else None
            clocked(self, lowered, self.x.double() if wide else self.x, timesteps, linear_of=step_of)
            return
        values: dict[str, Tensor] = {}
        for node in lowered.nodes:
            if node.name in plan.constant_nodes:
                continue
            inputs = [values[i] if i in values else self.constant_values[i] for i in node.inputs]
            inputs = [value.double() for value in inputs] if wide else inputs  # levels are integers in both
            if isinstance(node.op, Input):
                values[node.name] = self.program.counts(node, self.x, self.sample_ids, timesteps)
            elif isinstance(node.op, Cell):
                values[node.name] = self._first_spikes(node, node.op, inputs, lowered, timesteps)
            else:
                op = node.op if wide else plan.ops[node.name]
                sums = self._exact_sums(node, op, inputs)
                values[node.name] = sums if sums is not None else linear(op, inputs) if wide else op.run(*inputs)
            self.counter.add(node.name, values[node.name][None])
            for name in node.inputs:
                if lowered.last_reader[name] == node.name:
                    values.pop(name, None)
        output, self.t = lowered.output.name, timesteps
        answer = values[output] if output in values else self.constant_values[output]
        bias = lowered.biases[output][0] if wide else plan.biases[output][0]
        answer = answer.double() if bias is None else answer.double() + bias.double()
        self.read(answer * timesteps, timesteps)

    def _first_spikes(self, node: Node, cell: Cell, inputs: list[Tensor], lowered: Lowered, slots: int) -> Tensor:
        """The level that each element of a cell sends in its window."""
        biases = (lowered if self.wide else self.plan).biases[node.name]
        charges = [value if bias is None else value + bias for value, bias in zip(inputs, biases, strict=True)]
        if cell.unit is None or cell.unit.code is None:
            levels = cell.counts(*charges, timesteps=slots)
            self.early += cell.early(levels)
            return levels
        coder = self._coder(node, cell.unit, slots, charges[0])
        if not self.exact:
            self.ties += coder.near(charges[0])
        owned = biases[0] is not None or self.plan.owned(node)
        return coder(charges[0], owned)

    def _coder(self, node: Node, unit: NeuronSpec, slots: int, like: Tensor) -> Coder:
        key, prepared = ("coder", node.name, slots, like.dtype, like.device), self.program.prepared
        if key not in prepared:
            prepared[key] = Coder(unit, slots, like)
        return prepared[key]

    def _differences(self, steps: int) -> None:
        """In float64; step by step if messages are divided by their step number, which puts them on no grid."""
        if self.program.schedule.gain == "unit":
            self.estimates = self.estimates or Estimates(self, self.plan, self.memory)
            self.estimates.advance(steps)
            return
        if self.clock is None:
            self.clock = Clock(self, self.plan.float64_form, self.x.double(), steps, None)
        for _ in range(steps):
            self.clock.tick(self.t + 1)

    def _wait_window(self, timesteps: int) -> None:
        """Step by step in float64: float32 would round the current of an analogue input before it is on the grid."""
        check = self._check_range if self.exact else None
        clocked(self, self.plan.float64_form, self.x.double(), timesteps, check, self._narrow.linear)

    @property
    def _narrow(self) -> Narrow:
        """The layers of weights that float32 adds exactly in this run."""
        certain = self.exact and self.plan.sums is None  # other devices may round sums in float32
        return self.plan.narrow if certain else Narrow()

    def _cycles(self, timesteps: int) -> None:
        """One pass per round in float64, because a cycle's charge needs more than 24 bits."""
        lowered = self.plan.float64_form
        if not aligned(lowered) or not all(has_cycles(node.op) for node in lowered.nodes):
            clocked(self, lowered, self.x.double(), timesteps, linear_of=self._narrow.linear)
            return
        Cycles(self, self.plan, self._narrow).advance(timesteps)

    @property
    def cell_states(self) -> dict[str, Any]:
        return {} if self.estimates is None else self.estimates.states

    def _keep(self, order: Tensor) -> None:
        self.states = {name: map_state(state, lambda v: v[order]) for name, state in self.states.items()}
        if "constant_values" in self.__dict__:
            self.constant_values = {name: value[order] for name, value in self.constant_values.items()}
        for run in (self.clock, self.estimates):
            if run is not None:
                run.keep(order)


def _sent(cell: Cell, state: Any, others: list[Tensor], t: int, charge: Tensor) -> Tensor:
    return cell.step(state, charge, *others, t=t)[1]


def _repeated(value: Tensor, steps: int) -> Tensor:
    """(batch, …) → (steps · batch, …), the same values in every step."""
    return value.repeat(steps, *(1,) * (value.ndim - 1))
