"""What a good answer is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Task(ABC):
    """What a network is asked for: which targets fit, which answers are right, and when two answers agree.

    Frozen settings and a ``name``. Outputs are (..., samples, *shape), the leading axes being answers of other time
    steps; what is given of each sample is (..., samples). Everything that evaluates, compares, explains or stops early
    asks the task.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    """Which way the metric goes: for an error it is False."""

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in vars(self).items())
        return f"{self.name}({settings})" if settings else self.name

    @abstractmethod
    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        """The targets of ``samples`` samples in the form that ``outcomes`` takes; ``where`` names them in errors.

        ``shape`` is that of one sample's output. Raises DataError for an output or targets that do not fit the task.
        """

    @abstractmethod
    def answers(self, output: Tensor) -> Tensor:
        """What the network answers, (..., samples, *answer)."""

    @abstractmethod
    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        """(..., samples) bool: which samples are answered right. ``target`` is as ``check`` gives it."""

    @abstractmethod
    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        """(..., samples) bool: where ``output`` answers what the ``reference``, another network's output, answers."""
