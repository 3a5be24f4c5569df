"""One class per pixel: semantic segmentation."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.marks import Marks
from transpike.core.task import MeasuredTask, Metric
from transpike.errors import DataError, SettingError
from transpike.tasks._base import in_range, returned


@dataclass(frozen=True)
class PixelClassification(MeasuredTask):
    """Logits (samples, classes, *space) and class indices (samples, *space) of the pixels.

    From one confusion matrix of all pixels of all samples, ``IoU_c = TP_c/(TP_c + FP_c + FN_c)``; the mean IoU is over
    classes that occur in targets or answers. Pixels whose target is ``ignore_index`` count nowhere. Reports show
    images with the classes of pixels, labelled with ``names``.
    """

    name: ClassVar[str] = "pixel-classification"
    classes: int | None = setting(None, "Number of classes; by default that of the output.", low=2)
    ignore_index: int | None = setting(None, "Target value of ignored pixels.", low=-(2**31))
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.names is not None and not (
            isinstance(self.names, tuple) and all(isinstance(name, str) for name in self.names)
        ):
            raise SettingError(f"names must be a tuple of the names of classes, not {self.names!r}")
        check_settings(self)

    def __str__(self) -> str:
        """Without the names of classes, which change no number."""
        return super().__str__() if self.names is None else str(replace(self, names=None))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("mean IoU", higher_is_better=True, share=True),
            Metric("pixel accuracy", higher_is_better=True, share=True),
        )

    def room(self, value: float) -> float:
        return 0.005

    @property
    def room_in_words(self) -> str:
        return "half a point"

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if len(shape) < 2 or shape[0] != (self.classes or shape[0]) or shape[0] < 2:
            classes = self.classes or "classes"
            raise DataError(f"{self} needs logits (batch, {classes}, …), but the network returns {returned(shape)}")
        given = f"the targets of {where} are {str(target.dtype).removeprefix('torch.')} of shape {tuple(target.shape)}"
        if target.shape == (samples, 1, *shape[1:]):
            target = target[:, 0]
        if target.shape != (samples, *shape[1:]) or target.dtype == torch.bool or target.is_floating_point():
            raise DataError(f"{given}, but {self} needs integers of shape {(samples, *shape[1:])}")
        return in_range(target.long(), shape[0], self.ignore_index, where)

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """For each class, the number of pixels in both answer and target, and in either of them."""
        samples, classes = output.shape[:2]
        answer, y = output.argmax(1).flatten(1), target.flatten(1)
        counted = torch.ones_like(y, dtype=torch.bool) if self.ignore_index is None else y != self.ignore_index
        place = torch.arange(samples, device=y.device)[:, None] * classes

        def count(numbers: Tensor, where: Tensor) -> Tensor:
            found = torch.bincount((numbers + place)[where], minlength=samples * classes)
            return found.reshape(samples, classes).double()

        shared = count(y, counted & (answer == y))
        return torch.cat([shared, count(y, counted) + count(answer, counted) - shared, count(y, counted)], 1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, the mean over the pixels that count."""
        ignored = -100 if self.ignore_index is None else self.ignore_index  # no class has a negative number
        total = F.cross_entropy(output, target, ignore_index=ignored, reduction="sum")
        return total / (target != ignored).sum().clamp(min=1)

    def values(self, sums: Tensor) -> Tensor:
        shared, either, targets = sums.unflatten(-1, (3, -1)).unbind(-2)
        return torch.stack([(shared / either).nanmean(-1), shared.sum(-1) / targets.sum(-1)], -1)

    def marks(self, answer: Tensor, size: tuple[int, int]) -> Marks | None:
        """Only outputs over a plane are drawn."""
        return Marks(mask=answer.argmax(0).cpu(), names=self.names or ()) if answer.ndim == 3 else None

    def target_marks(self, target: Tensor, size: tuple[int, int]) -> Marks | None:
        if target.ndim != 2:
            return None
        ignored = target == self.ignore_index if self.ignore_index is not None else target < 0
        return Marks(mask=target.masked_fill(ignored, -1).cpu(), names=self.names or ())
