"""Products of two wires, where networks have gates."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.graph import Graph, Node
from transpike.core.op import Shapes
from transpike.core.pass_ import Context, Pass
from transpike.ops import Product
from transpike.ops.analogue import AnalogueOp

MATRICES = {"aten.mul.Tensor": False, "aten.matmul.default": True, "aten.bmm.default": True}
"""The operators of torch that are products of two tensors, and whether of matrices."""


@dataclass(frozen=True)
class ProductsOfWires(Pass):
    """Every analogue product of two wires (squeeze-and-excitation, gated units) becomes a product for spikes."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            shapes = tuple(graph[name].shape for name in node.inputs)
            product = _product(node.op, shapes)
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
