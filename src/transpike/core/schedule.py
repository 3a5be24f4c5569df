"""When neurons hear and when they fire."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Node
from transpike.errors import SettingError


@dataclass(frozen=True)
class Schedule:
    """``start(graph, node, T)`` and ``duration`` of each node's activity, in steps; ``total_steps`` to the answer.

    ``bias_per_window``: a layer hears its bias T times at once instead of once each step.
    """

    bias_per_window: ClassVar[bool] = False
    every_step: ClassVar[bool] = True
    """True where one run gives an answer at every t."""

    def start(self, graph: Graph, node: Node, timesteps: int) -> int:
        raise TypeError(f"{type(self).__name__} must define start()")

    def duration(self, node: Node, timesteps: int) -> int:
        return timesteps

    def total_steps(self, graph: Graph, timesteps: int) -> int:
        """The step at which the answer is ready."""
        return self.start(graph, graph.output, timesteps) + self.duration(graph.output, timesteps)

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """The numbers of time steps for which an evaluation up to ``timesteps`` gives an answer."""
        return tuple(range(1, timesteps + 1))


def depth(graph: Graph, name: str) -> int:
    """The largest number of neurons on a path from the input to the node's inputs."""
    depths: dict[str, int] = {}
    for node in graph:
        before = max((depths[source] for source in node.inputs), default=0)
        if node.name == name:
            return before
        depths[node.name] = before + isinstance(node.op, Neuron)
    raise SettingError(f"no layer is called {name!r}")


def check_timesteps(timesteps: int) -> int:
    """A positive whole number of steps, or a SettingError."""
    if isinstance(timesteps, bool) or not isinstance(timesteps, int) or timesteps < 1:
        raise SettingError(f"timesteps must be a whole number of at least 1, not {timesteps!r}")
    return timesteps
