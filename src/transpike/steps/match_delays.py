"""Shortcuts wait for the layers that they pass by."""

import dataclasses
from dataclasses import dataclass

from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.schedule import arrivals
from transpike.core.step import Context, Step
from transpike.neurons import Retimed, Synchronous


@dataclass(frozen=True)
class MatchDelays(Step):
    """Relays on every wire that meets another one which has passed more neurons: synchronous neurons of ``period`` K,
    or, with period 0, cells that re-time first spikes.

    Each holds its input back by one cycle, or by as many slots as neurons hold their spikes. They stand right behind
    the neuron or pool where the early wire begins, if nothing but layers without memory lies between, so that spikes
    are delayed and not currents.
    Source: reconstructed from the abstract of Li, Zeng and Zhao 2021 (BSNN): synchronous neurons on ResNet's shortcuts.
    """

    period: int = 8

    def apply(self, graph: Graph, context: Context) -> Graph:
        while (early := _early(graph)) is not None:
            reader, place, missing = early
            graph = self._delayed(graph, reader, place, missing)
        return graph

    def _delayed(self, graph: Graph, reader: str, place: int, cycles: int) -> Graph:
        chain = [graph[reader].inputs[place]]
        readers = graph.consumers()
        while not isinstance(graph[chain[-1]].op, Cell):
            node = graph[chain[-1]]
            if len(node.inputs) != 1 or len(readers[node.name]) != 1:
                break
            chain.append(node.inputs[0])
        source, moved = chain[-1], set(chain[:-1])
        # the first reader of the source on this way
        first = (chain[-2], 0) if moved else (reader, place)
        nodes: list[Node] = []
        relay = Synchronous(period=self.period) if self.period else Retimed()
        for node in graph:
            inputs = list(node.inputs)
            if node.name == first[0]:
                name = source
                for _ in range(cycles):
                    nodes.append(Node(_fresh(graph, nodes, f"{source}.late"), relay, (name,)))
                    name = nodes[-1].name
                inputs[first[1]] = name
            nodes.append(dataclasses.replace(node, inputs=tuple(inputs)))
        return Graph(tuple(nodes))

    def describe(self) -> str:
        return "shortcuts delayed" if self.period else "shortcuts re-timed"


def _early(graph: Graph) -> tuple[str, int, int] | None:
    """The first (reader, place of its input, cycles) where a wire arrives before another one."""
    after = arrivals(graph)
    for node in graph:
        latest = max((after[name] for name in node.inputs), default=0)
        for place, name in enumerate(node.inputs):
            if after[name] < latest:
                return node.name, place, latest - after[name]
    return None


def _fresh(graph: Graph, nodes: list[Node], wanted: str) -> str:
    taken = {node.name for node in (*graph, *nodes)}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}{number}"
    return name
