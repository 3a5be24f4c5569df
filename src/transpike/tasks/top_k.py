"""Top-k classification."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.task import OutcomeTask
from transpike.tasks._base import check_logits, class_numbers


@dataclass(frozen=True)
class TopK(OutcomeTask):
    """Logits (..., samples, classes), targets (samples,): correct if fewer than k classes rank before the target.

    Classes rank by their logit, and equal logits by class index, so ``TopK(1)`` is ``Classification``. An output
    agrees with a reference if the first class of the reference is among the k first classes of the output.
    """

    name: ClassVar[str] = "top-k"
    k: int = setting(5, "Number of classes that count as correct.", low=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        check_logits(shape, self, self.k + 1)
        return class_numbers(target, samples, shape[0], where)

    def chance(self, shape: tuple[int, ...]) -> float | None:
        return self.k / shape[0]

    def answers(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        index = target.expand(output.shape[:-1])[..., None]
        own = output.gather(-1, index)
        lower = torch.arange(output.shape[-1], device=output.device) < index
        before = (output > own) | ((output == own) & lower)
        return before.sum(-1) < self.k

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.outcomes(output, reference.argmax(-1))
