"""What a run did: spikes, synaptic operations and membrane updates, layer by layer."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.lowered import Lowered
from transpike.core.op import Synapse
from transpike.core.time_code import TimeCode

Role = Literal["input", "neuron", "cell"]


@dataclass(frozen=True, eq=False)
class LayerActivity:
    """Counts of one spiking layer, summed over ``samples``; per step where a (timesteps,) tensor is given.

    ``spikes`` counts levels (a ternary spike counts one), ``synaptic_operations`` each spike's fan-out.
    ``updates`` are membrane updates: neurons × steps, those of rehearsals and of settling included. Integers, held
    exactly in float64. Pooling in time and relays are "cell"s. Of one sample: ``synapses`` non-zero connections that
    leave the layer, ``biases`` additions of a bias that is not zero, ``resets`` subtractions or resets for each spike
    (1 or 0), ``payload_bits`` what a spike says beside its address, ``code`` that of first spikes.
    """

    name: str
    kind: str
    role: Role
    neurons: int
    alphabet: str
    spikes: Tensor
    synaptic_operations: Tensor
    updates: int
    synapses: int = 0
    biases: int = 0
    resets: int = 0
    payload_bits: int = 0
    code: TimeCode | None = None


@dataclass(frozen=True)
class Connection:
    """One layer of weights: what it joins, and its sizes. The same for every run.

    ``sources`` are the layers of spikes (or the analogue values) that enter, ``target`` the cell, or the output, that
    hears it. ``macs`` are the multiplications of a forward pass, padding included, ``synapses`` its non-zero paths
    without padding, ``weights`` stored numbers, ``nonzero`` those that are not 0. ``inputs`` and ``outputs`` are
    elements, ``channels`` output channels, ``magnitudes`` the most different |w| > 0 of one of them. ``kernel`` and
    ``stride`` are () where nothing is convolved. ``analogue``: real numbers enter, so that its products stay products,
    ``times`` of them in the run.
    """

    name: str
    sources: tuple[str, ...]
    target: str
    macs: int
    synapses: int
    weights: int
    nonzero: int
    inputs: int
    outputs: int
    channels: int
    magnitudes: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    analogue: bool = False
    times: int = 1


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts of a whole run: spiking layers, and the multiplications of what stays analogue (per sample).

    ``unpriced``: layer → what it computes beside multiplications and additions, which no count and no joule holds.
    ``weight_bits``: how wide energy models take a weight to be; no run knows that.
    """

    layers: tuple[LayerActivity, ...]
    samples: int
    macs: dict[str, int]
    connections: tuple[Connection, ...] = ()
    timesteps: int = 1
    weight_bits: int = 8
    once: bool = False
    """True where biases come in the first step alone."""
    unpriced: dict[str, str] = field(default_factory=dict)

    def until(self, t: int, macs: dict[str, int]) -> "Activity":
        """What the first t steps of a run took that counts step by step; ``macs`` are those of t steps."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes[:t],
                synaptic_operations=layer.synaptic_operations[:t],
                updates=layer.neurons * t * self.samples if layer.updates else 0,
                biases=layer.biases if self.once else layer.biases * t // self.timesteps,
            )
            for layer in self.layers
        )
        connections = tuple(
            dataclasses.replace(c, times=macs[c.name] // c.macs if c.macs else 1) if c.analogue else c
            for c in self.connections
        )
        return dataclasses.replace(self, layers=layers, macs=macs, connections=connections, timesteps=t)

    def __add__(self, other: "Activity") -> "Activity":
        """Counts of two runs of the same network over different samples."""
        layers = tuple(
            dataclasses.replace(
                a,
                spikes=a.spikes + b.spikes,
                synaptic_operations=a.synaptic_operations + b.synaptic_operations,
                updates=a.updates + b.updates,
            )
            for a, b in zip(self.layers, other.layers, strict=True)
        )
        return dataclasses.replace(self, layers=layers, samples=self.samples + other.samples)

    @property
    def neurons(self) -> int:
        """Elements that fire and have a potential."""
        return sum(layer.neurons for layer in self.layers if layer.role == "neuron")

    @property
    def events(self) -> float:
        """Synaptic operations of a sample."""
        return sum(float(layer.synaptic_operations.sum()) for layer in self.layers) / self.samples

    @property
    def synapses(self) -> int:
        """Non-zero connections that spikes pass."""
        return sum(layer.synapses for layer in self.layers)

    @property
    def spikes(self) -> float:
        """Spikes of a sample, input spikes included."""
        return sum(float(layer.spikes.sum()) for layer in self.layers) / self.samples

    @property
    def updates(self) -> float:
        """Membrane updates of a sample: neurons × steps."""
        return sum(layer.updates for layer in self.layers if layer.role == "neuron") / self.samples

    @property
    def spikes_per_synapse(self) -> float:
        """σ = synaptic operations / synapses, of a sample: what published break-even points are given in."""
        return self.events / self.synapses if self.synapses else 0.0

    def busier(self, factor: float) -> "Activity":
        """The same with ``factor`` times the spikes, evenly: what a break-even rate is found with."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes * factor,
                synaptic_operations=layer.synaptic_operations * factor,
            )
            for layer in self.layers
        )
        return dataclasses.replace(self, layers=layers)


