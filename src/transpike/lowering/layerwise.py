"""Simulation of a spiking graph layer by layer, over all time steps, so that layers can be corrected in order."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transpike.codes.first_spike import first_levels
from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.lowering.entrances import of_step, of_window, scale_of

BUDGET = 2**30
"""Bytes of one wire's values over time; fewer samples are used if they would not fit."""
FEWEST_SAMPLES = 8
CACHED = 2**17
"""Neurons that are stepped together, so that their state stays in the cache."""


@dataclass(frozen=True, eq=False)
class LayerInput:
    """One neuron layer with its simulated input: ``current`` (time, batch, *shape), ``analogue`` the source activation.

    ``values`` are the wires before it, (time, batch, *shape). ``time`` is 1 for constant values and for windows, whose
    values are means over the T steps, or, in windows of slots, the single value sent. ``sent(cell)`` is the mean
    charge that a cell would send for this current. ``per`` = T, or 1 for slots: ``values · per`` is a window's charge.
    """

    graph: Graph
    node: Node
    cell: Neuron
    current: Tensor
    analogue: Tensor
    values: dict[str, Tensor]
    timesteps: int
    windows: bool
    per: int

    def sent(self, cell: Neuron, current: Tensor | None = None) -> Tensor:
        """(batch, *shape): the mean over time of the output of ``cell``, in charge."""
        return self.train(cell, self.current if current is None else current).mean(0)

    def train(self, cell: Neuron, current: Tensor) -> Tensor:
        """(time, batch, *shape): the output of the cell, in charge."""
        spike_scale = cell.output_scale()
        if self.windows:
            levels = _counts(cell, [current[0] * self.per], self.timesteps)[None] / self.per
        else:
            levels = _scanned(cell, current, self.timesteps)
        return levels if spike_scale is None else levels.mul_(spike_scale)


Visit = Callable[[LayerInput], Graph | None]


def sequential(graph: Graph, context: Context, samples: int, visit: Visit) -> Graph:
    """Call ``visit`` for every neuron layer of ``graph``, in order, on ``samples`` simulated calibration inputs.

    ``visit`` may return a graph in which that layer, or the layers between it and the neurons before, are changed;
    later layers then receive the output of the changed layer. Values are charge in float32 with the original W and b,
    equivalent to the lowered form. Returns the last graph. Raises SettingError under a schedule whose layers cannot be
    simulated one by one.
    """
    schedule, timesteps = context.schedule, context.timesteps
    windows, per = layerwise(graph, schedule, timesteps, "passes that correct layers on their spikes")
    x = _samples(graph, context, samples)
    analogue = _activations(graph, context.analogue[0], x)
    values: dict[str, Tensor] = {}
    names = [node.name for node in graph]
    last, neurons, done = _last_use(graph), sum(isinstance(node.op, Neuron) for node in graph), 0
    for index, name in enumerate(names):
        node = graph[name]
        if isinstance(node.op, Neuron):
            truth = analogue[name if name in analogue else node.inputs[0]]
            layer = LayerInput(graph, node, node.op, values[node.inputs[0]], truth, values, timesteps, windows, per)
            changed = visit(layer)
            if changed is not None:
                _recompute_wires(values, graph, changed)
                graph = changed
                node = graph[name]
            assert isinstance(node.op, Neuron)
            layer = replace(layer, graph=graph, node=node, cell=node.op, current=values[node.inputs[0]])
            values[name] = layer.train(node.op, layer.current)
            done += 1
            context.progress(done, neurons)
        elif isinstance(node.op, Cell):
            values[name] = _cell_output(node.op, [values[i] for i in node.inputs], timesteps, windows, per)
        elif isinstance(node.op, Input):
            values[name] = _encoded(context, graph, node, x)
        else:
            values[name] = _linear(node, values)
        for old in [key for key in values if last[key] <= index]:
            values.pop(old)
    return graph


