"""Contract of tasks: what a good answer of a network is."""

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.marks import Marks, as_picture
from transpike.core.spelling import NamedSettings
from transpike.errors import SettingError
from transpike.results.statistics import paired_difference, percentiles, resampled, wilson

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Metric:
    """A number that a task measures: its name, its unit ("" for none) and which direction is better.

    ``share``: a fraction in [0, 1], which is shown in percent.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = False
    share: bool = False

    @property
    def word(self) -> str:
        """The name as one word for selections: "mean IoU" is mean-iou, "R²" is r2."""
        return re.sub("[^a-z0-9]+", "-", unicodedata.normalize("NFKD", self.name).lower()).strip("-")

    def rank(self, value: float | None) -> float:
        """A number that is larger for a better value; that of an undefined value is the smallest."""
        if value is None or math.isnan(value):
            return -math.inf
        return value if self.higher_is_better else -value

    def unranked(self, rank: float) -> float:
        """The value of a ``rank``."""
        return rank if self.higher_is_better else -rank

    def text(self, value: float | None) -> str:
        """A value with its unit; a share in percent."""
        if value is None:
            return "not defined"
        return f"{value:.2%}" if self.share else f"{value:.4g} {self.unit}".rstrip()

    def shown(self, value: float) -> float:
        """A value, or a difference of values, as it is shown: a share in percent."""
        return 100 * value if self.share else value

    def shown_or_none(self, value: float | None) -> float | None:
        """``shown``, of a value that may be undefined."""
        return None if value is None else self.shown(value)

    @property
    def title(self) -> str:
        """The name at the beginning of a title or a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def axis_label(self) -> str:
        """The name with the unit in which values are drawn."""
        unit = "%" if self.share else self.unit
        return f"{self.name} in {unit}" if unit else self.name

    @property
    def change_unit(self) -> str:
        """The unit of a difference."""
        return "points" if self.share else self.unit


ACCURACY = Metric("accuracy", higher_is_better=True, share=True)
FAULT = 4.0
"""A fault costs this many times the ``room``: of an accuracy two percentage points."""