def fan_outs(lowered: Lowered) -> dict[str, Tensor]:
    """For every wire that carries levels: the non-zero weighted paths from each element to the next cells.

    The gradient of the chain of wiring and synapses with non-zero weights set to one; borders, stride and groups are
    included. Paths without a synapse (a spike that is only moved or pooled) cost no operation. Shapes (1, *shape).
    """
    sources = [n for n in lowered.nodes if isinstance(n.op, Cell) or not n.inputs]
    with torch.inference_mode(False), torch.enable_grad():  # inside inference mode gradients would be 0
        leaves = {n.name: torch.zeros((1, *n.shape), dtype=torch.float64, requires_grad=True) for n in sources}
        total = torch.zeros((), dtype=torch.float64)
        # each wire has two values: paths that have met a synapse, and paths that have not yet
        weighted: dict[str, Tensor] = {}
        bare: dict[str, Tensor] = {}
        for node in lowered.nodes:
            if node.name in leaves:
                total = total + sum((weighted[name].sum() for name in node.inputs), torch.zeros(()))
                bare[node.name], weighted[node.name] = leaves[node.name], torch.zeros_like(leaves[node.name])
                continue
            op = node.op.paths().to(dtype=torch.float64)  # type: ignore[union-attr]
            met = op.linear(*(weighted[name] for name in node.inputs))
            free = op.linear(*(bare[name] for name in node.inputs))
            synapse = isinstance(node.op, Synapse)
            weighted[node.name] = met + free if synapse else met
            bare[node.name] = torch.zeros_like(free) if synapse else free
        total = total + weighted[lowered.output.name].sum()
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if total.requires_grad:  # there is a layer at all
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else torch.round(gradient)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def analogue_macs(lowered: Lowered, times: int, is_constant: bool = True) -> dict[str, int]:
    """Multiplications of one sample that stay multiplications, by node name: those of layers fed by analogue values,
    and those of cells around analogue operators.

    Counted as executed: once where a constant input alone decides, else ``times`` times. ``is_constant``: whether the
    encoder shows the same in every step.
    """
    macs, graded, shapes = {}, _graded(lowered), {node.name: node.shape for node in lowered.nodes}
    for node in lowered.nodes:
        if not isinstance(node.op, Cell) and (not node.inputs or node.name not in graded):
            continue
        each = node.op.macs(tuple(shapes[name] for name in node.inputs), node.shape)
        if each or (each == 0 and isinstance(node.op, Synapse)):
            macs[node.name] = each * (1 if is_constant and node.name in lowered.steady else times)
    return macs


