"""What rewrites of attention share."""

from transpike.core.graph import Graph, Node
from transpike.core.plain import is_plain
from transpike.ops import Product
from transpike.ops.analogue import AnalogueOp

PRODUCTS = ("aten.matmul.default", "aten.bmm.default")


def is_matrix_product(graph: Graph, node: Node) -> bool:
    """True for the matrix product of two wires, one product for each sample."""
    op = node.op
    if is_plain(op, Product):
        assert isinstance(op, Product)
        return op.matrices
    plain = type(op) is AnalogueOp and op.operator in PRODUCTS and op.arguments == (("input", 0), ("input", 1))
    return plain and len({len(graph[name].shape) for name in node.inputs}) == 1 and len(node.shape) > 1
