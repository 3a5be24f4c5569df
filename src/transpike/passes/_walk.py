"""Runs of a source network that stop at some of its layers."""

from collections.abc import Container, Iterator

from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Op


class Walk:
    """A run of a network of ops that stops at some layers, from where its end can be run with other values."""

    def __init__(self, graph: Graph, x: Tensor) -> None:
        self.nodes, self.x, self.place = graph.nodes, x, 0
        self.last = {name: index for index, node in enumerate(graph) for name in node.inputs}
        self.last[graph.output.name] = len(graph.nodes)
        self.values: dict[str, Tensor] = {}

    def to(self, names: Container[str]) -> Iterator[tuple[str, Tensor]]:
        """Runs to each of these layers, in order: (name, its output)."""
        for place, node in enumerate(self.nodes):
            self.place = place
            self._run(node, place, self.values)
            if node.name in names:
                yield node.name, self.values[node.name]

    def answer(self, output: Tensor) -> Tensor:
        """The answer of the network if the layer at which the walk stands had this output; the walk remains there."""
        values = self.values | {self.nodes[self.place].name: output}
        for place in range(self.place + 1, len(self.nodes)):
            self._run(self.nodes[place], place, values)
        return values[self.nodes[-1].name]

    def _run(self, node: Node, place: int, values: dict[str, Tensor]) -> None:
        assert isinstance(node.op, Op)
        values[node.name] = node.op.run(*(values[name] for name in node.inputs)) if node.inputs else node.op.run(self.x)
        for name in set(node.inputs):
            if self.last[name] == place:
                del values[name]
