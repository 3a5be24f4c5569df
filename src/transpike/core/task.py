"""Contract of tasks: what a good answer of a network is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.spelling import NamedSettings


@dataclass(frozen=True)
class Task(NamedSettings, ABC):
    """The task of a network: which targets are valid, and what a good answer is.

    Frozen settings and a ``name``. A task is an ``OutcomeTask``, whose answers are correct or wrong, or a
    ``MeasuredTask``, whose answers have an error or another real score.
    """

    name: ClassVar[str]

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in vars(self).items() if value is not None)
        return f"{self.name}({settings})" if settings else self.name

    @abstractmethod
    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        """The targets of ``samples`` samples in the form that the task takes; ``where`` names them in errors.

        ``shape`` is that of one sample's output. Raises DataError for an output or targets that do not fit the task.
        """


@dataclass(frozen=True)
class OutcomeTask(Task):
    """A task whose answers are correct or wrong, and when two answers agree.

    Outputs are (..., samples, *shape); leading axes are answers at several time steps. Results per sample are
    (..., samples). Evaluation, comparison, cost, explanation and early exits use the task.
    """

    has_classes: ClassVar[bool] = True
    """Whether an answer is one of several classes, which the scores of early exits compare."""

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


@dataclass(frozen=True)
class Metric:
    """A number that a task measures: its name, its unit ("" for none) and which direction is better.

    ``share``: a fraction in [0, 1], which is shown in percent.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = False
    share: bool = False


@dataclass(frozen=True)
class MeasuredTask(Task):
    """A task whose answers have real scores: metrics of sums over samples.

    The sums make metrics that are no means of samples, like the mean IoU, independent of the batch size, and give
    every metric an interval by resampling of the samples.
    """

    needs_targets: ClassVar[bool] = True
    """False: answers are compared with those of the source network."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, the first one for verdicts."""

    @abstractmethod
    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """(samples, k) float64 of outputs (samples, *shape), to be summed over samples; ``target`` as from ``check``.

        Of a task without targets, ``target`` is the output of the source network.
        """

    @abstractmethod
    def values(self, sums: Tensor) -> Tensor:
        """(..., metrics) of sums (..., k) over samples; NaN where a metric is not defined."""

    def room(self, value: float) -> float:
        """How much worse than ``value`` the first metric may be for an answer to count as equally good."""
        return 0.05 * abs(value)

    @property
    def room_in_words(self) -> str:
        """``room`` as text, for reports."""
        return "5 %"
