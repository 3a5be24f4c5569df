"""The contract of executors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from transpike.core.spelling import NamedSettings
from transpike.core.task import Task
from transpike.workflow.compare.units import Unit, Work

DEATH = "its process died (out of memory, or killed)"
Told = Callable[[int, int], None]
"""Is called with the index of a unit and the number of samples that it has evaluated so far."""


def untold(index: int, samples: int) -> None:
    """Nobody asks how far a unit is."""


@dataclass(frozen=True)
class Finished:
    """The unit ``index``: its results, or the ``reason`` of a failure; ``remark`` about the run, for the table."""

    index: int
    content: dict[str, Any] | None = None
    reason: str = ""
    remark: str = ""


class Executor(NamedSettings, ABC):
    """Runs the units of a comparison somewhere; frozen settings and a ``name``.

    Results do not depend on the executor: every unit is ``measure`` with one thread, on the same inputs.
    """

    name: ClassVar[str]

    def check(self, task: Task | None) -> None:
        """Raise, before any work, where units could not run: a service that does not answer, a missing package."""

    @abstractmethod
    def run(self, work: Work, units: Sequence[Unit], inputs: Path, told: Told = untold) -> Iterator[Finished]:
        """Each unit once, in the order in which they end; ``inputs`` is the file with network and data.

        ``told`` may be called at any time with what units have evaluated, by the process that iterates.
        Closing the iterator cancels what runs. Raises FileError for damaged inputs, SettingError where no unit can run.
        """


def reason_of(error: BaseException) -> str:
    """The failure of a unit in one line."""
    return f"{type(error).__name__}: {error}"
