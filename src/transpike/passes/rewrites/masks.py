"""Masks before a softmax, as one operator with it, and the products on both sides of it without what they hide."""

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.lowering.truth import possible_values
from transpike.ops import Add, MaskedSoftmax, Product, Scale
from transpike.ops.analogue import AnalogueOp
from transpike.passes.rewrites._base import is_matrix_product

HIDDEN = -1e4
"""From this value down (−inf, −1e9, −1e4) a masked place is one whose exponential is 0."""
SOFTMAX = ("aten.softmax.int", "aten._softmax.default", "aten._safe_softmax.default")


@dataclass
class _Masks:
    """What hides places of a softmax: a constant, and wires of Boolean values, 1 where they hide."""

    constant: Tensor | None = None
    wires: list[str] = field(default_factory=list)

    def add_constant(self, mask: Tensor) -> None:
        self.constant = mask if self.constant is None else self.constant | mask


@dataclass(frozen=True)
class JoinMasks(Pass):
    """``softmax(x.masked_fill(mask, −inf))``, also by ``where`` or a sum, becomes one operator.

    The wire between the two would carry infinite values, or values so large that the others are lost. The mask is a
    constant, or depends on Boolean values that are inputs, like the mask of the words that a sentence has.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        return _with_masked_softmax(graph)


@dataclass(frozen=True)
class MaskProducts(Pass):
    """Matrix products on both sides of a masked softmax take no products for the pairs that the mask hides.

    Between the scores ``q kᵀ`` and the softmax there may be sums and multiplications by constants; the weights after
    it are the first factor of a product.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        return _with_masked_products(graph)


def behind_masks(graph: Graph) -> Graph:
    """The graph with masks as parts of softmax and products: hidden pairs cost the source network nothing either."""
    return _with_masked_products(_with_masked_softmax(graph))


def _with_masked_softmax(graph: Graph) -> Graph:
    nodes: list[Node] = []
    for node in graph:
        found = _joined(graph, node)
        nodes += [node] if found is None else found
    same = len(nodes) == len(graph.nodes) and all(map(operator.is_, nodes, graph.nodes))
    return graph if same else _merged(_used(nodes))


def _with_masked_products(graph: Graph) -> Graph:
    changed: dict[str, Node] = {}
    for node in graph:
        if not is_plain(node.op, MaskedSoftmax):
            continue
        assert isinstance(node.op, MaskedSoftmax)
        scores = _scores(graph, node)
        readers = [graph[name] for name in graph.readers[node.name]]
        values = [one for one in readers if _is_seen(graph, one) and one.inputs[0] == node.name]
        for one, hides in (*((one, "output") for one in scores), *((one, "first") for one in values)):
            if one.inputs[1] == node.name or node.op.axis != len(node.shape):
                continue
            op = Product(True, hides, node.op.mask, node.op.by_sample)  # type: ignore[arg-type]
            inputs = (*one.inputs[:2], *node.inputs[1:])
            changed[one.name] = dataclasses.replace(one, op=op, inputs=inputs, origin=())
    return _in_order(graph, changed) if changed else graph


def _joined(graph: Graph, node: Node) -> list[Node] | None:
    """The nodes that take the place of a softmax after masks; None for other nodes."""
    axis = _softmax(node)
    if axis is None:
        return None
    masks, new = _Masks(), list[Node]()
    wire = node.inputs[0]
    while (rest := _without_mask(graph, graph[wire], node.shape, masks, new)) is not None:
        wire = rest
    if (masks.constant is None and not masks.wires) or graph[wire].shape != node.shape:
        return None
    while len(masks.wires) > 1:
        name = f"{node.name}.hidden{len(masks.wires)}"
        either = AnalogueOp("aten.logical_or.default", (("input", 0), ("input", 1)))
        new.append(Node(name, either, (masks.wires.pop(), masks.wires.pop()), node.path))
        masks.wires.append(name)
    constant = None if masks.constant is None else masks.constant.float()
    safe = node.op.operator.startswith("aten._safe")  # type: ignore[union-attr]
    op = MaskedSoftmax(constant, axis % (len(node.shape) + 1), bool(masks.wires), safe)
    return [*new, dataclasses.replace(node, op=op, inputs=(wire, *masks.wires), origin=())]


def _softmax(node: Node) -> int | None:
    op = node.op
    return op.arguments[1] if type(op) is AnalogueOp and op.operator in SOFTMAX else None


def _without_mask(graph: Graph, node: Node, shape: tuple[int, ...], masks: _Masks, new: list[Node]) -> str | None:
    """The wire that an operator masks, its mask being added to ``masks``; None for other operators.

    ``new`` gets the nodes that a mask needs.
    """
    op, wires = node.op, node.inputs
    if is_plain(op, Add) and len(wires) == 2 and wires[0] not in graph.static:
        assert isinstance(op, Add)
        return _added(graph, wires, op.coefficients, masks, new)
    if type(op) is not AnalogueOp or op.options:
        return None
    values = [op.constants[a[1]] if isinstance(a, tuple) and a[0] == "constant" else a for a in op.arguments]
    name = op.operator.split(".")[1]
    if name == "add" and all(map(_is_wire, values[:2])):
        return _added(graph, wires, (1.0, 1.0), masks, new)
    if name == "masked_fill" and _is_wire(values[0]) and _hides(values[2]):
        return _masked(graph, wires, values[1], values[0], False, masks, new)
    if name == "where" and _hides(values[1]) and _is_wire(values[2]):
        return _masked(graph, wires, values[0], values[2], False, masks, new)
    if name == "where" and _hides(values[2]) and _is_wire(values[1]):
        return _masked(graph, wires, values[0], values[1], True, masks, new)
    return None


