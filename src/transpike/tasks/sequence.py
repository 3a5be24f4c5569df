"""One class per position of a sequence: language models and taggers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.task import MeasuredTask, Metric
from transpike.errors import DataError
from transpike.tasks._base import in_range, returned


@dataclass(frozen=True)
class Sequence(MeasuredTask):
    """Logits (samples, length, classes) and class indices (samples, length) of the tokens.

    Over all N tokens of all samples, with ``p`` the softmax of their logits: ``perplexity = exp(−Σ ln p_y/N)``, and the
    share of tokens whose target has the largest logit. Targets are those of the same position: for the prediction of
    the next token they are shifted already. Tokens whose target is ``ignore_index`` count nowhere.
    """

    name: ClassVar[str] = "sequence"
    class_axis: ClassVar[int | None] = -1
    ignore_index: int | None = setting(-100, "Target value of ignored tokens.", low=-(2**31))

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return Metric("perplexity"), Metric("token accuracy", higher_is_better=True, share=True)

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if len(shape) != 2 or shape[1] < 2:
            raise DataError(f"{self} needs logits (batch, length, classes), but the network returns {returned(shape)}")
        if target.shape != (samples, shape[0]) or target.dtype == torch.bool or target.is_floating_point():
            raise DataError(
                f"the targets of {where} are {str(target.dtype).removeprefix('torch.')} of shape "
                f"{tuple(target.shape)}, but {self} needs integers of shape {(samples, shape[0])}, one per token"
            )
        return in_range(target.long(), shape[1], self.ignore_index, where)

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """For each sample, −Σ ln p_y, the number of counted tokens, and the number of correct ones."""
        counted = (
            torch.ones_like(target, dtype=torch.bool) if self.ignore_index is None else target != self.ignore_index
        )
        y = torch.where(counted, target, 0)
        lost = -output.double().log_softmax(-1).gather(-1, y[..., None])[..., 0]
        right = (output.argmax(-1) == y) & counted
        return torch.stack([torch.where(counted, lost, 0.0).sum(1), counted.sum(1), right.sum(1)], 1).double()

    def values(self, sums: Tensor) -> Tensor:
        lost, count, right = sums.unbind(-1)
        return torch.stack([(lost / count).exp(), right / count], -1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, the mean over the tokens that count."""
        ignored = -100 if self.ignore_index is None else self.ignore_index
        total = F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=ignored, reduction="sum")
        return total / (target != ignored).sum().clamp(min=1)
