"""The loss and the metric of a training, from its task."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.core.task import MeasuredTask, OutcomeTask, Task, finite
from transpike.data import Dataset, Split
from transpike.errors import DataError, SettingError
from transpike.tasks import compares_classes


@dataclass(frozen=True)
class Criterion:
    """``task`` on the data set ``name`` with ``classes`` classes; ``smoothing`` of labels is for classes only."""

    task: Task
    smoothing: float
    classes: int
    name: str

    @property
    def of_classes(self) -> bool:
        """Whether the loss is the cross-entropy of logits (batch, classes)."""
        return compares_classes(self.task)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch, a scalar. Raises DataError for logits of another shape than that of the classes."""
        if not self.of_classes:
            return self.task.loss(output, target)
        if output.ndim != 2 or output.shape[1] < max(2, self.classes):  # cross-entropy compares at least two
            wanted = f"(batch, {max(2, self.classes)}) for the classes of {self.name}"
            raise DataError(f"the network returns logits of shape {tuple(output.shape)}, not {wanted}")
        return F.cross_entropy(output, target, label_smoothing=self.smoothing)

    def total_loss(self, output: Tensor, target: Tensor) -> float:
        """The loss of a batch without smoothing, summed over its samples."""
        if self.of_classes:
            return F.cross_entropy(output, target, reduction="sum").item()
        return self.task.loss(output, target).item() * len(output)

    def sums(self, output: Tensor, target: Tensor) -> list[float]:
        """The sums over samples that ``value`` needs: correct answers, or the statistics of the task."""
        rows = self.task.rows(output, target)
        return [float(rows.sum())] if isinstance(self.task, OutcomeTask) else rows.sum(0).tolist()

    def value(self, sums: list[float], samples: int) -> float | None:
        """The first metric of the task."""
        if isinstance(self.task, OutcomeTask):
            return sums[0] / samples
        assert isinstance(self.task, MeasuredTask)
        return finite(float(self.task.values(torch.tensor(sums, dtype=torch.float64))[0]))

    def checked(self, dataset: Dataset, module: nn.Module, preprocessing: Preprocessing) -> Dataset:
        """The data set with targets in the form of the task, checked before the work.

        Raises DataError for outputs and targets that do not fit, SettingError for a task without a loss.
        """
        if self.of_classes and not dataset.train.any_targets:
            return dataset
        if not isinstance(self.task, OutcomeTask | MeasuredTask) or not self.task.needs_targets:
            raise SettingError(f"{self.task} has no targets to train with: pass the task of the targets")
        if self.smoothing and not self.of_classes:
            raise SettingError(f"label_smoothing is for classes, but the task is {self.task}: omit it")
        before = module.training
        module.eval()
        with torch.no_grad():
            images, _ = dataset.train.batch(torch.arange(2))
            device = next((p.device for p in module.parameters()), torch.device("cpu"))
            output = module(preprocessing(images.to(device))).cpu().float()
        module.train(before)
        shape = tuple(output.shape[1:])

        def split(one: Split) -> Split:
            if not len(one):
                return one
            labels = self.task.check(shape, len(one), one.labels, one.source)
            return Split(one.images, labels, one.source, any_targets=True)

        parts = {"train": split(dataset.train), "test": split(dataset.test)}
        parts |= {} if dataset.validation is None else {"validation": split(dataset.validation)}
        self.task.loss(output, parts["train"].labels[:2])  # SettingError for a task without one
        return Dataset(
            dataset.name, parts["train"], parts["test"], dataset.classes, dataset.preprocessing, dataset.note,
            dataset.encoder, parts.get("validation"), self.task,
        )  # fmt: skip
