"""The lowered form: wires carry integer levels, weights include the spike scales."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell
from transpike.core.channels import shaped
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op, spatially_uniform
from transpike.errors import UnsupportedModel
from transpike.lowering.entrances import StaticParts, scale_of
from transpike.ops.scale import Scale, diagonal


@dataclass(frozen=True, eq=False)
class Exactness:
    """The range of the power-of-two grid: float32 adds multiples of a grid step exactly up to 2²⁴ of them.

    Up to ``timesteps`` steps potentials stay in that range on inputs like the calibration data; a run checks it.
    ``window`` is the longest window whose counts fit into float32 in one pass; longer ones use float64, as does
    everything if ``wide``. ``rooms`` are the largest exact potentials of each neuron layer, ``steps`` the grid of its
    input, both broadcastable. ``rounding`` is the largest change of a weight, relative to the largest of its layer,
    ``input_bound`` the largest input covered, ``reason`` what limits the range.
    """

    timesteps: int
    rounding: float
    input_bound: float
    reason: str = ""
    window: int = 0
    wide: bool = False
    rooms: dict[str, Tensor] = field(default_factory=dict)
    steps: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lowered:
    """Nodes in execution order. Ops are linear: their biases are collected in ``biases`` of the cells and the output.

    ``biases[name]`` has one tensor for each input of a cell (one for the output), (1, *shape) or broadcastable, in
    charge per step. ``spike_scales[name]`` is the charge of one level on the wire (None: the wire carries currents).
    ``alphabets[name]`` is the alphabet of the wire. ``axes[name]`` is its feature axis, the batch being axis 0. The
    last node gives the output's currents.
    """

    nodes: tuple[Node, ...]
    biases: dict[str, tuple[Tensor, ...]]
    spike_scales: dict[str, Tensor | None]
    alphabets: dict[str, Alphabet]
    exactness: Exactness | None = None
    axes: dict[str, int] = field(default_factory=dict)

    @cached_property
    def time_invariant(self) -> frozenset[str]:
        """The nodes that depend on an analogue input only: under constant input their values never change."""
        names: set[str] = set()
        for node in self.nodes:
            if isinstance(node.op, Input) and self.spike_scales[node.name] is not None:
                continue  # this input consists of spikes
            if isinstance(node.op, Input) or (not isinstance(node.op, Cell) and set(node.inputs) <= names):
                names.add(node.name)
        return frozenset(names)

    @cached_property
    def last_reader(self) -> dict[str, str]:
        """Name → the last node that reads it, after which its value can be freed."""
        return {name: node.name for node in self.nodes for name in node.inputs}

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Lowered":
        """The same form on another device or with another dtype."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device=device, dtype=dtype)

        return dataclasses.replace(
            self,
            nodes=tuple(dataclasses.replace(n, op=n.op.to(device=device, dtype=dtype)) for n in self.nodes),
            biases={k: tuple(b.to(device=device, dtype=dtype) for b in v) for k, v in self.biases.items()},
            spike_scales={k: move(v) for k, v in self.spike_scales.items()},
        )


def lower(
    graph: Graph, input_spike_scale: float | None, input_alphabet: Alphabet, axes: Mapping[str, int] | None = None
) -> Lowered:
    """The lowered form of a graph: W̃ = W · spike scale of the source, averages become sums, biases go to the cells.

    ``input_spike_scale`` is the charge of one input level, None for an analogue input. ``axes`` replaces the graph's
    ``channel_axes``. An identity shortcut becomes a diagonal W̃. Computed in float64, so that weights are rounded only
    once. Raises UnsupportedModel for an op that is neither linear nor a cell.
    """
    builder = _Builder(input_spike_scale, input_alphabet, dict(graph.channel_axes if axes is None else axes))
    static = StaticParts(graph)
    for node in graph:
        for entering in static.take(dataclasses.replace(node, op=node.op.to(dtype=torch.float64))):
            builder.add(entering)
    return builder.finish(graph.output.name)


