"""Contract of schedules: when neurons integrate their input and when they fire."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Cell, Gain, Mode
from transpike.core.graph import Graph, Node
from transpike.core.plain import Plain
from transpike.errors import SettingError

MOST_STEPS = 2**24
"""Larger counts are not exact in float32."""


@dataclass(frozen=True)
class Schedule(Plain):
    """``lag(T)`` steps lie between the start of a layer and the start of its readers; ``total_steps`` is the latency.

    The local steps of a node (``own``) count from 1 at its start. ``share(own, T)`` is the share of the bias and of a
    constant input that arrives in such a step, ``fires(own, T)`` states whether a neuron may fire in it.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("lag", "share", "fires", "slot", "start", "duration")
    free: ClassVar[tuple[str, ...]] = ("check", "answers", "total_steps", "rounds")
    mode: ClassVar[Mode] = "steps"

    @property
    def period(self) -> int:
        """Steps of a phase cycle; 0 without phases."""
        return 0

    @property
    def gain(self) -> Gain:
        """The gain of differences; "" where steps carry no differences."""
        return ""

    @property
    def whole_windows(self) -> bool:
        """True for time slots in which every neuron integrates its whole input before it fires."""
        return False

    @property
    def every_step(self) -> bool:
        """True if every step of a run gives an answer."""
        return self.mode in ("steps", "differences")

    def lag(self, timesteps: int) -> int:
        raise TypeError(f"{type(self).__name__} must define lag()")

    def start(self, graph: Graph, node: Node, timesteps: int) -> int:
        """The number of steps before the node's first local step."""
        return depth(graph, node.name) * self.lag(timesteps)

    def share(self, own: int, timesteps: int) -> float:
        return 1.0

    def fires(self, own: int, timesteps: int) -> bool:
        return True

    def slot(self, own: int, timesteps: int) -> int:
        """The index, from 1, of local step ``own`` among the steps in which a neuron may fire."""
        return own

    def duration(self, node: Node, timesteps: int) -> int:
        return timesteps

    def check(self, timesteps: int) -> int:
        """``timesteps``, or SettingError for a number that this schedule does not allow."""
        return check_timesteps(timesteps)

    def total_steps(self, graph: Graph, timesteps: int) -> int:
        """The step at which the answer is ready."""
        timesteps, output = self.check(timesteps), graph.output
        fires = isinstance(output.op, Cell) and output.op.delays  # a neuron after the last layer integrates first
        late = self.lag(timesteps) if fires else 0
        return self.start(graph, output, timesteps) + late + self.duration(output, timesteps)

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """The numbers of time steps at which an evaluation up to ``timesteps`` gives an answer."""
        return tuple(range(1, timesteps + 1))


def depth(graph: Graph, name: str) -> int:
    """The largest number of neurons on a path from the input to the node's inputs."""
    found = depths(graph)
    if name not in found:
        raise SettingError(f"there is no layer named {name!r}; there are {', '.join(found)}")
    return found[name]


def depths(nodes: Iterable[Node]) -> dict[str, int]:
    """Node → the largest number of cells with a delay of one window on a path from the input to its inputs."""
    return {node.name: depth for node, depth, _ in _depths(nodes)}


def arrivals(nodes: Iterable[Node]) -> dict[str, int]:
    """Node → the same number, including the node itself."""
    return {node.name: after for node, _, after in _depths(nodes)}


def arrival(node: Node, before: int) -> int:
    """The number of delaying cells up to and including the node, whose inputs have passed ``before`` of them."""
    return before + (isinstance(node.op, Cell) and node.op.delays)


def _depths(nodes: Iterable[Node]) -> Iterator[tuple[Node, int, int]]:
    after: dict[str, int] = {}
    for node in nodes:
        before = max((after[source] for source in node.inputs), default=0)
        after[node.name] = arrival(node, before)
        yield node, before, after[node.name]


def check_timesteps(timesteps: int) -> int:
    """A positive integer number of steps, at most 2^24, or a SettingError."""
    if isinstance(timesteps, bool) or not isinstance(timesteps, int) or not 1 <= timesteps <= MOST_STEPS:
        raise SettingError(f"timesteps must be an integer of at least 1, at most {MOST_STEPS:,}, not {timesteps!r}")
    return timesteps
