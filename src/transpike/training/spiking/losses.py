"""Losses of fine-tuning: functions of the output over time, the readout's answer, targets and a teacher.

``currents`` are the output currents of each step, (time, batch, *shape); ``answer`` the readout's answer at the end,
(batch, *shape), for most readouts the mean of the currents; ``labels`` the targets as the task takes them; ``teacher``
the source network's answer, if needed.
"""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.task import Task
from transpike.errors import SettingError
from transpike.tasks import compares_classes


@dataclass(frozen=True)
class Loss:
    """A loss with numbers as settings; ``needs_teacher`` if it uses the source network's answer.

    ``of_classes``: it compares logits of classes, and is refused for tasks without them.
    """

    needs_teacher: ClassVar[bool] = False
    of_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise SettingError(f"{type(self).__name__}: {field.name} must be a number of at least 0, not {value!r}")

    def __call__(self, currents: Tensor, answer: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        """The loss as a scalar, the mean over the batch, for classes in nats."""
        raise TypeError(f"{type(self).__name__} must define __call__()")


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """``CE(answer, y)``, of the mean of the outputs over time."""

    of_classes: ClassVar[bool] = True

    def __call__(self, currents: Tensor, answer: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        return F.cross_entropy(answer, labels)


@dataclass(frozen=True)
class TET(Loss):
    """``(1 − λ) · mean_t CE(o_t, y) + λ · MSE(o_t, φ)``: trains every step, which suits early exits.

    λ = ``regularisation``, φ = ``target``. Source: Deng, Li, Zhang, Gu 2022 (ICLR), temporal efficient training.
    """

    of_classes: ClassVar[bool] = True
    regularisation: float = 1e-3
    target: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regularisation > 1:
            raise SettingError(f"TET: regularisation must be from 0 to 1, not {self.regularisation}")

    def __call__(self, currents: Tensor, answer: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        each = F.cross_entropy(currents.flatten(0, 1), labels.repeat(len(currents)))
        return (1 - self.regularisation) * each + self.regularisation * (currents - self.target).square().mean()


@dataclass(frozen=True)
class Distillation(Loss):
    """``(1 − w) CE(answer, y) + w τ² KL(softmax(teacher/τ) ‖ softmax(answer/τ))``, the source network as teacher.

    w = ``weight``, τ = ``temperature``. Source: Hinton, Vinyals, Dean 2015, section 2.
    """

    needs_teacher: ClassVar[bool] = True
    of_classes: ClassVar[bool] = True
    temperature: float = 2.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight > 1 or not self.temperature:
            raise SettingError(
                f"distillation needs a weight from 0 to 1 and a temperature above 0, not {self.weight} and "
                f"{self.temperature}"
            )

    def __call__(self, currents: Tensor, answer: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        assert teacher is not None
        ours = torch.log_softmax(answer / self.temperature, 1)
        theirs = torch.log_softmax(teacher / self.temperature, 1)
        distance = F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * self.temperature**2
        return (1 - self.weight) * F.cross_entropy(answer, labels) + self.weight * distance


@dataclass(frozen=True)
class OfTask(Loss):
    """``Task.loss`` of the answer, for tasks other than classification."""

    task: Task

    def __post_init__(self) -> None:
        """A task is not a number."""

    def __call__(self, currents: Tensor, answer: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        return self.task.loss(answer, labels)


def loss_for(loss: Loss | None, task: Task) -> Loss:
    """``loss``, by default that of the task. Raises SettingError for a loss of classes where the task has none."""
    classes = compares_classes(task)
    if loss is None:
        return CrossEntropy() if classes else OfTask(task)
    if loss.of_classes and not classes:
        raise SettingError(
            f"{type(loss).__name__} compares the logits of several classes, but the task is {task}: omit loss to use "
            "that of the task, or pass an instance of a custom subclass of Loss"
        )
    return loss


table: dict[str, type[Loss]] = {"ce": CrossEntropy, "distil": Distillation, "tet": TET}
