"""How close the answers are to those of the source network, for every task and without targets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.task import finite
from transpike.tasks import Fidelity


@dataclass(frozen=True)
class Closeness:
    """The answers after ``timesteps`` steps, compared with those of the source network (``transpike.tasks.Fidelity``).

    ``largest_difference``: of any output, in its units. None: not defined, as a relative error where the source
    network answers 0, or the agreement of the largest output where there is only one.
    """

    timesteps: int
    relative_error: float | None
    cosine: float | None
    largest_difference: float
    argmax_agreement: float | None


class FidelityTally:
    """Adds up batches of answers by their number of steps."""

    def __init__(self, class_axis: int | None = None) -> None:
        self.task = Fidelity(class_axis)
        self.sums: dict[int, Tensor] = {}
        self.largest: dict[int, float] = {}

    def add(self, timesteps: int, answer: Tensor, reference: Tensor) -> None:
        """``answer`` and ``reference`` (batch, *shape): the outputs of both networks."""
        found = self.task.statistics(answer, reference).sum(0).cpu()
        self.sums[timesteps] = self.sums.get(timesteps, torch.zeros_like(found)) + found
        most = float((answer.double() - reference.double()).abs().max()) if answer.numel() else 0.0
        self.largest[timesteps] = max(self.largest.get(timesteps, 0.0), most)

    def merge(self, part: "FidelityTally") -> None:
        """Add the tally of the next batch."""
        for t, found in part.sums.items():
            self.sums[t] = self.sums.get(t, torch.zeros_like(found)) + found
            self.largest[t] = max(self.largest.get(t, 0.0), part.largest[t])

    def state(self) -> tuple[tuple[int, Tensor, float], ...]:
        """What was added, by number of steps."""
        return tuple((t, found, self.largest[t]) for t, found in self.sums.items())

    def restore(self, state: tuple[tuple[int, Tensor, float], ...]) -> None:
        """Take what ``state`` gave."""
        self.sums = {t: found for t, found, _ in state}
        self.largest = {t: most for t, _, most in state}

    def found(self, timesteps: int) -> Closeness:
        error, cosine, agreement = map(finite, self.task.values(self.sums[timesteps]).tolist())
        return Closeness(timesteps, error, cosine, self.largest[timesteps], agreement)
