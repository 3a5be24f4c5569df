"""A measured task: classes of different frequency count alike."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

import transpike as ts
from transpike.core.task import MeasuredTask, Metric
from transpike.tasks import Classification


@ts.register
@dataclass(frozen=True)
class Balanced(MeasuredTask):
    """Logits (samples, classes): with the recall ``r_c`` of class c, the mean and the smallest r over its classes.

    They are not means over samples, but functions of sums over samples, which ``statistics`` gives; classes that occur
    in no target have no recall.
    """

    name: ClassVar[str] = "balanced"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("balanced accuracy", higher_is_better=True, share=True),
            Metric("smallest recall", higher_is_better=True, share=True),
        )

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        return Classification().check(shape, samples, target, where)

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """For each class, whether it is the target, and whether it is also the answer."""
        wanted = F.one_hot(target, output.shape[1]).double()
        right = (output.argmax(1) == target).double()
        return torch.cat([wanted * right[:, None], wanted], 1)

    def values(self, sums: Tensor) -> Tensor:
        right, wanted = sums.unflatten(-1, (2, -1)).unbind(-2)
        recall = right / wanted  # NaN of classes without a target
        smallest = recall.nan_to_num(torch.inf).amin(-1)
        return torch.stack([recall.nanmean(-1), torch.where(smallest.isinf(), torch.nan, smallest)], -1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, for fine-tuning."""
        return F.cross_entropy(output, target)
