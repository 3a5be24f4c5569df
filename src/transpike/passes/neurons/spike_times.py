"""Passes for neurons without a closed form in slots: first crossings, latched currents, exact spike times."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from transpike.activations import ReLU
from transpike.core.cell import Cell
from transpike.core.channels import rows, shaped
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass, Watch
from transpike.core.plain import is_plain
from transpike.core.stand_in import check_stand_ins
from transpike.errors import DataError, SettingError, UnsupportedModel
from transpike.neurons import ExactReLU, FirstCrossing, IntegrateAndFire, Integrator, Latched, PendingInput
from transpike.neurons.first_crossing import LatchRule
from transpike.ops import AdaptiveMaxPool, MaxPool
from transpike.ops.scale import Scale, diagonal
from transpike.ops.wiring import Selection
from transpike.passes._base import Thresholds, behind, is_activation, note_ranges
from transpike.passes._sides import silent_sides

LARGEST_SUM = 0.99
SMALLEST_SUM = -10.0


@dataclass(frozen=True)
class FixedThresholds(Thresholds):
    """``θ = value`` everywhere, the output layer included where it spikes."""

    asks: ClassVar[str] = ""
    value: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not 0 < self.value < 1e30:
            raise SettingError(f"a threshold must be positive and below 1e30, not {self.value!r}")

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        return {node.name: torch.tensor([float(self.value)]) for node in graph if self.fires(graph, node)}

    def describe(self) -> str:
        return f"{self.value:g}, a setting"


@dataclass(frozen=True)
class UseFirstCrossings(Pass):
    """Integrate-and-fire neurons become first-crossing neurons; those after the last layer report their slot."""

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            old = node.op
            if not is_plain(old, IntegrateAndFire):
                return None
            timed = context.timesteps if node.name == graph.output.name else 0
            cell = FirstCrossing(old.source, old.threshold, torch.zeros_like(old.threshold), timed=timed)
            return dataclasses.replace(node, op=dataclasses.replace(cell, spike_scale=torch.ones_like(old.threshold)))

        changed = graph.rewrite(change)
        check_stand_ins(changed)
        return changed


@dataclass(frozen=True)
class UseLatches(Pass):
    """Integrate-and-fire neurons become latched neurons, and the output layer integrates its input.

    ``resolution`` S multiplies thresholds by S without changing spike scales: the largest activation fires after S
    steps. "dynamic" adds to every layer a second path with absolute weights, which carries the pending input of the
    preceding layer. Raises SettingError for more steps per spike than time steps.
    """

    rule: LatchRule = "first"
    resolution: int = 8

    def __post_init__(self) -> None:
        if self.rule not in get_args(LatchRule):
            raise SettingError(f"rule must be one of {', '.join(get_args(LatchRule))}, not {self.rule!r}")
        whole = isinstance(self.resolution, int) and not isinstance(self.resolution, bool)
        if not whole or self.resolution < 1:
            raise SettingError(f"resolution must be an integer number of steps, at least 1, not {self.resolution!r}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            old = node.op
            if not is_plain(old, IntegrateAndFire):
                return None
            theta, spike_scale = (
                old.threshold * self.resolution,
                old.threshold if old.spike_scale is None else old.spike_scale,
            )
            cell = Latched(old.source, theta, torch.zeros_like(theta), self.rule, spike_scale=spike_scale)
            return dataclasses.replace(node, op=cell)

        if self.resolution > context.timesteps:
            raise SettingError(
                f"with resolution={self.resolution} the largest activation fires after {self.resolution} steps, but a "
                f"run has {context.timesteps}: use more timesteps, or a smaller resolution"
            )
        graph = graph.rewrite(change)
        check_stand_ins(graph)
        if self.rule == "dynamic":
            graph = _with_prospects(graph)
        if isinstance(graph.output.op, Cell):
            return graph
        latch = Integrator(steps=context.timesteps)
        return Graph((*graph.nodes, Node(f"{graph.output.name}.latch", latch, (graph.output.name,))))

    def describe(self) -> str:
        return f"{self.resolution} θ, spikes scaled by θ"


def _with_prospects(graph: Graph) -> Graph:
    """Adds a PendingInput next to every latched neuron, and a path with absolute weights to the neurons after it."""
    nodes: list[Node] = []
    pending: dict[str, str] = {}  # wire → the wire with the bound on its pending input
    for node in graph:
        op, inputs = node.op, node.inputs
        if is_plain(op, Latched):
            bound = pending.get(inputs[0])
            inputs = inputs if bound is None else (*inputs, bound)
            cell = PendingInput(op.source, op.threshold, op.initial, op.rule)
            nodes += [dataclasses.replace(node, inputs=inputs)]
            nodes += [Node(f"{node.name}.prospect", cell, inputs)]
            nodes += [_scaled(node, op, graph.channel_axes[node.name])]
            pending[node.name] = nodes[-1].name
            continue
        nodes.append(node)
        known = [pending[name] for name in inputs if name in pending]
        if not known:
            continue
        if isinstance(op, (MaxPool, Cell)) or not op.is_linear:
            raise UnsupportedModel(
                f"{node.name} ({op.describe()}) lies between neurons whose thresholds need a bound on pending "
                "input; the rule 'dynamic' supports convolutions, linear layers, average pools and sums: use "
                "rule='corrective'"
            )
        if len(known) < len(inputs):
            raise UnsupportedModel(
                f"{node.name} adds spikes to the analogue input, which the rule 'dynamic' does not support: use "
                "rule='corrective'"
            )
        nodes.append(Node(f"{node.name}.missing", op.magnitude(), tuple(known)))
        pending[node.name] = nodes[-1].name
    read = {name for node in nodes for name in node.inputs} | {graph.output.name}
    while unread := [n for n in nodes if n.name not in read and not isinstance(n.op, Input)]:
        nodes = [n for n in nodes if n not in unread]
        read = {name for node in nodes for name in node.inputs} | {graph.output.name}
    return Graph((*(n for n in nodes if n.name != graph.output.name), graph.output))


def _scaled(node: Node, op: Latched, axis: int) -> Node:
    spike_scale = op.threshold if op.spike_scale is None else op.spike_scale
    scale = diagonal(spike_scale.expand(1, *node.shape), axis) if spike_scale.ndim else Scale(weight=spike_scale)
    return Node(f"{node.name}.worth", scale, (f"{node.name}.prospect",))


@dataclass(frozen=True)
class ExactTimes(Pass):
    """Every activation becomes an ``ExactReLU`` with ``θ_c = max(max a, Σ_j W_cj θ_j / 0.99, −Σ_j W_cj θ_j / 10)``.

    θ_j is the scale of an input spike, Σ the largest sum over the positions of a channel; ``span`` B is ``1 + zeta``
    times the layer's largest activation over θ on the calibration data. ``spiking_input`` adds a neuron at the input.
    Raises DataError for negative inputs that must spike, UnsupportedModel for layers without an exact spike time.
    Source: Stanojevic et al. 2023, section on preprocessing, which scales the weights instead (equivalent).
    """

    asks: ClassVar[str] = "activations"
    sets_thresholds: ClassVar[bool] = True
    zeta: float = 0.5
    spiking_input: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.zeta, bool) or not isinstance(self.zeta, (int, float)) or not 0 <= self.zeta < 1e6:
            raise SettingError(
                f"zeta must be a number from 0 to 1e6, not {self.zeta!r}: the relative margin above the largest value"
            )

    def apply(self, graph: Graph, context: Context) -> Graph:
        if self.spiking_input:
            lowest = min(float(batch.min()) for batch in context.batches)
            if lowest < 0:
                raise DataError(
                    f"an input of {lowest:.3g} has no spike time; pass inputs of at least 0, or leave the input "
                    "analogue"
                )
            graph = _with_input_neuron(graph)
        largest: dict[str, Tensor] = {}

        def read(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not is_activation(node):
                return None
            return rows(torch.relu(output), graph.channel_axes[node.name]).amax(1).double()

        def add(name: str, peak: Tensor) -> None:
            largest[name] = torch.maximum(largest.get(name, peak), peak)

        note_ranges(graph, context, False, Watch(read, add, lambda: largest))
        silent = silent_sides(graph, context, {name: bool(peak.any()) for name, peak in largest.items()})
        largest |= {name: largest[other] for name, other in silent.items()}
        sums: dict[str, Tensor] = {}
        cells: dict[str, ExactReLU] = {}
        for node in graph:
            if is_activation(node):
                if getattr(node.op, "ceiling", None) is not None:
                    raise UnsupportedModel(
                        f"{node.path or node.name} is a {node.op.describe()}, and exact spike times need a plain "
                        "ReLU: use the recipe linear-ttfs or cat, or train with nn.ReLU"
                    )
                cells[node.name] = self._cell(
                    node, sums[node.inputs[0]], largest[node.name], graph.channel_axes[node.name]
                )
                sums[node.name] = cells[node.name].threshold.expand(1, *node.shape)
            elif isinstance(node.op, Input):
                sums[node.name] = torch.zeros((1, *node.shape), dtype=torch.float64)
            elif is_plain(node.op, (AdaptiveMaxPool, MaxPool)):
                if not _single(graph, node.inputs[0]):
                    raise UnsupportedModel(
                        f"{node.name} takes the maximum of sums or of the analogue input, which are not single spikes: "
                        "insert a ReLU, or pool after the activation"
                    )
                sums[node.name] = node.op.run(sums[node.inputs[0]])
            elif isinstance(node.op, Op) and node.op.is_linear:
                op = node.op.to(dtype=torch.float64)
                sums[node.name] = op.linear(*(sums[name] for name in node.inputs))
            else:
                raise UnsupportedModel(
                    f"{node.name} ({node.op.describe()}) has no exact spike time; the mapping supports ReLUs, linear "
                    "layers, sums and pools"
                )

        def change(node: Node) -> Node | None:
            return dataclasses.replace(node, op=cells[node.name], origin=()) if node.name in cells else None

        changed = graph.rewrite(change)
        check_stand_ins(changed)
        return changed

    def _cell(self, node: Node, charge: Tensor, largest: Tensor, axis: int) -> ExactReLU:
        """``charge`` (1, *shape): the charge of one spike of every input at the start of its window."""
        assert isinstance(node.op, Op)
        if not float(largest.max()) > 0:
            raise DataError(
                f"{node.name} never fires on the calibration data, so its window would have length 0; use more or "
                "different calibration data, or remove the layer"
            )
        channels = rows(charge, axis)
        bounds = torch.stack([channels.amax(1) / LARGEST_SUM, channels.amin(1) / SMALLEST_SUM])
        theta = torch.maximum(bounds.amax(0), largest.max())
        span = (1 + self.zeta) * float((largest / theta).max())
        threshold = shaped(theta, axis, len(node.shape))
        total = charge[0] / threshold
        places = rows(total[None], axis)
        if bool((places == places[:, :1]).all()):
            total = places[:, 0].reshape(threshold.shape)
        return ExactReLU(node.op, threshold, torch.zeros_like(threshold), span=torch.tensor(span).double(), total=total)

    def describe(self) -> str:
        return f"maximum, or the bound of the weights; window {1 + self.zeta:g} × maximum"


def _single(graph: Graph, name: str) -> bool:
    """True where each element of a wire carries the one spike of a single neuron."""
    node = graph[name]
    if is_activation(node) or is_plain(node.op, (AdaptiveMaxPool, MaxPool)):
        return True
    moves = is_plain(node.op, Selection)
    return moves and all(_single(graph, name) for name in node.inputs)


def _with_input_neuron(graph: Graph) -> Graph:
    first = graph.input.name
    name = behind(graph.input)

    def moved(node: Node) -> Node:
        return dataclasses.replace(node, inputs=tuple(name if i == first else i for i in node.inputs))

    rest = [moved(node) for node in graph.nodes[1:]]
    return Graph((graph.input, Node(name, ReLU(), (first,)), *rest))
