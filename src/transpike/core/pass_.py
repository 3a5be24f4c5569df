"""One stage of a conversion."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, Node
from transpike.core.renamed import CurrentSettings
from transpike.core.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Context:
    """What a step may look at: the source network, calibration batches (after preprocessing), settings.

    ``encoder`` and ``schedule`` say how the network will run: steps that must see spikes simulate with ``sequential``.
    """

    source: Graph
    batches: tuple[Tensor, ...]
    timesteps: int
    seed: int = 0
    encoder: Encoder = field(default_factory=Encoder)
    schedule: Schedule = field(default_factory=Schedule)
    recorded: Tensor | None = None
    """The first calibration inputs with all their frames, (samples, frames, *shape), where inputs have frames."""
    remarks: list[str] | None = None
    ranges: dict[str, Tensor] = field(default_factory=dict)
    """What a step measured: the largest |current| of each neuron layer, one value a channel, with size 1 on its
    other axes."""
    analogue: list[Graph] = field(default_factory=list)
    """The graph as it was before its activations became neurons, whose names it shares; empty before that."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Called by a step that takes long, with how many of its parts are done."""

    def remark(self, text: str) -> None:
        """Leave a line for the reports: something the user should know and need not act on."""
        if self.remarks is not None and text not in self.remarks:
            self.remarks.append(text)

    def first(self, samples: int) -> tuple[Tensor, ...]:
        """The first so many calibration samples, in the batches that they come in."""
        taken, found = 0, []
        for batch in self.batches:
            if taken < samples:
                found.append(batch[: samples - taken])
                taken += len(found[-1])
        return tuple(found)

    def observe(self, graph: Graph, see: Callable[[Node, tuple[Tensor, ...], Tensor], None]) -> None:
        """Run the calibration batches through a graph of ops and show every layer's inputs and output to ``see``."""
        for done, batch in enumerate(self.batches, 1):
            graph.run(batch, observe=see)
            self.progress(done, len(self.batches))


@dataclass(frozen=True)
class Pass(CurrentSettings):
    """Graph in, Graph out; frozen settings, nothing remembered.

    ``exact = True`` promises the same function: convert() checks the promise on calibration data every time.
    """

    exact: ClassVar[bool] = False
    asks: ClassVar[str] = ""
    """What it asks of calibration data: "activations", "spikes", "spikes of each input", "" for nothing."""
    sets_thresholds: ClassVar[bool] = False
    """True where it says what the thresholds are; other steps change what is there."""

    def describe(self) -> str:
        """What it does with these settings, in a few words for tables of methods; "" where it goes without saying."""
        return ""

    def apply(self, graph: Graph, context: Context) -> Graph:
        raise TypeError(f"{type(self).__name__} must define apply()")
