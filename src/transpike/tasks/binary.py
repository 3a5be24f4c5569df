"""Two classes from one logit."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from transpike.core.task import OutcomeTask
from transpike.errors import DataError
from transpike.tasks._base import class_numbers, returned, zeros_and_ones


@dataclass(frozen=True)
class Binary(OutcomeTask):
    """One logit, outputs (..., samples, 1): class 1 if it is positive, else class 0.

    Targets are (samples,) or (samples, 1): class indices 0 and 1, bool, or real numbers that are 0 or 1.
    """

    name: ClassVar[str] = "binary"

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if shape != (1,):
            raise DataError(f"{self} needs one logit, (batch, 1), but the network returns {returned(shape)}")
        return class_numbers(zeros_and_ones(target), samples, 2, where)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy of the logit."""
        return F.binary_cross_entropy_with_logits(output[:, 0], target.to(output.dtype))

    def chance(self, shape: tuple[int, ...]) -> float | None:
        return 0.5

    def answers(self, output: Tensor) -> Tensor:
        return (output[..., 0] > 0).long()

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        return self.answers(output) == target

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.answers(output) == self.answers(reference)