class _Builder:
    """Walks a graph once and tracks the spike scale of every wire."""

    def __init__(self, input_spike_scale: float | None, input_alphabet: Alphabet, axes: dict[str, int]) -> None:
        self.input_spike_scale, self.input_alphabet, self.axes = input_spike_scale, input_alphabet, axes
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.spike_scales: dict[str, Tensor | None] = {}
        self.alphabets: dict[str, Alphabet] = {}

    def add(self, node: Node) -> None:
        if isinstance(node.op, Input):
            scale = scale_of(node.op, self.input_spike_scale)
            spike_scale = None if scale is None else torch.full((1, *node.shape), scale).double()
            self._place(
                node,
                spike_scale,
                GRADED if scale is None and self.input_spike_scale is not None else self.input_alphabet,
            )
        elif isinstance(node.op, Cell):
            self._cell(node, node.op)
        elif not node.op.is_linear:
            raise UnsupportedModel(
                f"{node.name} ({node.op.describe()}) is neither linear nor spiking, and the recipe did not convert it. "
                'Capture with on_unsupported="keep", or use a recipe that handles it'
            )
        else:
            self._linear(node, node.op)

    def _linear(self, node: Node, op: Op) -> None:
        if isinstance(op, Scale) and node.shape:
            axis = self.axes[node.name]
            op = op.along(axis, node.shape[axis - 1])
            node = dataclasses.replace(node, op=op)
        if any(self.spike_scales[name] is not None for name in node.inputs):
            propagated = op.propagate_levels(tuple(self._spike_scale(name) for name in node.inputs))
            if propagated is not None:
                graded = propagated[1] is None
                alphabet = (
                    GRADED
                    if graded
                    else _merged([self.alphabets[name] for name in node.inputs], propagated[0] is not op)
                )
                self._place(dataclasses.replace(node, op=propagated[0]), propagated[1], alphabet)
                return
            node = self._on_currents(node)
        propagated = (
            None
            if op.role == "synapse"
            else op.propagate_levels(tuple(self._spike_scale(name) for name in node.inputs))
        )
        if propagated is not None and propagated[0] is not op:
            # an average of currents: sum them, the next weights contain the division
            self._place(dataclasses.replace(node, op=propagated[0]), propagated[1], GRADED)
        else:
            self._place(node, None, GRADED)

    def _spike_scale(self, name: str) -> Tensor:
        """The spike scale of a wire, (1, *shape); 1 for currents."""
        spike_scale = self.spike_scales[name]
        return torch.ones((1, *self.shapes[name]), dtype=torch.float64) if spike_scale is None else spike_scale

    def _cell(self, node: Node, cell: Cell) -> None:
        spike_scales = [self.spike_scales[name] for name in node.inputs]
        # levels that enter a cell together must have the same spike scale
        if not cell.accepts_levels(spike_scales, self.axes[node.name]):
            node = self._on_currents(node)
            spike_scales = [None] * len(spike_scales)
        alphabet = cell.output_alphabet(*(self.alphabets[name] for name in node.inputs))
        spike_scale = cell.output_scale(*spike_scales)
        if "spike_scale" in cell.tensors():  # it is stored in ``spike_scales`` only
            node = dataclasses.replace(node, op=dataclasses.replace(cell, spike_scale=None))  # type: ignore[call-arg]
        self._place(node, None if spike_scale is None else spike_scale.expand(1, *node.shape), alphabet)

    def _on_currents(self, node: Node) -> Node:
        """The node with a diagonal synapse before every input that carries levels."""
        inputs = []
        for name in node.inputs:
            spike_scale = self.spike_scales[name]
            if spike_scale is not None:
                shape, name = self.shapes[name], f"{name}→{node.name}"
                if name not in self.spike_scales:
                    source = name.split("→")[0]
                    self.axes[name] = self.axes[source]
                    scale = diagonal(spike_scale, self.axes[name])
                    self._place(Node(name, scale, (source,), node.path, (), shape), None, GRADED)
            inputs.append(name)
        return dataclasses.replace(node, inputs=tuple(inputs))

    def _place(self, node: Node, spike_scale: Tensor | None, alphabet: Alphabet) -> None:
        self.nodes.append(node)
        self.shapes[node.name] = node.shape
        self.spike_scales[node.name], self.alphabets[node.name] = spike_scale, alphabet

    def finish(self, output: str) -> Lowered:
        spike_scale = self.spike_scales[output]
        if spike_scale is not None or isinstance(self.nodes[-1].op, Cell):
            shape = self.shapes[output]
            spike_scale = torch.ones((1, *shape)).double() if spike_scale is None else spike_scale
            node = Node(f"{output}→output", diagonal(spike_scale, self.axes[output]), (output,), "", (), shape)
            self.axes[node.name] = self.axes[output]
            self._place(node, None, GRADED)
        lowered = Lowered(tuple(self.nodes), {}, self.spike_scales, self.alphabets, axes=self.axes)
        return dataclasses.replace(lowered, biases=_biases(lowered))


def _merged(alphabets: list[Alphabet], sums: bool) -> Alphabet:
    """The alphabet of a wire after wiring; sums of levels are levels."""
    first = max(alphabets, key=lambda a: (a.kind == "graded", a.signed, a.levels))
    return Alphabet("levels", 0, first.signed) if sums and first.is_spiking else first


def _biases(lowered: Lowered) -> dict[str, tuple[Tensor, ...]]:
    """The response of the affine network to zero input and no spikes, at each cell and at the output."""
    values: dict[str, Tensor] = {}
    biases = {}
    for node in lowered.nodes:
        if isinstance(node.op, (Cell, Input)):
            values[node.name] = torch.zeros((1, *node.shape), dtype=torch.float64)
            if isinstance(node.op, Cell):
                biases[node.name] = tuple(_compact(values[name], lowered.axes[name]) for name in node.inputs)
        else:
            values[node.name] = node.op.run(*(values[name] for name in node.inputs))
    biases[lowered.output.name] = (_compact(values[lowered.output.name], lowered.axes[lowered.output.name]),)
    return biases


def _compact(value: Tensor, axis: int) -> Tensor:
    """(1, channels, 1, …), the channels on ``axis``, if all positions are equal; else unchanged."""
    channels = spatially_uniform(value, axis)
    return value if channels is None or value.ndim < 3 else shaped(channels, axis, value.ndim - 1)[None]
