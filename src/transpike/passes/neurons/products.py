"""Products of two wires, where networks have gates."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.ops import Product


@dataclass(frozen=True)
class ProductsOfWires(Pass):
    """Every analogue product of two wires (squeeze-and-excitation, gated units) becomes a product for spikes."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            shapes = tuple(graph[name].shape for name in node.inputs)
            product = Product.of_analogue(node.op, shapes)
            return None if product is None else dataclasses.replace(node, op=product, origin=())

        return graph.rewrite(change)
