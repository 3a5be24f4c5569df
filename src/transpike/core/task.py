"""Contract of tasks: which answers of a network are correct."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.spelling import NamedSettings


@dataclass(frozen=True)
class Task(NamedSettings, ABC):
    """The task of a network: which targets are valid, which answers are correct, and when two answers agree.

    Frozen settings and a ``name``. Outputs are (..., samples, *shape); leading axes are answers at several time steps.
    Results per sample are (..., samples). Evaluation, comparison, explanation and early exits use the task.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    """False if the metric is an error."""

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in vars(self).items())
        return f"{self.name}({settings})" if settings else self.name

    @abstractmethod
    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        """The targets of ``samples`` samples in the form that ``outcomes`` takes; ``where`` names them in errors.

        ``shape`` is that of one sample's output. Raises DataError for an output or targets that do not fit the task.
        """

    def chance(self, shape: tuple[int, ...]) -> float | None:
        """The expected share of correct answers of random outputs of this shape, that of one sample; None: unknown."""
        return None

    @abstractmethod
    def answers(self, output: Tensor) -> Tensor:
        """The answers of the network, (..., samples, *answer)."""

    @abstractmethod
    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        """(..., samples) bool: True for samples answered correctly. ``target`` has the form that ``check`` returns."""

    @abstractmethod
    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        """(..., samples) bool: True if the answer of ``output`` equals that of ``reference``, another network's."""
