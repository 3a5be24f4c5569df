"""Contract of passes: one stage of a conversion."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, Node
from transpike.core.renamed import CurrentSettings
from transpike.core.schedule import Schedule

OBSERVED = 2**20
"""Values of the largest wire that are computed together."""
STEP = 0.25
"""About how much of a forward pass a time step takes."""


@dataclass(frozen=True)
class Watch:
    """A statistic of the layers of the source network, from calibration data that are run in parts.

    ``read(node, inputs, output)`` is what a part says about a layer, or None; several processes read different parts.
    ``add(name, found)`` receives what was read, part by part in their order; ``result()`` is node → statistic.
    """

    read: Callable[[Node, tuple[Tensor, ...], Tensor], Any]
    add: Callable[[str, Any], None]
    result: Callable[[], dict[str, Tensor]]


def one_by_one(run: Callable[[Tensor], Any], parts: Sequence[Tensor]) -> Iterator[Any]:
    """``run`` of each part."""
    return map(run, parts)


@dataclass(frozen=True, eq=False)
class Context:
    """The inputs of a pass besides the graph: source network, calibration batches (after preprocessing), settings.

    ``encoder`` and ``schedule`` are those of the converted network; passes that need spikes simulate it with
    ``lowering.layerwise.sequential``.
    """

    source: Graph
    batches: tuple[Tensor, ...]
    timesteps: int
    seed: int = 0
    encoder: Encoder = field(default_factory=Encoder)
    schedule: Schedule = field(default_factory=Schedule)
    recorded: Tensor | None = None
    """The first calibration inputs with all their frames, (samples, frames, *shape), if inputs have frames."""
    remarks: list[str] | None = None
    ranges: dict[str, Tensor] = field(default_factory=dict)
    """Measured by a pass: the largest |current| of each neuron layer, one value per channel, with size 1 on the other
    axes."""
    analogue: list[Graph] = field(default_factory=list)
    """The graph before its activations became neurons, with the same names; empty before that."""
    activations: list[dict[int, dict[str, Tensor]]] = field(default_factory=list)
    """Number of the first samples → layer → its activations in ``analogue``: what passes keep for each other, and for
    other conversions; empty as ``analogue`` is."""
    shared: dict[Any, Any] = field(default_factory=dict)
    """Results that conversions of the same graph and data with other settings may reuse (``compare``)."""
    kernels: Callable[..., Any] | None = None
    """Compiles layers that are simulated one by one (``engines.event.one_layer.compiled``); None for PyTorch alone."""
    progress: Callable[[float, float], None] = lambda done, total: None
    """Called by slow passes with (work done, all work), in any unit."""
    each: Callable[[Callable[[Tensor], Any], Sequence[Tensor]], Iterator[Any]] = one_by_one
    """The results of a function of each part, in their order; several processes share the parts."""
    checkpoint: Path | None = None
    """The file that a training pass writes repeatedly, and from which it resumes; None for no file."""
    writes: bool = True
    """Whether this process writes the checkpoint: of several processes only the first one does, and all read it."""

    @property
    def samples(self) -> int:
        """The number of calibration samples."""
        return sum(map(len, self.batches))

    def divided(self, *work: float) -> "tuple[Context, ...]":
        """A context for each part of a pass, in the order in which they come, whose progress is that of all parts.

        ``work``: that of each part, in any unit.
        """
        found, before, total = list[Context](), 0.0, sum(work) or 1.0
        for part in work:

            def progress(done: float, all_: float, before: float = before, part: float = part) -> None:
                self.progress(before + part * done / all_, total)

            found.append(dataclasses.replace(self, progress=progress))
            before += part
        return tuple(found)

    def remark(self, text: str) -> None:
        """Add a note to the reports: information for the user that needs no action."""
        if self.remarks is not None and text not in self.remarks:
            self.remarks.append(text)

    def first(self, samples: int) -> tuple[Tensor, ...]:
        """The first ``samples`` calibration samples, in their batches."""
        taken, found = 0, []
        for batch in self.batches:
            if taken < samples:
                found.append(batch[: samples - taken])
                taken += len(found[-1])
        return tuple(found)

    def measure(self, graph: Graph, *watches: Watch) -> None:
        """Run the calibration data through a graph of ops; each watch reads the layers that depend on the data."""

        def run(part: Tensor) -> list[tuple[int, str, Any]]:
            found: list[tuple[int, str, Any]] = []

            def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                if node.name in graph.static:
                    return  # a mask, which may hold −inf
                for place, watch in enumerate(watches):
                    if (read := watch.read(node, inputs, output)) is not None:
                        found.append((place, node.name, read))

            graph.run(part, observe=see)
            return found

        parts, done = self._parts(graph), 0
        for part, found in zip(parts, self.each(run, parts), strict=True):
            for place, name, read in found:
                watches[place].add(name, read)
            self.progress(done := done + len(part), self.samples)

    def _parts(self, graph: Graph) -> list[Tensor]:
        """The calibration data, a few samples at a time, so that the values of a layer stay in the cache."""
        few = max(1, OBSERVED // max(math.prod(node.shape) for node in graph))
        return [part for batch in self.batches for part in batch.split(few)]


@dataclass(frozen=True)
class Pass(CurrentSettings):
    """Graph in, graph out: frozen settings, no state.

    ``exact = True`` declares that the pass does not change the function; convert() checks this on calibration data.
    """

    exact: ClassVar[bool] = False
    asks: ClassVar[str] = ""
    """The calibration it needs: "activations", "spikes", "spikes of each input", or "" for none."""
    sets_thresholds: ClassVar[bool] = False
    """True if it sets the thresholds; other passes only modify them."""

    def work(self, context: Context) -> float:
        """About how long it takes, in forward passes of a sample through the source network; 0 for edits of the graph.

        The progress of a conversion weights its passes by this number.
        """
        if self.asks == "activations":
            return context.samples
        samples = min(getattr(self, "samples", context.samples), context.samples)
        return samples * (1 + 2 * STEP * context.timesteps) if self.asks == "spikes" else 0

    def describe(self) -> str:
        """A short text about the pass with its settings, for tables of methods; "" if it needs no mention."""
        return ""

    def apply(self, graph: Graph, context: Context) -> Graph:
        raise TypeError(f"{type(self).__name__} must define apply()")
