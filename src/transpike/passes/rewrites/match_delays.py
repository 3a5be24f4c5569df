"""Delays shortcuts by the windows of the layers that they bypass."""

import dataclasses
from dataclasses import dataclass

from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.schedule import arrival
from transpike.neurons import Retimed, Synchronous


@dataclass(frozen=True)
class MatchDelays(Pass):
    """Adds delays where a wire meets another that has passed more neurons.

    The delays are synchronous neurons of ``period`` K, or, with period 0, cells that re-time first spikes. Each delays
    its input by one cycle, or by the slots of one layer. A delay is placed directly after the neuron or pool at which
    the early wire begins, if only layers without memory lie between, so that spikes are delayed and not currents.
    Source: reconstructed from the abstract of Li, Zeng and Zhao 2021 (BSNN): synchronous neurons on ResNet's shortcuts.
    """

    period: int = 8

    def apply(self, graph: Graph, context: Context) -> Graph:
        return _Delays(graph, Synchronous(period=self.period) if self.period else Retimed()).applied()

    def describe(self) -> str:
        return "shortcuts delayed" if self.period else "shortcuts re-timed"


class _Delays:
    """One pass over the graph: a delay changes the arrival of one wire, and of nothing after the reader."""

    def __init__(self, graph: Graph, delay: Cell) -> None:
        self.graph, self.delay = graph, delay
        self.inputs = {node.name: list(node.inputs) for node in graph}
        self.readers = {name: set(found) for name, found in graph.readers.items()}
        self.ops = {node.name: node.op for node in graph}
        self.late: dict[str, list[Node]] = {}  # node → the delays directly before it
        self.after: dict[str, int] = {}  # node → windows between the input and its output

    def applied(self) -> Graph:
        for node in self.graph:
            latest = max((self.after[name] for name in self.inputs[node.name]), default=0)
            for place in range(len(node.inputs)):
                missing = latest - self.after[self.inputs[node.name][place]]
                if missing:
                    self._delay(node.name, place, missing)
            self.after[node.name] = arrival(node, latest)
        if not self.late:
            return self.graph
        nodes: list[Node] = []
        for node in self.graph:
            nodes += self.late.get(node.name, [])
            nodes.append(dataclasses.replace(node, inputs=tuple(self.inputs[node.name])))
        return Graph(tuple(nodes))

    def _delay(self, reader: str, place: int, cycles: int) -> None:
        chain = [self.inputs[reader][place]]
        while not isinstance(self.ops[chain[-1]], Cell):
            inputs = self.inputs[chain[-1]]
            if len(inputs) != 1 or len(self.readers[chain[-1]]) != 1:
                break
            chain.append(inputs[0])
        source, moved = chain[-1], chain[:-1]
        # the first reader of the source on this way
        first, place = (moved[-1], 0) if moved else (reader, place)
        name = source
        for _ in range(cycles):
            delay = Node(self._fresh(f"{source}.late"), self.delay, (name,))
            self.late.setdefault(first, []).append(delay)
            self.ops[delay.name], self.inputs[delay.name] = self.delay, [name]
            self.readers[name].add(delay.name)
            self.readers[delay.name] = set()
            self.after[delay.name] = arrival(delay, self.after[name])
            name = delay.name
        self.inputs[first][place] = name
        self.readers[name].add(first)
        if source not in self.inputs[first]:
            self.readers[source].discard(first)
        for passed in moved:
            self.after[passed] += cycles

    def _fresh(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.ops:
            number += 1
            name = f"{wanted}{number}"
        return name
