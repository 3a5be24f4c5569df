"""How far a comparison is: the samples that all of its units have evaluated."""

from collections.abc import Callable

Progress = Callable[[int, int | None], None] | None
"""Is called with the number of samples that are done and that of all."""


class Samples:
    """Counts samples over ``units`` conversions with ``samples`` each, wherever they run.

    A unit that has ended counts as a whole, also one that was refused; one that runs again after its worker was lost
    keeps its count, so that ``progress`` never goes back.
    """

    def __init__(self, progress: Progress, units: int, samples: int) -> None:
        self.progress, self.samples, self.total = progress, samples, units * samples
        self.done: dict[int, int] = {}
        self.shown = -1

    def ended(self, *units: int) -> None:
        """Units that have their results."""
        self.done |= dict.fromkeys(units, self.samples)
        self._show()

    def told(self, unit: int, samples: int) -> None:
        """The number of samples that a unit has evaluated until now."""
        self.done[unit] = max(self.done.get(unit, 0), min(samples, self.samples))
        self._show()

    def _show(self) -> None:
        done = sum(self.done.values())
        if self.progress is not None and done > self.shown:
            self.shown = done
            self.progress(done, self.total)
