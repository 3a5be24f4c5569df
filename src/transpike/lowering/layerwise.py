"""Simulation of a spiking graph layer by layer, over all time steps, so that layers can be corrected in order."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from transpike.codes.first_spike import first_levels
from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.pass_ import Context
from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.lowering.currents import CACHED, PART, Currents, Reach, folded, reach_of
from transpike.lowering.entrances import of_step, of_window, scale_of
from transpike.lowering.trains import Kernel, Recorder, Sent, Train, Values, is_binary, scanned

BUDGET = 2**30
"""Bytes of the trains that are needed at the same time; fewer samples are used if they would not fit."""
FEWEST_SAMPLES = 8
KEPT_ACTIVATIONS = 2**27
"""Bytes of the source's activations that are kept for other passes; more are computed again."""


@dataclass(frozen=True, eq=False)
class Shift:
    """A change of a layer that adds ``delta``, broadcastable to (batch, *shape), to its current in every step.

    ``graph`` has it in a bias that reaches no other layer. Nothing is computed again.
    """

    graph: Graph
    delta: Tensor


@dataclass(frozen=True, eq=False)
class LayerInput:
    """One neuron layer with its simulated input; ``analogue`` (batch, *shape) is the source activation.

    ``per`` = T, or 1 for slots: a mean current times ``per`` is a window's charge.
    """

    graph: Graph
    node: Node
    cell: Neuron
    currents: Currents
    analogue: Tensor
    timesteps: int
    windows: bool
    per: int
    kernel: Kernel | None = None

    def sent(self, cell: Neuron, shift: Tensor | None = None) -> Tensor:
        """(batch, *shape): the mean over time of what ``cell`` sends for the current plus ``shift``, in charge."""
        return self.fired(cell, shift, keep=False).mean

    def fired(self, cell: Neuron, shift: Tensor | None = None, keep: bool = True) -> Sent:
        """What ``cell`` sends for the current plus ``shift`` in each step; its train only if ``keep``."""
        if self.kernel is not None and (native := self.kernel(cell, shift)) is not None:
            return native
        found = Recorder(
            self.currents.samples, 1 if self.windows else self.timesteps, cell.output_scale(), is_binary(cell), keep
        )
        for part in self.currents:
            current = part if shift is None else part + shift
            if self.windows:
                found.step(0, _counts(cell, [current[0] * self.per], self.timesteps) / self.per)
            else:
                for t, levels in scanned(cell, current, self.timesteps):
                    found.step(t, levels)
        return found


Visit = Callable[[LayerInput], Graph | Shift | None]


def sequential(graph: Graph, context: Context, samples: int, visit: Visit) -> Graph:
    """Call ``visit`` for every neuron layer of ``graph``, in order, on ``samples`` simulated calibration inputs.

    ``visit`` may return a graph in which that layer, or the layers between it and the neurons before, are changed, or a
    ``Shift``; later layers then receive the output of the changed layer. Values are charge in float32 with the original
    W and b, equivalent to the lowered form. Returns the last graph. Raises SettingError under a schedule whose layers
    cannot be simulated one by one.
    """
    schedule, timesteps = context.schedule, context.timesteps
    windows, per = layerwise(graph, schedule, timesteps, "passes that correct layers on their spikes")
    steps = 1 if windows else timesteps
    reach = reach_of(graph)
    x = _samples(graph, context, samples, reach, steps)
    source = _Source(graph, context, x)
    trains: dict[str, Train] = {}
    compiled = context.kernels or (lambda *given: None)
    names, work = [node.name for node in graph], _work(graph)
    for index, name in enumerate(names):
        node = graph[name]
        if isinstance(node.op, Neuron):
            currents = Currents(graph, node.inputs[0], trains, len(x), steps)
            kernel = None if windows else compiled(graph, node, currents, timesteps)
            layer = LayerInput(graph, node, node.op, currents, source.at(node), timesteps, windows, per, kernel)
            changed, shift = visit(layer), None
            if isinstance(changed, Shift):
                graph, shift = changed.graph, changed.delta
            elif changed is not None:
                _recompute(trains, graph, changed, len(x), steps)
                if any(changed[one.name].op is not one.op for one in currents.nodes):
                    currents = Currents(changed, changed[name].inputs[0], trains, len(x), steps)
                    kernel = None if windows else compiled(changed, changed[name], currents, timesteps)
                    layer = replace(layer, currents=currents, kernel=kernel)
                graph = changed
            node = graph[name]
            assert isinstance(node.op, Neuron)
            trains[name] = layer.fired(node.op, shift).train
            context.progress(work[index], work[-1])
        elif isinstance(node.op, Cell):
            inputs = [Currents(graph, i, trains, len(x), steps) for i in node.inputs]
            trains[name] = _cell_train(node.op, inputs, timesteps, windows, per)
        elif isinstance(node.op, Input):
            trains[name] = _entering(context, graph, node, x)
        elif reach[name].shared:
            trains[name] = Currents(graph, name, trains, len(x), steps).train()
        for old in [key for key in trains if reach[key].last <= index]:
            trains.pop(old)
    return graph


