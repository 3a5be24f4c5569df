"""When neurons hear and when they fire."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Cell, Mode
from transpike.core.graph import Graph, Node
from transpike.core.plain import Plain
from transpike.errors import SettingError

MOST_STEPS = 2**24
"""Counts beyond it are not whole numbers in float32."""


@dataclass(frozen=True)
class Schedule(Plain):
    """``lag(T)`` steps lie between the start of a layer and that of its readers; ``total_steps`` is the latency.

    A node's own steps count from 1 at its start. ``share(own, T)`` says how much of the bias and of a constant input
    comes in such a step, ``fires(own, T)`` whether a neuron may send then.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("lag", "share", "fires", "slot", "start", "duration")
    free: ClassVar[tuple[str, ...]] = ("check", "answers", "total_steps", "rounds")
    mode: ClassVar[Mode] = "steps"

    @property
    def period(self) -> int:
        """Steps of a phase cycle; 0 where time has no phases."""
        return 0

    @property
    def whole_windows(self) -> bool:
        """True in time slots where every neuron hears all of its input before it fires."""
        return False

    @property
    def every_step(self) -> bool:
        """True where every step of a run is an answer."""
        return self.mode in ("steps", "differences")

    def lag(self, timesteps: int) -> int:
        raise TypeError(f"{type(self).__name__} must define lag()")

    def start(self, graph: Graph, node: Node, timesteps: int) -> int:
        """How many steps pass before the node's first own step."""
        return depth(graph, node.name) * self.lag(timesteps)

    def share(self, own: int, timesteps: int) -> float:
        return 1.0

    def fires(self, own: int, timesteps: int) -> bool:
        return True

    def slot(self, own: int, timesteps: int) -> int:
        """Which of the steps in which a neuron may send this own step is, from 1."""
        return own

    def duration(self, node: Node, timesteps: int) -> int:
        return timesteps

    def check(self, timesteps: int) -> int:
        """``timesteps``, or SettingError for a number that a run of this schedule cannot have."""
        return check_timesteps(timesteps)

    def total_steps(self, graph: Graph, timesteps: int) -> int:
        """The step at which the answer is ready."""
        timesteps, output = self.check(timesteps), graph.output
        fires = isinstance(output.op, Cell) and output.op.delays  # behind the last layer: it has to hear first
        late = self.lag(timesteps) if fires else 0
        return self.start(graph, output, timesteps) + late + self.duration(output, timesteps)

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """The numbers of time steps for which an evaluation up to ``timesteps`` gives an answer."""
        return tuple(range(1, timesteps + 1))


def depth(graph: Graph, name: str) -> int:
    """The largest number of neurons on a path from the input to the node's inputs."""
    found = depths(graph)
    if name not in found:
        raise SettingError(f"no layer is called {name!r}; there are {', '.join(found)}")
    return found[name]


def depths(nodes: Iterable[Node]) -> dict[str, int]:
    """Node → the largest number of cells that answer a window later on a path from the input to its inputs."""
    return {node.name: depth for node, depth, _ in _depths(nodes)}


def arrivals(nodes: Iterable[Node]) -> dict[str, int]:
    """Node → the same number with the node itself."""
    return {node.name: after for node, _, after in _depths(nodes)}


def arrival(node: Node, before: int) -> int:
    """The number of cells that answer a window later up to and with the node, whose inputs have passed ``before``."""
    return before + (isinstance(node.op, Cell) and node.op.delays)


def _depths(nodes: Iterable[Node]) -> Iterator[tuple[Node, int, int]]:
    after: dict[str, int] = {}
    for node in nodes:
        before = max((after[source] for source in node.inputs), default=0)
        after[node.name] = arrival(node, before)
        yield node, before, after[node.name]


def check_timesteps(timesteps: int) -> int:
    """A positive whole number of steps, at most 2^24, or a SettingError."""
    if isinstance(timesteps, bool) or not isinstance(timesteps, int) or not 1 <= timesteps <= MOST_STEPS:
        raise SettingError(f"timesteps must be a whole number of at least 1, at most {MOST_STEPS:,}, not {timesteps!r}")
    return timesteps
