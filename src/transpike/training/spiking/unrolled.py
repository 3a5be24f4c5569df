"""A spiking graph as a trainable module: layer by layer, time folded into the batch, without the exact grid."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
from torch import Tensor, nn

from transpike.core.cell import Cell, Neuron
from transpike.core.channels import resolved, rows
from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, GraphModule, Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.core.readout import Readout
from transpike.core.schedule import Schedule
from transpike.core.spike import Surrogate, surrogate_gradient
from transpike.errors import SettingError
from transpike.lowering.entrances import of_step, of_window, scale_of
from transpike.neurons import IntegrateAndFire
from transpike.ops.wiring import Selection
from transpike.training.spiking.normalisation import EPSILON, folded, tdbn
from transpike.training.spiking.packing import mark
from transpike.training.spiking.scan import scan
from transpike.training.spiking.surrogates import Rectangular

Kind = Literal["weights", "thresholds", "leaks", "initial"]
KINDS: tuple[Kind, ...] = ("weights", "thresholds", "leaks", "initial")


class Network(Protocol):
    """The attributes of an SNN that fine-tuning needs."""

    @property
    def graph(self) -> Graph: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def readout(self) -> Readout: ...
    @property
    def timesteps(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Wire:
    """``levels`` (time, batch, *shape), time 1 if constant; the charge of a level is ``spike_scale`` (None: 1).

    With a window schedule the levels are means over the steps, and time is 1.
    """

    levels: Tensor
    spike_scale: Tensor | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        if self.binary:
            mark(self.levels)

    @property
    def charge(self) -> Tensor:
        return self.levels if self.spike_scale is None else self.levels * self.spike_scale


class Unrolled(GraphModule):
    """Runs a spiking graph for ``timesteps`` steps so that gradients pass: the spikes are those of the engines.

    Parameters have the names of ``Graph.parameters()``; each layer's leak is a separate parameter, NODE.leak.
    ``forward`` returns the output's current of every step, (time, batch, classes); with a window schedule their
    mean, time 1. Raises SettingError for time slots, phase cycles, differences and windows that overlap.
    """

    encoder: Encoder
    readout: Readout
    timesteps: int
    surrogate: Surrogate
    detach_reset: bool
    windows: bool
    """True for a window schedule, whose counts are computed in closed form."""
    normalised: frozenset[str]
    """Nodes with a batch normalisation after them."""
    last: dict[str, str]
    """Node → the last node that reads it."""
    spiking: frozenset[str] | None
    """The neurons that fire, None for all; the others compute the source's activation of their mean current."""
    cut: bool
    """True where no gradient passes from the spikes of a neuron to the layers after it."""
    seen: dict[str, Wire] | None
    """Node → its output, recorded for the nodes in ``wanted``; None while nothing is recorded."""
    wanted: frozenset[str]

    def __init__(
        self,
        graph: Graph,
        encoder: Encoder,
        schedule: Schedule,
        readout: Readout,
        timesteps: int,
        surrogate: Surrogate | None = None,
        *,
        detach_reset: bool = False,
    ) -> None:
        windows = schedule.mode == "windows"
        if schedule.mode == "slots":
            raise SettingError(
                "first-spike networks are not fine-tuned as spikes: train the source network with "
                "activations.TimeToFirstSpike and convert it with the recipe cat"
            )
        if schedule.mode in ("cycles", "differences") or (windows and schedule.lag(timesteps) < timesteps):
            raise SettingError(
                f"fine-tuning supports streaming and whole windows, not {schedule}; convert with "
                "schedule=Streaming() or LayerSynchronous()"
            )
        super().__init__(
            graph,
            encoder=encoder,
            readout=readout,
            timesteps=timesteps,
            surrogate=surrogate or Rectangular(),
            detach_reset=detach_reset,
            windows=windows,
            normalised=frozenset(),
            last={name: node.name for node in graph for name in node.inputs},
            spiking=None,
            cut=False,
            seen=None,
            wanted=frozenset(),
        )
        for node in graph:
            if is_plain(node.op, IntegrateAndFire):
                self._place(f"{node.name}.leak", torch.tensor(float(node.op.leak)), trainable=True)

    @torch.no_grad()
    def normalise(self, x: Tensor | None, scale: float = 1.0) -> None:
        """Add a batch normalisation after every layer with weights before the output, folded by ``to_graph``.

        Scale and shift start as the standard deviation and mean of the currents for ``x``, so that at first nothing
        changes; without x the currents start with mean 0 and deviation ``scale`` (tdBN: α V_th).
        """
        axes = self.source_graph.channel_axes
        inner = (node for node in self.source_graph if node is not self.source_graph.output)
        names = {node.name for node in inner if _normalisable(node, axes[node.name])}
        seen = {} if x is None else self.watched(x, names)
        for name in names:
            axis = axes[name]
            zero = torch.zeros(self.source_graph[name].shape[axis - 1])
            start = {"scale": zero + scale, "shift": zero, "mean": zero, "variance": zero + 1}
            if x is not None:
                current = rows(seen[name].charge.flatten(0, 1), axis)
                mean, variance = current.mean(1), current.var(1, unbiased=False)
                start = {"scale": (variance + EPSILON).sqrt(), "shift": mean, "mean": mean, "variance": variance}
            for field, value in start.items():
                self._place(f"{name}.norm.{field}", value, trainable=field in ("scale", "shift"))
        self.normalised = frozenset(names)

    def watched(self, x: Tensor, names: Collection[str], ids: Tensor | None = None) -> dict[str, Wire]:
        """Name → output of the named nodes for x."""
        self.seen, self.wanted = {}, frozenset(names)
        try:
            self(x, ids)
            return self.seen
        finally:
            self.seen, self.wanted = None, frozenset()

    @classmethod
    def of(cls, network: Network, timesteps: int | None = None, surrogate: Surrogate | None = None) -> Self:
        """An SNN as a module, for ``timesteps`` steps; default: those of the network."""
        steps = network.timesteps if timesteps is None else timesteps
        return cls(network.graph, network.encoder, network.schedule, network.readout, steps, surrogate)

    def groups(self) -> dict[Kind, dict[str, nn.Parameter]]:
        """The parameters by kind."""
        parameters = dict(self.named_parameters())
        found: dict[Kind, dict[str, nn.Parameter]] = {kind: {} for kind in KINDS}
        for node in self.source_graph:
            names = node.keys()
            if is_plain(node.op, IntegrateAndFire):
                names = names | {"leak": f"{node.name}.leak"}
            if node.name in self.normalised:
                names = names | {field: f"{node.name}.norm.{field}" for field in ("scale", "shift")}
            kinds: dict[str, Kind] = {"threshold": "thresholds", "initial": "initial", "leak": "leaks"}
            for field, key in names.items():
                if key in parameters and field != "spike_scale":  # redundant with the weights after
                    kind = kinds.get(field, "weights") if isinstance(node.op, Neuron) else "weights"
                    found[kind][key] = parameters[key]
        return found

    def to_graph(self) -> Graph:
        """The spiking graph with the current values, on the CPU."""
        live = {name: value.detach().cpu() for name, value in self.tensors().items()}

        def change(node: Node) -> Node:
            op = node.op.with_tensors(**{field: live[key] for field, key in node.keys().items()})
            if is_plain(op, IntegrateAndFire):
                op = dataclasses.replace(op, leak=float(live[f"{node.name}.leak"]))
            if node.name in self.normalised:
                op = folded(op, *_norm(node, live))  # type: ignore[arg-type]
                return dataclasses.replace(node, op=op, origin=())
            return dataclasses.replace(node, op=op)

        return self.source_graph.rewrite(change)

    def forward(self, x: Tensor, sample_ids: Tensor | None = None) -> Tensor:
        live = self.tensors()
        ids = torch.arange(len(x), device=x.device) if sample_ids is None else sample_ids
        wires: dict[str, Wire] = {}
        with surrogate_gradient(self.surrogate):
            for node in self.source_graph:
                op = self.bound(node, live)
                inputs = [wires[name] for name in node.inputs]
                wire = self.layer(node, op, inputs, x, ids, live)
                if node.name in self.normalised:
                    axis = self.source_graph.channel_axes[node.name]
                    wire = Wire(tdbn(wire.levels, *_norm(node, live), training=self.training, axis=axis))
                if self.seen is not None and node.name in self.wanted:
                    self.seen[node.name] = wire
                if self.cut and isinstance(op, Neuron):
                    spike_scale = None if wire.spike_scale is None else wire.spike_scale.detach()
                    wire = Wire(wire.levels.detach(), spike_scale, wire.binary)
                wires[node.name] = wire
                for name in node.inputs:
                    if self.last[name] == node.name:
                        wires.pop(name, None)
        answer = wires[self.source_graph.output.name].charge
        return answer.expand(1 if self.windows else self.timesteps, *answer.shape[1:])

    def layer(
        self, node: Node, op: Op | Cell, inputs: list[Wire], x: Tensor, ids: Tensor, live: dict[str, Tensor]
    ) -> Wire:
        """The output of one node."""
        if isinstance(op, Input):
            return self._encoded(op, node, x, ids)
        if isinstance(op, Cell):
            return self._cell(node, op, [wire.charge for wire in inputs], live)
        if len(inputs) == 1 and inputs[0].spike_scale is not None:
            passed = _passed(op, inputs[0])
            if passed is not None:
                return passed
        charges = [wire.charge for wire in inputs]
        time = max(len(charge) for charge in charges)
        return Wire(_folded(op, *(charge.expand(time, *charge.shape[1:]) for charge in charges)))

    def _encoded(self, op: Input, node: Node, x: Tensor, ids: Tensor) -> Wire:
        scale, inputs = scale_of(op, self.encoder.spike_scale), self.source_graph.inputs
        if self.encoder.is_constant or (scale is None and self.encoder.spike_scale is not None):
            return Wire(op.part(x)[None])
        spike_scale = None if scale in (None, 1.0) else torch.tensor(scale).to(x)
        if self.windows:
            counts = of_window(self.encoder, inputs, node, x, ids, self.timesteps)
            return Wire(counts[None] / self.timesteps, spike_scale)
        frames = torch.stack([of_step(self.encoder, inputs, node, x, ids, t + 1) for t in range(self.timesteps)])
        return Wire(frames, spike_scale, self.encoder.alphabet.kind == "binary")

    def _cell(self, node: Node, cell: Cell, currents: list[Tensor], live: dict[str, Tensor]) -> Wire:
        if isinstance(cell, Neuron) and self.spiking is not None and node.name not in self.spiking:
            return Wire(cell.source.run(currents[0].mean(0))[None])
        steps, spike_scale = self.timesteps, cell.output_scale(*[None] * len(currents))
        if self.windows:
            return Wire(
                cell.counts(*(current[0] * steps for current in currents), timesteps=steps)[None] / steps, spike_scale
            )
        if is_plain(cell, IntegrateAndFire):
            leak = live[f"{node.name}.leak"]
            spikes = scan(currents[0], cell.threshold, cell.initial, leak, cell.reset, self.surrogate, steps,
                          self.detach_reset)  # fmt: skip
            return Wire(spikes, spike_scale, binary=True)
        return Wire(cell.window(*(current.expand(steps, *current.shape[1:]) for current in currents)), spike_scale)

    def answers(self, currents: Tensor) -> Tensor:
        """The readout's logits after every step, (answers, batch, classes), in float32."""
        found, state, windows = [], None, self.windows
        for index, current in enumerate(currents):
            t = self.timesteps if windows else index + 1
            current = current * self.timesteps if windows else current
            state = self.readout.init(current) if state is None else state
            state = self.readout.update(state, current, t)
            found.append(self.readout.logits(state, t).float())
        return torch.stack(found)