def layerwise(graph: Graph, schedule: Schedule, timesteps: int, caller: str) -> tuple[bool, int]:
    """Whether layers integrate whole windows, and ``LayerInput.per``.

    Raises SettingError if layers cannot be simulated one by one; ``caller`` is the subject of the message.
    """
    changing = next((node for node in graph if isinstance(node.op, Cell) and node.op.per_input), None)
    if changing is not None:
        what = f"neurons that change for each input, like {changing.name} ({changing.op.describe()})"
        raise SettingError(f"{caller} do not support {what}: leave that out, or convert with another recipe, like qcfs")
    if schedule.mode in ("cycles", "differences"):
        what = "phase cycles" if schedule.mode == "cycles" else "differences"
        raise SettingError(
            f"{caller} do not support {what}: leave that out, or convert with a recipe that streams, like ecc"
        )
    windows = schedule.mode in ("windows", "slots")
    if windows and schedule.lag(timesteps) < timesteps:
        raise SettingError(
            f"{caller} support streaming and whole windows, not windows with wait steps: use wait_steps=None, or the "
            "streaming schedule"
        )
    return windows, 1 if schedule.mode == "slots" else timesteps


def layer_by_layer(
    graph: Graph,
    context: Context,
    x: Tensor,
    given: Mapping[str, Tensor],
    see: Callable[[Node, Tensor], None] | None = None,
    until: str | None = None,
) -> Tensor:
    """The output's currents, (time, batch, …), for ``x`` (batch, *shape), simulated layer by layer over all steps.

    ``given`` replaces the output of layers by charge, (time, batch, *shape) or constant with time 1; layers that only
    feed them are not simulated. ``see`` is called with every cell and the output node, and their values in charge,
    (time, batch, *shape). ``until`` stops at another node and returns its values. Schedules as for ``sequential``.
    """
    timesteps, end = context.timesteps, until or graph.output.name
    windows, per = layerwise(graph, context.schedule, timesteps, "layers that are run one by one")
    needed, values = {end}, dict[str, Tensor]()
    for node in reversed(graph.nodes):
        if node.name in needed and node.name not in given:
            needed.update(node.inputs)
    nodes = [node for node in graph if node.name in needed]
    last = {name: node.name for node in nodes if node.name not in given for name in node.inputs}
    for node in nodes:
        if node.name in given:
            values[node.name] = given[node.name]
            continue
        if isinstance(node.op, Neuron):
            layer = LayerInput(graph, node, node.op, values[node.inputs[0]], x, values, timesteps, windows, per)
            values[node.name] = layer.train(node.op, layer.current)
        elif isinstance(node.op, Cell):
            values[node.name] = _cell_output(node.op, [values[i] for i in node.inputs], timesteps, windows, per)
        elif isinstance(node.op, Input):
            values[node.name] = _encoded(context, graph, node, x)
        else:
            values[node.name] = _linear(node, values)
        if see is not None and (isinstance(node.op, Cell) or node.name == end):
            see(node, values[node.name])
        for name in set(node.inputs):
            if last[name] == node.name:
                values.pop(name)
    return values[end]


def _cell_output(cell: Cell, trains: list[Tensor], timesteps: int, windows: bool, per: int) -> Tensor:
    """The output of a cell that is not a neuron."""
    if windows:
        return _counts(cell, [train[0] * per for train in trains], timesteps)[None] / per
    return cell.window(*(train.expand(timesteps, *train.shape[1:]) for train in trains))


def _counts(cell: Cell, charges: list[Tensor], timesteps: int) -> Tensor:
    """The levels of a cell for a whole window of charge; first spikes by their closed form."""
    if cell.unit is not None and cell.unit.code is not None:
        return first_levels(charges[0], cell.unit.threshold, cell.unit.code.shortened(timesteps))
    return cell.counts(*charges, timesteps=timesteps)


