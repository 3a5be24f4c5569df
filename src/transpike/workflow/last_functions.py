"""Softmax, sigmoid and similar functions after the last layers: where they are, and the network without them."""

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from transpike.core import registry
from transpike.core.answer import FunctionOfAnswer
from transpike.core.graph import Graph, Input, Node, PackedInput
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.core.readout import Readout
from transpike.core.structure import Branch, Leaf, Structure
from transpike.ops.add import Add
from transpike.ops.analogue import AnalogueOp
from transpike.ops.pack import Pack
from transpike.ops.resample import Resample
from transpike.ops.scale import Scale
from transpike.ops.shape import Nearest
from transpike.ops.wiring import Average, Selection
from transpike.workflow.captured_values import operator_name

LAST = frozenset((
    "softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default", "sigmoid.default",
    "sigmoid_.default", "tanh.default", "tanh_.default", "hardsigmoid.default", "softplus.default",
    "log_sigmoid.default", "exp.default", "exp_.default",
))  # fmt: skip
"""Functions that may follow the last layer: they are computed once, on the accumulated answer."""
FOLLOWERS: tuple[type[Op], ...] = (Selection, Average, Add, Scale)
"""What may stand between them and the answer: boxes are decoded by sums, factors and concatenations."""


def last_functions(program: fx.Graph, answers: list[fx.Node], wanted: set[fx.Node]) -> frozenset[fx.Node]:
    """The calls of ``LAST`` after which nothing follows but such calls and ``FOLLOWERS``, and these followers.

    ``wanted``: the nodes on which the ``answers`` depend; others do not count as readers.
    """
    kinds = [kind for kind in registry.families["op"].classes() if issubclass(kind, FOLLOWERS)]
    follow = {name for kind in kinds for name in kind.aten} | LAST
    free = set[fx.Node]()
    for node in reversed(program.nodes):
        if node.op == "call_function" and (operator_name(node) in follow or node.target is operator.getitem):
            readers = [reader for reader in node.users if reader in wanted and _has_values(reader)]
            if node in wanted and not _over_batch(node) and free.issuperset(readers):
                free.add(node)
    found = set[fx.Node]()
    for node in program.nodes:
        if node in free and (operator_name(node) in LAST or not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return frozenset(found)


def _has_values(node: fx.Node) -> bool:
    """False for the size of a tensor."""
    return isinstance(node.meta.get("val"), (Tensor, list, tuple))


def _over_batch(node: fx.Node) -> bool:
    """True for a softmax over the batch axis."""
    name = operator_name(node)
    return name in LAST and "softmax" in name and node.args[1] % node.meta["val"].ndim == 0


@dataclass(frozen=True, eq=False)
class Split:
    """A network up to its last ``layers``, and what the answer passes: a chain of ``functions``, or a ``network``."""

    layers: Graph
    functions: tuple[Op, ...] = ()
    network: Graph | None = None

    def readout(self, inside: Readout) -> Readout:
        """The readout that computes the functions on the answer of the one ``inside``."""
        return FunctionOfAnswer(inside, self.functions, self.network) if self.remarks else inside

    @property
    def remarks(self) -> list[str]:
        """The report's sentences about the functions after the last layer."""
        ops = (*self.functions, *(() if self.network is None else (node.op for node in self.network)))
        named = [op.operator.split(".")[1] for op in ops if isinstance(op, AnalogueOp)]
        named += ["upsampling" for op in ops if _is_upsampling(op)]
        if not ops:
            return []
        names = " and ".join(named if self.network is None else dict.fromkeys(named))
        where = "the last layer" if self.network is None else "the last layers"
        return [f"{names} after {where}: computed once for each answer, on the accumulated output, without spikes"]


def split_answer(graph: Graph) -> Split:
    """The network up to its last layers, and the functions after them; none if it ends with layers."""
    chain, last = _chain(graph), _last_nodes(graph)
    if not last:
        return Split(graph)
    if chain == last:
        start = len(graph.nodes) - len(chain)
        return Split(Graph(graph.nodes[:start]), tuple(n.op for n in graph.nodes[start:] if isinstance(n.op, Op)))
    return divided(graph, last)


def divided(graph: Graph, last: set[str]) -> Split:
    """The network up to the nodes ``last``, and these as a separate network; nothing else follows them."""
    rest = [node for node in graph if node.name not in last]
    between = {name for node in graph if node.name in last for name in node.inputs} - last
    wires = [node for node in rest if node.name in between]
    functions = tuple(node for node in graph if node.name in last)
    if len(wires) == 1:
        wire = wires[0]
        rest.remove(wire)
        return Split(Graph((*rest, wire)), network=_double(Node(wire.name, Input(wire.shape)), *functions))
    names, shapes = tuple(wire.name for wire in wires), tuple(wire.shape for wire in wires)
    tree = Branch("tuple", tuple(range(len(wires))), tuple(map(Leaf, range(len(wires)))))
    structure = Structure(names, shapes, tree)
    starts = [sum(structure.sizes[:place]) for place in range(len(wires))]
    inputs = (Node(n, PackedInput(s, start, (n,))) for n, s, start in zip(names, shapes, starts, strict=True))
    pack = Node(f"{graph.output.name}.packed", Pack(structure), names)
    return Split(Graph((*rest, pack)), network=_double(*inputs, *functions))


def _double(*nodes: Node) -> Graph:
    """The nodes as a graph in float64, as answers are."""
    return Graph(nodes).to(dtype=torch.float64)


def _chain(graph: Graph) -> set[str]:
    """The names of the last nodes from the first function on, where each reads only the one before."""
    nodes, start = graph.nodes, len(graph.nodes)
    for place in range(len(nodes) - 1, 1, -1):
        node = nodes[place]
        follows = node.inputs == (nodes[place - 1].name,) and len(graph.readers[nodes[place - 1].name]) == 1
        if not follows or not (_is_last(node) or is_plain(node.op, Selection)):
            break
        start = place if _is_last(node) else start
    return {node.name for node in nodes[start:]}


def _last_nodes(graph: Graph) -> set[str]:
    """The names of the functions after the last layers and of what follows; of several outputs also upsampling."""
    several, free = isinstance(graph.output.op, Pack), set[str]()
    for node in reversed(graph.nodes):
        follows = isinstance(node.op, (*FOLLOWERS, AnalogueOp, Pack)) and node.inputs
        if follows and free.issuperset(graph.readers[node.name]):
            free.add(node.name)
    found = set[str]()
    for node in graph:
        begins = _is_last(node) or (several and _is_upsampling(node.op))
        if node.name in free and (begins or not found.isdisjoint(node.inputs)):
            found.add(node.name)
    return found


def _is_upsampling(op: object) -> bool:
    return is_plain(op, Nearest) or (isinstance(op, Resample) and op.kind.startswith("upsample"))


def _is_last(node: Node) -> bool:
    """True for a function of ``LAST`` that computes each sample alone."""
    if not is_plain(node.op, AnalogueOp) or node.op.operator.removeprefix("aten.") not in LAST:
        return False
    probe = torch.linspace(-1, 1, 2 * max(1, torch.Size(node.shape).numel())).reshape(2, *node.shape)
    return torch.equal(node.op.run(probe)[:1], node.op.run(probe[:1]))
