"""Classification: one class per sample."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.task import OutcomeTask
from transpike.tasks._base import check_logits, class_numbers


@dataclass(frozen=True)
class Classification(OutcomeTask):
    """Logits (..., samples, classes), targets (samples,): correct if the target has the largest logit.

    If logits are equal, the first counts as the largest.
    """

    name: ClassVar[str] = "classification"

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        check_logits(shape, self)
        return class_numbers(target, samples, shape[0], where)

    def chance(self, shape: tuple[int, ...]) -> float | None:
        return 1 / shape[0]

    def answers(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        return self.answers(output) == target

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.outcomes(output, reference.argmax(-1))
