"""A layer hears a whole window before it fires."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.graph import Graph, Node
from transpike.core.schedule import Schedule, depth


@dataclass(frozen=True)
class LayerSynchronous(Schedule):
    """Layer n listens in window n and fires in window n+1: counts are a staircase of the charge, one pass a window.

    ``total_steps = (neurons on the longest path + 1) · T``. No unevenness error; what the authors of ECC compute
    (SpKeras). Windows are pipelined: the next sample may follow after T steps.
    """

    bias_per_window: ClassVar[bool] = True
    every_step: ClassVar[bool] = False

    def start(self, graph: Graph, node: Node, timesteps: int) -> int:
        return depth(graph, node.name) * timesteps

    def answers(self, timesteps: int) -> tuple[int, ...]:
        """Powers of two, and ``timesteps`` itself."""
        return tuple(sorted({2**k for k in range(timesteps.bit_length()) if 2**k <= timesteps} | {timesteps}))
