"""Products of two wires, where networks have gates."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.graph import Graph, Node
from transpike.core.op import Shapes
from transpike.core.pass_ import Context, Pass
from transpike.lowering.truth import TRUTH, possible_values
from transpike.ops import Mask, Product, Slice
from transpike.ops.analogue import AnalogueOp

MATRICES = {"aten.mul.Tensor": False, "aten.matmul.default": True, "aten.bmm.default": True}
"""The operators of torch that are products of two tensors, and whether of matrices."""


@dataclass(frozen=True)
class ProductsOfWires(Pass):
    """Every analogue product of two wires (squeeze-and-excitation, gated units) becomes a product for spikes.

    ``glu`` is taken apart. A product with Boolean values that are an input selects, and takes no multiplication.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        graph = _without_glu(graph)

        def change(node: Node) -> Node | None:
            static = [name for name in node.inputs if name in graph.static]
            if static and len(set(node.inputs)) == 2:
                return _selected(graph, node, static)
            product = _product(node.op, tuple(graph[name].shape for name in node.inputs))
            return None if product is None else dataclasses.replace(node, op=product, origin=())

        return graph.rewrite(change)


def _product(op: object, inputs: Shapes) -> Product | None:
    """The product that an operator computes for inputs of these shapes; None if it is another, or mixes samples."""
    if type(op) is not AnalogueOp or op.operator not in MATRICES or op.options:
        return None
    if op.arguments != (("input", 0), ("input", 1)) or len({len(shape) for shape in inputs}) != 1:
        return None
    matrices = MATRICES[op.operator]
    return None if matrices and len(inputs[0]) < 2 else Product(matrices)


def _selected(graph: Graph, node: Node, static: list[str]) -> Node | None:
    """A product with Boolean values of an input as the selection that it is; None for others, which stay analogue."""
    product = _product(node.op, tuple(graph[name].shape for name in node.inputs))
    if product is None or product.matrices or len(static) > 1 or possible_values(graph, static[0]) != TRUTH:
        return None
    (signal,) = (name for name in node.inputs if name not in static)
    if graph[signal].shape != node.shape:
        return None
    return dataclasses.replace(node, op=Mask(), inputs=(signal, static[0]), origin=())


def _without_glu(graph: Graph) -> Graph:
    """Each ``glu`` as the product of its first half and the sigmoid of the second."""
    nodes: list[Node] = []
    for node in graph:
        if type(node.op) is AnalogueOp and node.op.operator == "aten.glu.default":
            shape = graph[node.inputs[0]].shape
            axis = (node.op.arguments[1] if len(node.op.arguments) > 1 else -1) % (len(shape) + 1)
            half = shape[axis - 1] // 2
            value, gate, sigmoid = (f"{node.name}.{part}" for part in ("value", "gate", "sigmoid"))
            nodes += [
                Node(value, Slice(axis=axis, start=0, stop=half), node.inputs, node.path),
                Node(gate, Slice(axis=axis, start=half, stop=2 * half), node.inputs, node.path),
                Node(sigmoid, AnalogueOp("aten.sigmoid.default", (("input", 0),)), (gate,), node.path),
            ]
            product = AnalogueOp("aten.mul.Tensor", (("input", 0), ("input", 1)))
            node = dataclasses.replace(node, op=product, inputs=(value, sigmoid), origin=())
        nodes.append(node)
    return graph if len(nodes) == len(graph.nodes) else Graph(tuple(nodes))