def layerwise(graph: Graph, schedule: Schedule, timesteps: int, caller: str) -> tuple[bool, int]:
    """Whether layers integrate whole windows, and ``LayerInput.per``.

    Raises SettingError if layers cannot be simulated one by one; ``caller`` is the subject of the message.
    """
    changing = next((node for node in graph if isinstance(node.op, Cell) and node.op.per_input), None)
    if changing is not None:
        what = f"neurons that change for each input, like {changing.name} ({changing.op.describe()})"
        raise SettingError(f"{caller} do not support {what}: omit that, or convert with another recipe, like qcfs")
    if schedule.mode in ("cycles", "differences"):
        what = "phase cycles" if schedule.mode == "cycles" else "differences"
        raise SettingError(
            f"{caller} do not support {what}: omit that, or convert with a recipe that streams, like ecc"
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
            values[node.name] = _neuron_output(node.op, values[node.inputs[0]], timesteps, windows, per)
        elif isinstance(node.op, Cell):
            values[node.name] = _cell_output(node.op, [values[i] for i in node.inputs], timesteps, windows, per)
        elif isinstance(node.op, Input):
            values[node.name] = _encoded(context, graph, node, x)
        else:
            values[node.name] = folded(node, values)
        if see is not None and (isinstance(node.op, Cell) or node.name == end):
            see(node, values[node.name])
        for name in set(node.inputs):
            if last[name] == node.name:
                values.pop(name)
    return values[end]


def _neuron_output(cell: Neuron, current: Tensor, timesteps: int, windows: bool, per: int) -> Tensor:
    """(time, batch, *shape): what a neuron sends, in charge; in small parts, so that its state stays in the cache."""
    if windows:
        levels = _counts(cell, [current[0] * per], timesteps)[None] / per
    else:
        levels = torch.empty((timesteps, *current.shape[1:]))
        few = max(1, CACHED // math.prod(current.shape[2:]))
        for start in range(0, current.shape[1], few):
            for t, sent in scanned(cell, current[:, start : start + few], timesteps):
                levels[t, start : start + few] = sent
    spike_scale = cell.output_scale()
    return levels if spike_scale is None else levels.mul_(spike_scale)


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


def _cell_train(cell: Cell, inputs: list[Currents], timesteps: int, windows: bool, per: int) -> Train:
    """What a cell that is not a neuron sends."""
    samples, few = inputs[0].samples, min(one.few for one in inputs)
    found = Recorder(samples, 1 if windows else timesteps)
    for start in range(0, samples, few):
        rows = slice(start, min(start + few, samples))
        values = [one.of(rows)[one.name] for one in inputs]
        for t, levels in enumerate(_cell_output(cell, values, timesteps, windows, per)):
            found.step(t, levels)
    return found.train


def _work(graph: Graph) -> list[float]:
    """The multiplications and membrane updates of a step up to each layer, in order; the last is the last neuron."""
    each = [math.prod(n.shape) if isinstance(n.op, Cell) else graph.macs(n) or 0 for n in graph]
    last = max((index for index, node in enumerate(graph) if isinstance(node.op, Neuron)), default=0)
    return list(accumulate(each[: last + 1]))


def _recompute(trains: dict[str, Train], old: Graph, new: Graph, samples: int, steps: int) -> None:
    """Compute the stored currents of changed layers, and of the layers without memory after them, again."""
    stale = set[str]()
    for node in new:
        if isinstance(node.op, (Cell, Input)) or (node.op is old[node.name].op and stale.isdisjoint(node.inputs)):
            continue
        stale.add(node.name)
        if trains.pop(node.name, None) is not None:
            trains[node.name] = Currents(new, node.name, trains, samples, steps).train()


class _Source:
    """The source network's values at the places of the neurons, computed as far as they are needed.

    They are kept for other passes and conversions if they are no more than ``KEPT_ACTIVATIONS``.
    """

    def __init__(self, graph: Graph, context: Context, x: Tensor) -> None:
        self.analogue = analogue = context.analogue[0]
        self.wanted = {node.name for node in graph if isinstance(node.op, Neuron)} | {analogue.output.name}
        self.found: dict[str, Tensor] = {}
        self.values: dict[str, Tensor] = {}
        self.last = {name: node.name for node in analogue for name in node.inputs}
        self.nodes, self.x = iter(analogue.nodes), x
        size = 4 * len(x) * sum(math.prod(node.shape) for node in analogue if node.name in self.wanted)
        self.keeps = bool(context.activations) and size <= KEPT_ACTIVATIONS
        self.kept = context.activations[0].setdefault(len(x), {}) if self.keeps else {}

    def at(self, neuron: Node) -> Tensor:
        """The activation that a neuron represents, or the output before a neuron after the last layer."""
        name = neuron.name if neuron.name in self.last or neuron.name == self.analogue.output.name else neuron.inputs[0]
        if name in self.kept:
            return self.kept[name]
        while name not in self.found:
            node = next(self.nodes)
            inputs = tuple(self.values[i] for i in node.inputs) if node.inputs else (self.x,)
            output = self.values[node.name] = node.op.run(*inputs)  # type: ignore[union-attr]
            if node.name in self.wanted:
                self.found[node.name] = output
            for i in node.inputs:
                if self.last[i] == node.name:
                    self.values.pop(i, None)
        found = self.found.pop(name) if name != self.analogue.output.name else self.found[name]
        if self.keeps:
            self.kept[name] = found
        return found


def _entering(context: Context, graph: Graph, node: Node, x: Tensor) -> Train:
    """What an input node sends to the samples ``x``."""
    if _spike_scale(context, node) is None or context.schedule.mode in ("windows", "slots"):
        return Values(_encoded(context, graph, node, x))
    found = Recorder(len(x), context.timesteps, torch.tensor(_spike_scale(context, node)))
    few = max(1, PART // (4 * context.timesteps * math.prod(node.shape)))
    for first in range(0, len(x), few):
        for t, levels in enumerate(_levels(context, graph, node, x[first : first + few], first)):
            found.step(t, levels)
    return found.train


def _spike_scale(context: Context, node: Node) -> float | None:
    """The charge of a level that an input node sends; None if it does not send levels over time."""
    op, encoder = node.op, context.encoder
    assert isinstance(op, Input)
    scale = scale_of(op, encoder.spike_scale)
    if encoder.is_constant or (scale is None and encoder.spike_scale is not None):
        return None
    return scale or 1.0


def _encoded(context: Context, graph: Graph, node: Node, x: Tensor) -> Tensor:
    """The charge that an input node sends, (time, batch, *shape)."""
    timesteps, op = context.timesteps, node.op
    assert isinstance(op, Input)
    spike_scale = _spike_scale(context, node)
    if spike_scale is None:
        return op.part(x)[None]
    if context.schedule.mode in ("windows", "slots"):
        per = timesteps if context.schedule.mode == "windows" else 1
        x = x if context.recorded is None else context.recorded[: len(x)]
        sent = of_window(context.encoder, graph.inputs, node, x, torch.arange(len(x)), timesteps)
        return sent[None] * (spike_scale / per)
    return torch.stack(list(_levels(context, graph, node, x))) * spike_scale


def _levels(context: Context, graph: Graph, node: Node, x: Tensor, first: int = 0) -> Iterator[Tensor]:
    """The levels that an input node sends in each step for the samples ``x``, of which ``first`` is the first."""
    ids = torch.arange(first, first + len(x))
    if context.recorded is not None:
        x = context.recorded[first : first + len(x)]
    for t in range(context.timesteps):
        yield of_step(context.encoder, graph.inputs, node, x, ids, t + 1)


def _samples(graph: Graph, context: Context, samples: int, reach: dict[str, Reach], steps: int) -> Tensor:
    """The calibration inputs whose trains fit into ``BUDGET``."""
    live, peak, sizes = 0.0, 1.0, {node.name: math.prod(node.shape) for node in graph}
    ending: dict[int, list[str]] = {}
    for index, node in enumerate(graph):
        stored = isinstance(node.op, (Cell, Input)) or reach[node.name].shared
        if stored:
            live += _bytes(node, context, steps) * sizes[node.name]
            ending.setdefault(reach[node.name].last, []).append(node.name)
        peak = max(peak, live + 4 * sizes[node.name])  # and the source's activation
        for name in ending.pop(index, ()):
            live -= _bytes(graph[name], context, steps) * sizes[name]
    most = max(FEWEST_SAMPLES, int(BUDGET // peak))
    if context.recorded is not None:
        samples = min(samples, len(context.recorded))
    if most < samples:
        context.remark(f"layers were corrected on {most} instead of {samples} calibration samples, to limit memory")
    return torch.cat(context.first(min(samples, most)))


def _bytes(node: Node, context: Context, steps: int) -> float:
    """Bytes of one element of a wire over all steps."""
    if isinstance(node.op, Input) and context.encoder.is_constant:
        return 4
    return steps / 8 if isinstance(node.op, Neuron) and is_binary(node.op) and steps > 1 else 4 * steps
