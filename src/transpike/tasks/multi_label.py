"""Several labels per sample, each present or not."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.task import OutcomeTask
from transpike.errors import DataError
from transpike.tasks._base import returned, zeros_and_ones


@dataclass(frozen=True)
class MultiLabel(OutcomeTask):
    """Logits (..., samples, labels): a label is in the answer if its logit exceeds ``threshold``.

    Correct is a sample of which every label is answered correctly (exact match, or subset accuracy). Targets are
    (samples, labels), 0 or 1, of any type.
    """

    name: ClassVar[str] = "multi-label"
    has_classes: ClassVar[bool] = False
    threshold: float = setting(0.0, "Logit threshold above which a label is predicted.")

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if len(shape) != 1:
            raise DataError(f"{self} needs logits (batch, labels), but the network returns {returned(shape)}")
        y = zeros_and_ones(target)
        if y.shape != (samples, *shape) or y.is_floating_point() or not bool(((y == 0) | (y == 1)).all()):
            raise DataError(
                f"the targets of {where} are {str(target.dtype).removeprefix('torch.')} of shape "
                f"{tuple(target.shape)}, but {self} needs 0 or 1 for each of the {shape[0]} labels of {samples} samples"
            )
        return y.bool()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over labels."""
        return F.binary_cross_entropy_with_logits(output, target.to(output.dtype))

    def answers(self, output: Tensor) -> Tensor:
        return output > self.threshold

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.eq(self.answers(output), target).all(-1)

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.outcomes(output, self.answers(reference))