def _normalisable(node: Node, axis: int) -> bool:
    op = node.op
    return isinstance(op, Synapse) and op.weight.ndim > 1 and resolved(op.channel_axis, len(node.shape)) == axis


def _norm(node: Node, live: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scale, shift, mean, variance = (live[f"{node.name}.norm.{f}"] for f in ("scale", "shift", "mean", "variance"))
    return scale, shift, mean, variance


def _passed(op: Op, wire: Wire) -> Wire | None:
    """The wire after ``op`` with a separate spike scale, so that the backward pass stores only 0 and 1."""
    levels, spike_scale = wire.levels, wire.spike_scale
    assert spike_scale is not None
    shape = levels.shape[2:]
    if isinstance(op, Synapse):
        absorbed = op.absorb(spike_scale.expand(1, *shape))
        return None if absorbed is None else Wire(_folded(absorbed, levels))
    if is_plain(op, Selection):  # elements are only moved
        return Wire(_folded(op, levels), op.run(spike_scale.expand(1, *shape))[0], wire.binary)
    return None


def _folded(op: Op, *inputs: Tensor) -> Tensor:
    """The op on every step at once, (time, batch, *shape)."""
    time = len(inputs[0])
    return op.run(*(value.flatten(0, 1) for value in inputs)).unflatten(0, (time, -1))
