"""What the batches of a cost without a task add up to."""

from typing import Any

from transpike.core.activity import Activity
from transpike.core.input_check import InputCheck, InputChecks


class Looked:
    """The inputs of a run, for the warnings about them."""

    def __init__(self, inputs: InputCheck | InputChecks) -> None:
        self.inputs = inputs

    def merge(self, seen: list[Any]) -> None:
        """``seen``: what was observed of the next batch."""
        self.inputs.count(seen)

    def state(self) -> tuple[Any, ...]:
        """What was counted, as plain data."""
        return self.inputs.state()

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take what ``state`` gave."""
        self.inputs.restore(state)


class Ran:
    """The activity of all batches; None before the first."""

    total: Activity | None = None

    def merge(self, found: Activity) -> None:
        """Add that of the next batch."""
        self.total = found if self.total is None else self.total + found

    def state(self) -> Activity | None:
        """The activity so far."""
        return self.total

    def restore(self, state: Activity) -> None:
        """Take what ``state`` gave."""
        self.total = state