def _scanned(cell: Neuron, current: Tensor, timesteps: int) -> Tensor:
    """The levels of all steps, (time, batch, *shape); in small parts, so that the state stays in the cache."""
    current = current.expand(timesteps, *current.shape[1:])
    levels = torch.empty(current.shape)
    few = max(1, CACHED // math.prod(current.shape[2:]))
    for start in range(0, current.shape[1], few):
        part = current[:, start : start + few]
        state = cell.init(part[0])
        for t in range(timesteps):
            state, levels[t, start : start + few] = cell.step(state, part[t], t=t + 1)
    return levels


def _recompute_wires(values: dict[str, Tensor], old: Graph, new: Graph) -> None:
    """Recompute the wires of changed layers, and those of the layers without memory after them."""
    stale = set[str]()
    for name in tuple(values):  # in the order of computation; few at a time
        node = new[name]
        fresh = node.op is old[name].op and stale.isdisjoint(node.inputs)
        if not fresh and not isinstance(node.op, (Cell, Input)):
            values[name] = _linear(node, values)
            stale.add(name)


def _activations(graph: Graph, analogue: Graph, x: Tensor) -> dict[str, Tensor]:
    """The source network's values at the places of the neurons, and before a neuron after the last layer."""
    wanted = {node.name for node in graph if isinstance(node.op, Neuron)} | {analogue.output.name}
    found: dict[str, Tensor] = {}

    def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if node.name in wanted:
            found[node.name] = output

    analogue.run(x, observe=see)
    return found


def _linear(node: Node, values: dict[str, Tensor]) -> Tensor:
    """An op on every step, time folded into the batch."""
    assert isinstance(node.op, Op)
    time = max(len(values[name]) for name in node.inputs)
    inputs = [values[name].expand(time, *values[name].shape[1:]) for name in node.inputs]
    return node.op.run(*(value.flatten(0, 1) for value in inputs)).unflatten(0, (time, -1))


def _encoded(context: Context, graph: Graph, node: Node, x: Tensor) -> Tensor:
    encoder, timesteps, ids, op = context.encoder, context.timesteps, torch.arange(len(x)), node.op
    assert isinstance(op, Input)
    scale = scale_of(op, encoder.spike_scale)
    if encoder.is_constant or (scale is None and encoder.spike_scale is not None):
        return op.part(x)[None]
    spike_scale, inputs = scale or 1.0, graph.inputs
    if context.recorded is not None:
        x = context.recorded[: len(x)]
    if context.schedule.mode in ("windows", "slots"):
        per = timesteps if context.schedule.mode == "windows" else 1
        return of_window(encoder, inputs, node, x, ids, timesteps)[None] * (spike_scale / per)
    return torch.stack([of_step(encoder, inputs, node, x, ids, t + 1) for t in range(timesteps)]) * spike_scale


def _samples(graph: Graph, context: Context, samples: int) -> Tensor:
    largest = max(math.prod(node.shape) for node in graph)
    steps = 1 if context.schedule.mode in ("windows", "slots") else context.timesteps
    most = max(FEWEST_SAMPLES, BUDGET // (4 * largest * steps))
    if context.recorded is not None:
        samples = min(samples, len(context.recorded))
    if most < samples:
        context.remark(f"layers were corrected on {most} instead of {samples} calibration samples, to limit memory")
    return torch.cat(context.first(min(samples, most)))


def _last_use(graph: Graph) -> dict[str, int]:
    """Wire → the place after which nothing needs it, including changes to the layers before the next neuron."""
    order, readers = {node.name: index for index, node in enumerate(graph)}, graph.consumers()
    until: dict[str, int] = {}  # node → the farthest neuron that its output reaches without passing another
    last: dict[str, int] = {}
    for node in reversed(graph.nodes):
        reach = [order[o.name] if isinstance(o.op, Cell) else until[o.name] for o in readers[node.name]]
        until[node.name] = max([order[node.name], *reach])
        last[node.name] = until[node.name]
    return last