def _graded(lowered: Lowered) -> frozenset[str]:
    """The wires that carry real numbers from an analogue source on, until a cell sends spikes again."""
    graded: set[str] = set()
    for node in lowered.nodes:
        if isinstance(node.op, Cell) or not node.inputs:
            if not lowered.alphabets[node.name].is_spiking:
                graded.add(node.name)
        elif any(name in graded for name in node.inputs):
            graded.add(node.name)
    return frozenset(graded)


def multiplications(graph: Graph) -> int:
    """Those of one sample's forward pass, as far as they are known; ``unpriced`` names the rest."""
    return sum(graph.macs(node) or 0 for node in graph)


def unpriced(network: Graph | Lowered) -> dict[str, str]:
    """Layer → what it computes beside multiplications and additions in one pass, or that nobody knows what."""
    found, shapes = {}, {node.name: node.shape for node in network.nodes}
    for node in network.nodes:
        if text := _unpriced(node, tuple(shapes[name] for name in node.inputs)):
            found[node.name] = text
    return found


def _unpriced(node: Node, inputs: tuple[tuple[int, ...], ...]) -> str:
    parts = [f"{count:,} {name}" for name, count in node.op.evaluations(inputs, node.shape).items()]
    if node.op.macs(inputs, node.shape) is None:
        parts.append("an unknown number of multiplications")
    return ", ".join(parts)


def connections(lowered: Lowered) -> tuple[Connection, ...]:
    """Every layer of weights, in order."""
    graded, found = _graded(lowered), []
    table = {node.name: node for node in lowered.nodes}
    from_: dict[str, tuple[str, ...]] = {}
    for node in lowered.nodes:
        op = node.op
        if isinstance(op, Cell) or not node.inputs:
            from_[node.name] = (node.name,)
            continue
        sources = tuple(dict.fromkeys(source for name in node.inputs for source in from_[name]))
        from_[node.name] = sources
        if not isinstance(op, Synapse):
            continue
        entering = table[node.inputs[0]]
        ones = torch.ones((1, *entering.shape), dtype=torch.float64)
        paths = op.paths().to(dtype=torch.float64).linear(ones)
        dense = op.macs((entering.shape,), node.shape) or 0
        found.append(
            Connection(
                node.name,
                sources,
                _target(lowered, node.name),
                dense,
                int(torch.round(paths.sum())),
                op.weight.numel(),
                int((op.weight != 0).sum()),
                math.prod(entering.shape),
                math.prod(node.shape),
                node.shape[lowered.axes[node.name] - 1],
                _magnitudes(op),
                getattr(op, "groups", 1),
                tuple(op.weight.shape[2:]) if hasattr(op, "stride") else (),
                tuple(getattr(op, "stride", ())),
                node.name in graded,
            )
        )
    return tuple(found)


def _magnitudes(op: Synapse) -> int:
    """The most different |w| > 0 of one output channel."""
    weight = op.weight
    if getattr(op, "transposed", False):  # its first axis is that of the inputs
        channels = weight.shape[1] * getattr(op, "groups", 1)
        marks = op.per_output(torch.arange(channels, dtype=torch.float64)).expand_as(weight).flatten()
        weight = weight.flatten()[marks.argsort(stable=True)].reshape(channels, -1)
    rows = weight.abs().reshape(len(weight) if weight.ndim > 1 else weight.numel(), -1).sort(1).values
    new = torch.ones_like(rows, dtype=torch.bool)
    new[:, 1:] = rows[:, 1:] > rows[:, :-1] * (1 + 1e-6)  # float32 rounds products
    return int((new & (rows > 0)).sum(1).max()) if rows.numel() else 0


def _target(lowered: Lowered, name: str) -> str:
    """The first cell that hears a node, or the output."""
    reached = {name}
    for node in lowered.nodes:
        if reached & set(node.inputs):
            if isinstance(node.op, Cell):
                return node.name
            reached.add(node.name)
    return lowered.output.name
