"""Several outputs in an evaluation: the closeness of each."""

from typing import Any

from torch import Tensor

from transpike.workflow.evaluate.fidelity import Closeness, FidelityTally
from transpike.workflow.judged import Judged


class OutputTally:
    """Adds up the closeness of what is judged, and of each of several outputs."""

    def __init__(self, judged: Judged, closeness: FidelityTally) -> None:
        self.judged, self.all = judged, closeness
        names = () if judged.structure is None else judged.structure.names
        self.tallies = {name: FidelityTally() for name in names}

    def add(self, timesteps: int, answer: Tensor, reference: Tensor) -> None:
        """Compare an answer with that of the source network, both with all outputs."""
        self.all.add(timesteps, self.judged.part(answer), self.judged.part(reference))
        if self.judged.structure is not None:
            others = self.judged.structure.named(reference)
            for name, value in self.judged.structure.named(answer).items():
                self.tallies[name].add(timesteps, value, others[name])

    def merge(self, part: "OutputTally") -> None:
        """Add the tally of the next batch."""
        self.all.merge(part.all)
        for name, tally in self.tallies.items():
            tally.merge(part.tallies[name])

    def state(self) -> tuple[Any, dict[str, Any]]:
        """What was added, of all and of each output."""
        return self.all.state(), {name: tally.state() for name, tally in self.tallies.items()}

    def restore(self, state: tuple[Any, dict[str, Any]]) -> None:
        """Take what ``state`` gave."""
        together, each = state
        self.all.restore(together)
        for name, tally in self.tallies.items():
            tally.restore(each[name])

    def found(self, timesteps: tuple[int, ...]) -> dict[str, tuple[Closeness, ...]]:
        """Output → its closeness after each number of steps."""
        return {name: tuple(map(tally.found, timesteps)) for name, tally in self.tallies.items()}
