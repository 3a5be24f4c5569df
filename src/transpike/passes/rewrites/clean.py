"""Removes layers that only training needs."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import Dropout, Identity


@dataclass(frozen=True)
class RemoveDropout(Pass):
    """Removes dropout and identity layers from the graph."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        if not any(is_plain(node.op, (Dropout, Identity)) for node in graph):
            return graph

        def change(node: Node) -> str | None:
            return node.inputs[0] if is_plain(node.op, (Dropout, Identity)) else None

        return graph.rewrite(change)
