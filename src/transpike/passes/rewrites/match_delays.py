"""Shortcuts wait for the layers that they pass by."""

import dataclasses
from dataclasses import dataclass

from transpike.core.cell import Cell
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.schedule import arrival
from transpike.neurons import Retimed, Synchronous


@dataclass(frozen=True)
class MatchDelays(Pass):
    """Relays on every wire that meets another one which has passed more neurons: synchronous neurons of ``period`` K,
    or, with period 0, cells that re-time first spikes.

    Each holds its input back by one cycle, or by as many slots as neurons hold their spikes. They stand right behind
    the neuron or pool where the early wire begins, if nothing but layers without memory lies between, so that spikes
    are delayed and not currents.
    Source: reconstructed from the abstract of Li, Zeng and Zhao 2021 (BSNN): synchronous neurons on ResNet's shortcuts.
    """

    period: int = 8

    def apply(self, graph: Graph, context: Context) -> Graph:
        return _Delays(graph, Synchronous(period=self.period) if self.period else Retimed()).applied()

    def describe(self) -> str:
        return "shortcuts delayed" if self.period else "shortcuts re-timed"


class _Delays:
    """Goes through the graph once: a relay changes when its own wire arrives, and nothing behind the reader."""

    def __init__(self, graph: Graph, propagate_levels: Cell) -> None:
        self.graph, self.propagate_levels = graph, propagate_levels
        self.inputs = {node.name: list(node.inputs) for node in graph}
        self.readers = {name: set(found) for name, found in graph.readers.items()}
        self.ops = {node.name: node.op for node in graph}
        self.late: dict[str, list[Node]] = {}  # node → the relays that stand right before it
        self.after: dict[str, int] = {}  # node → how many windows after the input it answers

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
            propagate_levels = Node(self._fresh(f"{source}.late"), self.propagate_levels, (name,))
            self.late.setdefault(first, []).append(propagate_levels)
            self.ops[propagate_levels.name], self.inputs[propagate_levels.name] = self.propagate_levels, [name]
            self.readers[name].add(propagate_levels.name)
            self.readers[propagate_levels.name] = set()
            self.after[propagate_levels.name] = arrival(propagate_levels, self.after[name])
            name = propagate_levels.name
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
