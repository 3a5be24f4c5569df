"""Sigma-delta neurons in place of functions of one value, and on wires that would carry real numbers into weights."""

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from transpike.activations import Function, LeakyReLU, ReLU, Staircase, Unchanged
from transpike.core.cell import Gain, Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.naming import listed
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire, SigmaDelta
from transpike.neurons.multi_threshold import check_threshold_count
from transpike.neurons.sigma_delta import SpikeRule
from transpike.ops import AdaptiveMaxPool, MaxPool, Pick, Product, Scale
from transpike.ops.wiring import Selection
from transpike.passes._base import ReplaceNeurons, is_activation


@dataclass(frozen=True)
class NeuronsForFunctions(Pass):
    """Every analogue function of one value (SiLU, GELU, sigmoid …) becomes an activation, which a neuron replaces."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not isinstance(node.op, Op) or node.name in graph.static:
                return None
            function = Function.of_analogue(node.op)
            return None if function is None else dataclasses.replace(node, op=function, origin=())

        return graph.rewrite(change)


@dataclass(frozen=True)
class EncodeWires(Pass):
    """Adds an activation that changes nothing on every wire that would carry real numbers into weights or a product.

    Such wires come from other weights, sums and analogue operators; a neuron later replaces the activation, so that
    the weights add spikes instead of multiplying. A wire into weights that depends on the analogue input only has none:
    it arrives once. Maximum pooling of neurons sends integer levels if ``pooled``: where all positions of a channel
    have the same threshold. ``behind`` "analogue" only encodes what comes from analogue operators, and not sums,
    weights and maximum pooling. ``pairs``: the activation is a leaky ReLU with slope 1, which ``Rectify`` makes two
    ReLUs, one for either sign, for neurons that send no negative spikes; on a wire that is never negative it is one
    ReLU. A remark names the wires.
    """

    exact: ClassVar[bool] = True
    pooled: bool = True
    behind: Literal["anything", "analogue"] = "anything"
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.behind not in ("anything", "analogue"):
            raise SettingError(f"behind must be 'anything' or 'analogue', not {self.behind!r}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        axes = graph.channel_axes
        carry: dict[str, str] = {}  # wire → "input", "levels", "reals", or sums of weighted levels: "currents"
        nodes: list[Node] = []
        encoded: dict[str, str] = {}
        sources: set[str] = set()  # neurons, and pooling of their levels
        positive: set[str] = set()  # wires that are never negative
        for node in graph:
            op = node.op
            entering = node.inputs[:2] if isinstance(op, Product) else node.inputs  # a third one is a mask
            for wire in [name for name in entering if isinstance(op, Op) and _needs_spikes(op, carry[name])]:
                if wire not in encoded:
                    encoded[wire] = f"{wire}.encoded"
                    nodes.append(Node(encoded[wire], self._unchanged(wire in positive), (wire,), node.path))
                    carry[encoded[wire]] = "levels"
                node = dataclasses.replace(node, inputs=tuple(encoded.get(name, name) for name in node.inputs))
            nodes.append(node)
            if is_plain(op, (ReLU, Staircase)) or (_keeps_signs(op) and positive.issuperset(node.inputs)):
                positive.add(node.name)
            if isinstance(op, Input) or (isinstance(op, Op) and op.is_look_up) or node.name in graph.static:
                carry[node.name] = "input"
            elif is_activation(node) or (self.pooled and _pools_levels(node, sources, axes)):
                carry[node.name] = "levels"
                sources.add(node.name)
            else:
                carry[node.name] = self._carried(node, {carry[name] for name in node.inputs})
        if encoded:
            context.remark(f"neurons without a function encode the real numbers of {listed(encoded)} as spikes")
        return _before_copies(Graph(tuple(nodes)), list(encoded.values())) if encoded else graph

    def _unchanged(self, positive: bool) -> Op:
        if not self.pairs:
            return Unchanged()
        return ReLU() if positive else LeakyReLU(torch.tensor(1.0))

    def _carried(self, node: Node, before: set[str]) -> str:
        """What the output of an op carries, if its inputs carry ``before``."""
        op = node.op
        linear = isinstance(op, Op) and op.is_linear
        if before == {"input"} and linear:
            return "input"
        if self.behind == "analogue" and (linear or is_plain(op, (MaxPool, AdaptiveMaxPool))):
            return "reals" if "reals" in before else "levels" if before == {"levels"} and _moves(op) else "currents"
        moved = isinstance(op, Op) and op.role == "wiring" and (not op.is_sum or len(node.inputs) == 1)
        return before.pop() if moved and len(before) == 1 else "reals"


def _moves(op: object) -> bool:
    """Whether the op's outputs are single inputs of it."""
    return is_plain(op, (MaxPool, AdaptiveMaxPool, Selection))


