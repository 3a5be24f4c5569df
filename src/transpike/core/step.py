"""One stage of a conversion."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from transpike.core.graph import Graph, Node


@dataclass(frozen=True, eq=False)
class Context:
    """What a step may look at: the source network, calibration batches (after preprocessing), settings.

    ``simulate(graph, batch)`` runs a half-converted graph; steps that must see spikes call it.
    """

    source: Graph
    batches: tuple[Tensor, ...]
    timesteps: int
    seed: int = 0
    simulate: Callable[[Graph, Tensor], dict[str, Tensor]] | None = None
    remarks: list[str] | None = None
    ranges: dict[str, Tensor] = field(default_factory=dict)
    """What a step measured: the largest |current| of each neuron layer, one value a channel."""

    def remark(self, text: str) -> None:
        """Leave a line for the reports: something the user should know and need not act on."""
        if self.remarks is not None and text not in self.remarks:
            self.remarks.append(text)

    def observe(self, graph: Graph, see: Callable[[Node, tuple[Tensor, ...], Tensor], None]) -> None:
        """Run the calibration batches through a graph of ops and show every layer's inputs and output to ``see``."""
        for batch in self.batches:
            graph.run(batch, observe=see)


@dataclass(frozen=True)
class Step:
    """Graph in, Graph out; frozen settings, nothing remembered.

    ``exact = True`` promises the same function: convert() checks the promise on calibration data every time.
    """

    exact: ClassVar[bool] = False

    def apply(self, graph: Graph, context: Context) -> Graph:
        raise TypeError(f"{type(self).__name__} must define apply()")