def _masked(
    graph: Graph, wires: tuple[str, ...], mask: Any, value: Any, inverted: bool, masks: _Masks, new: list[Node]
) -> str | None:
    wire = wires[value[1]]
    if isinstance(mask, Tensor):
        masks.add_constant(~mask.bool() if inverted else mask.bool())
        return wire
    name = wires[mask[1]]
    if name not in graph.static or possible_values(graph, name) is None or not _same_rank(graph, name, wire):
        return None
    if inverted:
        name = _computed(graph, name, f"{name}.hidden", AnalogueOp("aten.logical_not.default", (("input", 0),)), new)
    masks.wires.append(name)
    return wire


def _added(
    graph: Graph, wires: tuple[str, ...], coefficients: tuple[float, ...], masks: _Masks, new: list[Node]
) -> str | None:
    """Scores + mask, where the mask is 0 or hides."""
    first, second = wires if wires[1] in graph.static else reversed(wires)
    if second not in graph.static or first in graph.static or coefficients != (1.0, 1.0):
        return None
    values = possible_values(graph, second)
    if values is None or not all(value == 0 or value <= HIDDEN for value in values):
        return None
    if not _same_rank(graph, second, first):
        return None
    below = AnalogueOp("aten.le.Scalar", (("input", 0), HIDDEN))
    masks.wires.append(_computed(graph, second, f"{second}.hidden", below, new))
    return first


def _computed(graph: Graph, wire: str, name: str, op: AnalogueOp, new: list[Node]) -> str:
    """A new node after ``wire``, under a name that is free."""
    taken, free, number = {node.name for node in (*graph, *new)}, name, 1
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    new.append(Node(free, op, (wire,), graph[wire].path))
    return free


def _same_rank(graph: Graph, mask: str, wire: str) -> bool:
    """A mask with fewer axes than the scores would align one of its axes with the batch."""
    return len(graph[mask].shape) == len(graph[wire].shape)


def _is_wire(value: Any) -> bool:
    return isinstance(value, tuple) and value[0] == "input"


def _hides(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool((value <= HIDDEN).all())
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= HIDDEN


def _scores(graph: Graph, softmax: Node) -> list[Node]:
    """The matrix product whose output a masked softmax alone reads, after sums and factors; [] for others."""
    name, reader = softmax.inputs[0], softmax.name
    while graph.readers[name] == (reader,):
        node = graph[name]
        if node.shape != softmax.shape:
            return []
        if _is_seen(graph, node):
            return [node]
        if is_plain(node.op, Add):
            behind = [one for one in node.inputs if graph[one].shape == softmax.shape and _leads(graph, one)]
            if len(behind) != 1:
                return []
            name, reader = behind[0], name
        elif is_plain(node.op, Scale):
            name, reader = node.inputs[0], name
        else:
            return []
    return []


def _leads(graph: Graph, name: str) -> bool:
    """Whether a wire comes from a matrix product by sums and factors."""
    node = graph[name]
    if _is_seen(graph, node):
        return True
    return is_plain(node.op, (Add, Scale)) and any(_leads(graph, one) for one in node.inputs)


def _is_seen(graph: Graph, node: Node) -> bool:
    """True for a matrix product that no mask is a part of yet."""
    return is_matrix_product(graph, node) and not getattr(node.op, "hides", "")


def _in_order(graph: Graph, changed: Mapping[str, Node]) -> Graph:
    """The graph with changed nodes; masks that they read now come before them."""
    placed: dict[str, Node] = {}

    def place(node: Node) -> None:
        if node.name not in placed:
            for name in node.inputs:
                place(changed.get(name, graph[name]))
            placed[node.name] = node

    for node in graph:
        if not node.inputs:
            place(node)
    for node in graph:
        place(changed.get(node.name, node))
    return Graph(tuple(placed.values()))


def _merged(graph: Graph) -> Graph:
    """The graph in which each mask is computed once, for all layers that read it."""
    first: dict[tuple, str] = {}
    names: dict[str, str] = {}

    def change(node: Node) -> str | None:
        if node.name not in graph.static or not node.inputs or node.name == graph.output.name:
            return None
        fields = [getattr(node.op, one.name) for one in dataclasses.fields(node.op)]
        key = (type(node.op), tuple(names.get(name, name) for name in node.inputs), repr(list(map(_key, fields))))
        names[node.name] = first.setdefault(key, node.name)
        return None if names[node.name] == node.name else names[node.name]

    return graph.rewrite(change)


def _key(value: Any) -> Any:
    """What tells one field of an op from another; tensors by their identity."""
    if isinstance(value, Tensor):
        return id(value)
    return tuple(map(_key, value)) if isinstance(value, tuple) else value


def _used(nodes: list[Node]) -> Graph:
    """The graph of the nodes that its output depends on."""
    table, wanted, stack = {node.name: node for node in nodes}, {nodes[-1].name}, [nodes[-1]]
    while stack:
        for name in stack.pop().inputs:
            if name not in wanted:
                wanted.add(name)
                stack.append(table[name])
    return Graph(tuple(node for node in nodes if node.name in wanted or not node.inputs))
