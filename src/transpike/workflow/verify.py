"""Whether the fast engines send the spikes of the reference engine, in every layer and step."""

from dataclasses import dataclass
from typing import Any

from transpike.core.constraints import check_number
from transpike.engines import event_status
from transpike.errors import GateFailed
from transpike.lowering.trace import Trace
from transpike.snn import SNN, takes_snn
from transpike.workflow.simulate import simulate

MOST_STEPS = 32
"""Time steps that are compared unless a number is given; spikes of every layer and step are kept."""
REFERENCE = "reference"


@dataclass(frozen=True)
class LayerCheck:
    """One layer: the sum of the absolute levels that it sends, and by engine how many of its values differ."""

    name: str
    levels: float
    differing: dict[str, int]


@dataclass(frozen=True)
class Verification:
    """The comparison of ``engines`` with the reference over ``samples`` and ``timesteps``.

    ``exact``: the run is on the exact grid, where nothing may differ; else ``why`` not. ``largest_difference``: of the
    logits, by engine.
    """

    samples: int
    timesteps: int
    engines: tuple[str, ...]
    exact: bool
    why: str
    layers: tuple[LayerCheck, ...]
    largest_difference: dict[str, float]

    @property
    def different(self) -> tuple[str, ...]:
        """The layers in which an engine differs."""
        return tuple(layer.name for layer in self.layers if any(layer.differing.values()))

    @property
    def agrees(self) -> bool:
        """True if every spike and every logit is that of the reference engine."""
        return not self.different and not any(self.largest_difference.values())

    def check(self) -> None:
        """Raises GateFailed where engines differ although the run is on the exact grid."""
        if self.exact and not self.agrees:
            raise GateFailed(
                f"engines differ in {', '.join(self.different or ['the answer'])} although the run is on the exact grid"
            )

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only."""
        return {
            "samples": self.samples,
            "timesteps": self.timesteps,
            "engines": [REFERENCE, *self.engines],
            "exact": self.exact,
            "layers_that_differ": list(self.different),
            "largest_difference_of_logits": self.largest_difference,
        }

    def __str__(self) -> str:
        equal = len(self.layers) - len(self.different)
        text = (
            f"{equal} of {len(self.layers)} layers equal, for every neuron and time step, between "
            f"{', '.join([REFERENCE, *self.engines])} over {self.samples} samples, T={self.timesteps}"
        )
        return text if self.exact else f"{text}\nnot exact, so engines may differ: {self.why}"


@takes_snn
def verify(snn: SNN, samples: Any, timesteps: int | None = None) -> Verification:
    """Simulate ``samples`` on every engine that runs ``snn`` on this machine, and compare every spike and logit.

    ``samples``: inputs (batch, *shape) as in a call of the network; four are enough, because spikes of all layers are
    kept. ``timesteps``: by default those of the recipe, at most 32. Nothing is raised for a difference:
    ``Verification.check()`` raises GateFailed.

    Raises SettingError for time steps without an answer, DataError for inputs that do not fit.
    """
    if timesteps is not None:
        check_number("timesteps", timesteps, whole=True, low=1)
    steps = timesteps or min(snn.timesteps, MOST_STEPS)
    engines = ("dense", "event") if snn.schedule.mode == "steps" and event_status()[0] else ("dense",)
    cells = [node.name for node in snn.graph.cells]
    reference = simulate(snn, samples, steps, engine=REFERENCE, record=cells)
    traces = {name: simulate(snn, samples, steps, engine=name, record=cells) for name in engines}
    layers = tuple(
        LayerCheck(
            cell,
            float(reference.trains[cell].abs().sum()),
            {name: _differing(reference, trace, cell) for name, trace in traces.items()},
        )
        for cell in cells
    )
    inexact = [trace.why for trace in traces.values() if not trace.exact]
    return Verification(
        reference.logits.shape[1],
        steps,
        engines,
        not inexact,
        inexact[0] if inexact else "",
        layers,
        {name: float((trace.logits - reference.logits).abs().max()) for name, trace in traces.items()},
    )


def _differing(reference: Trace, other: Trace, cell: str) -> int:
    """Number of different values in a layer's train."""
    first, second = reference.trains[cell].double(), other.trains[cell].double()
    if len(first) != len(second):  # slots and one pass: a neuron fires once, and its level gives the slot
        first, second = first.sum(0), second.sum(0)
    return int((first != second).sum())