@dataclass(frozen=True)
class Task(NamedSettings, ABC):
    """The task of a network: which targets are valid, and what a good answer is.

    Frozen settings and a ``name``. A task is an ``OutcomeTask``, whose answers are correct or wrong, or a
    ``MeasuredTask``, whose answers have an error or another real score.
    """

    name: ClassVar[str]
    needs_targets: ClassVar[bool] = True
    """False: answers are compared with those of the source network."""
    class_axis: ClassVar[int | None] = None
    """The axis of outputs (samples, *shape) that holds classes, if it is not axis 1."""

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in vars(self).items() if value is not None)
        return f"{self.name}({settings})" if settings else self.name

    @abstractmethod
    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        """The targets of ``samples`` samples in the form that the task takes; ``where`` names them in errors.

        ``shape`` is that of one sample's output. Raises DataError for an output or targets that do not fit the task.
        """

    @property
    @abstractmethod
    def first(self) -> Metric:
        """The metric for verdicts, selections and comparisons."""

    @abstractmethod
    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Data that ``value`` needs of each sample, (samples, …), from outputs (samples, *shape) and targets."""

    @abstractmethod
    def value(self, rows: Tensor) -> float | None:
        """The first metric of these samples; None where it is not defined."""

    @abstractmethod
    def interval(self, rows: Tensor) -> Bounds:
        """The 95 % interval of ``value``."""

    @abstractmethod
    def gain(self, rows: Tensor, other: Tensor) -> tuple[float | None, float | None, float | None]:
        """How much better the first metric of ``rows`` is than that of ``other``, of the same samples.

        With its paired 95 % interval; positive is better, whatever the direction of the metric.
        """

    @abstractmethod
    def room(self, value: float) -> float:
        """How much worse than ``value`` the first metric may be for an answer to count as equally good."""

    @property
    @abstractmethod
    def room_in_words(self) -> str:
        """``room`` as text, for reports."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of fine-tuning, a scalar, of outputs (samples, *shape) and checked targets.

        Raises SettingError for a task without a loss.
        """
        raise SettingError(
            f"{self} has no loss to train with: fine-tune for a task that has one, like Regression, or define "
            "loss(output, target) in the class of the task"
        )

    def marks(self, answer: Tensor, size: tuple[int, int]) -> Marks | None:
        """The marks of ``answer``, the output (*shape) for one image of ``size`` (height, width), in that image.

        None, the default: answers of this task are not drawn. Otherwise reports show the first pictures with the marks
        of the source network and of the spiking network at several time steps. The answer alone decides.
        """
        return None

    def target_marks(self, target: Tensor, size: tuple[int, int]) -> Marks | None:
        """The marks of the checked ``target`` of one sample; None: it is not drawn."""
        return None

    def picture(self, sample: Tensor) -> Tensor | None:
        """The picture (1 or 3 channels, height, width) in which ``marks`` are drawn, of one input; None: not a picture.

        Colours are red, green and blue; reports stretch values that do not lie in 0 to 1.
        """
        return as_picture(sample)


@dataclass(frozen=True)
class OutcomeTask(Task):
    """A task whose answers are correct or wrong, and when two answers agree.

    Outputs are (..., samples, *shape); leading axes are answers at several time steps. Results per sample are
    (..., samples). Evaluation, comparison, cost, explanation and early exits use the task.
    """

    has_classes: ClassVar[bool] = True
    """Whether an answer is one of several classes, which the scores of early exits compare."""

    @property
    def first(self) -> Metric:
        return ACCURACY

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        return self.outcomes(output, target)

    def value(self, rows: Tensor) -> float | None:
        return int(rows.sum()) / len(rows)

    def interval(self, rows: Tensor) -> Bounds:
        return wilson(int(rows.sum()), len(rows))

    def gain(self, rows: Tensor, other: Tensor) -> tuple[float | None, float | None, float | None]:
        return paired_difference(rows, other)

    def room(self, value: float) -> float:
        return 0.005

    @property
    def room_in_words(self) -> str:
        return "half a point"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits (samples, classes) and class indices, where answers are classes."""
        return F.cross_entropy(output, target) if self.has_classes else super().loss(output, target)

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
class MeasuredTask(Task):
    """A task whose answers have real scores: metrics of sums over samples.

    The sums make metrics that are not means of samples, like the mean IoU, independent of the batch size, and give
    every metric an interval by resampling of the samples.
    """

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

    def from_rows(self, rows: Tensor) -> Tensor:
        """(…, metrics) of the statistics of samples, (samples, …, k)."""
        return self.values(rows.sum(0))

    def draws(self, rows: Tensor) -> Tensor | None:
        """(resamples, …, metrics) of resampled samples, for intervals; None: the task has no intervals."""
        return resampled(rows, self.values)

    @property
    def first(self) -> Metric:
        return self.metrics[0]

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        return self.statistics(output, target)

    def value(self, rows: Tensor) -> float | None:
        return finite(float(self.from_rows(rows)[0]))

    def interval(self, rows: Tensor) -> Bounds:
        drawn = self.draws(rows) if len(rows) > 1 else None
        return (None, None) if drawn is None else _bounds(drawn[:, 0])

    def gain(self, rows: Tensor, other: Tensor) -> tuple[float | None, float | None, float | None]:
        sign = 1 if self.first.higher_is_better else -1
        both = torch.stack([rows, other], 1)
        first, second = self.from_rows(both)[:, 0].tolist()
        drawn = self.draws(both) if len(rows) > 1 else None
        bounds = (None, None) if drawn is None else _bounds(sign * (drawn[:, 0, 0] - drawn[:, 1, 0]))
        return (finite(sign * (first - second)), *bounds)

    def room(self, value: float) -> float:
        return 0.05 * abs(value)

    @property
    def room_in_words(self) -> str:
        return "5 %"


AnyTask = Task | Callable[[Tensor, Tensor], Tensor]
"""The type of ``task`` arguments: a function of (answer, target) counts as the task of its mean."""


def finite(value: float) -> float | None:
    """None for a metric that is not defined, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def _bounds(drawn: Tensor) -> Bounds:
    low, high = percentiles(drawn).tolist()
    return finite(low), finite(high)