def _before_copies(graph: Graph, encoded: list[str]) -> Graph:
    """The graph in which a wire is encoded before its elements are repeated, as heads of keys are for several queries.

    One neuron then sends the spikes of all copies.
    """
    for name in encoded:
        source, moved = graph[name].inputs[0], list[str]()
        while isinstance(graph[source].op, Selection) and len(graph.readers[source]) == 1:
            moved.append(source)
            source = graph[source].inputs[0]
        while moved and not _repeats(graph[moved[-1]].op):
            moved.pop()
        if moved:
            graph = _encoded_at(graph, name, moved[-1], graph[moved[-1]].inputs[0], moved[0])
    return graph


def _encoded_at(graph: Graph, encoder: str, copies: str, source: str, last: str) -> Graph:
    """The graph whose ``encoder`` reads the ``source`` of the ``copies``, and whose readers read the ``last`` move."""
    old, nodes, name = graph[encoder], list[Node](), f"{source}.encoded"
    exists = any(node.name == name for node in graph)
    for node in graph:
        if node.name == encoder:
            continue
        if node.name == copies:
            if not exists:
                nodes.append(dataclasses.replace(old, name=name, inputs=(source,)))
            node = dataclasses.replace(node, inputs=(name,))
        nodes.append(dataclasses.replace(node, inputs=tuple(last if one == encoder else one for one in node.inputs)))
    return Graph(tuple(nodes))


def _repeats(op: object) -> bool:
    if not is_plain(op, Pick):
        return False
    assert isinstance(op, Pick)
    return len(set(op.positions)) < len(op.positions)


def _keeps_signs(op: object) -> bool:
    return is_plain(op, (MaxPool, AdaptiveMaxPool)) or (isinstance(op, Op) and op.role == "wiring")


def _needs_spikes(op: Op, carried: str) -> bool:
    """Whether the op would multiply what the wire carries. To add a constant (a weight of 1) takes no product."""
    adds = is_plain(op, Scale) and op.weight.numel() == 1 and float(op.weight) == 1
    return (op.role == "product" and carried != "levels") or (op.role == "synapse" and carried == "reals" and not adds)


def _pools_levels(node: Node, sources: Set[str], axes: Mapping[str, int]) -> bool:
    """True for maximum pooling, of channels on axis 1, directly after neurons."""
    return is_plain(node.op, (MaxPool, AdaptiveMaxPool)) and node.inputs[0] in sources and axes[node.inputs[0]] == 1


@dataclass(frozen=True)
class UseSigmaDelta(ReplaceNeurons):
    """Sigma-delta neurons whose largest of ``threshold_count`` n thresholds is θ."""

    threshold_count: int = 8
    rule: SpikeRule = "one"

    def __post_init__(self) -> None:
        check_threshold_count(self.threshold_count)
        self.neuron(IntegrateAndFire(Unchanged(), torch.ones(()), torch.zeros(())))

    @property
    def gain(self) -> Gain:
        return "unit"

    def apply(self, graph: Graph, context: Context) -> Graph:
        changed = super().apply(graph, context)
        neurons = [(node.name, node.op.source) for node in changed if isinstance(node.op, SigmaDelta)]
        relus = [name for name, source in neurons if source.rectifies]
        if relus and len(relus) < len(neurons):
            context.remark(
                "neurons of ReLUs are sigma-delta neurons too, because all messages are differences: " + listed(relus)
            )
        return changed

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        factor = 2.0 ** (1 - self.threshold_count)
        scale = None if old.spike_scale is None else old.spike_scale * factor
        return SigmaDelta(
            old.source, old.threshold * factor, old.initial * factor, self.threshold_count, self.rule, spike_scale=scale
        )
