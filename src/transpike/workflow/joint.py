"""A task for each of several outputs, as one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.structure import Structure
from transpike.core.task import MeasuredTask, Metric, OutcomeTask, Task
from transpike.errors import DataError, SettingError
from transpike.tasks import metrics_of, task_given


@dataclass(frozen=True)
class Part:
    """One output: its task, the shape and the type of one sample's target, and the size of the task's statistics."""

    name: str
    task: Task
    shape: tuple[int, ...]
    kind: torch.dtype
    size: int

    @property
    def width(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Joint(MeasuredTask):
    """``parts``: (output, task) of some of the outputs in ``structure``. The metrics are those of all, by
    "output: metric", the first one for verdicts; the loss is the sum of the losses.

    Checked targets are side by side in one float64 tensor (samples, M), which holds class indices exactly.
    """

    name: ClassVar[str] = "joint"
    parts: tuple[tuple[str, Task], ...]
    structure: Structure

    @classmethod
    def of(cls, given: Mapping[Any, Any], structure: Structure) -> "Joint":
        """From a dictionary of tasks by output. Raises SettingError for tasks that cannot be joined."""
        tasks = {structure.names[structure.place(name)]: task_given(task) for name, task in given.items()}
        if not tasks:
            raise SettingError("a dictionary of tasks needs one for at least one output")
        for name, task in tasks.items():
            sums = isinstance(task, OutcomeTask) or type(task).from_rows is MeasuredTask.from_rows  # type: ignore[attr-defined]
            if not task.needs_targets or not sums:
                why = "measures no sums over samples" if task.needs_targets else "is measured of every output anyway"
                raise SettingError(
                    f"the task of {name} is {task}, which {why}: evaluate it alone, with output={name!r}"
                )
        return cls(tuple(tasks.items()), structure)

    def __str__(self) -> str:
        return ", ".join(f"{name}: {task}" for name, task in self.parts)

    def __repr__(self) -> str:
        return f"Joint({self})"

    @cached_property
    def layout(self) -> tuple[Part, ...]:
        """Found by probes. Raises DataError for outputs that do not fit their tasks."""
        return tuple(_probed(name, task, self._shape(name)) for name, task in self.parts)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.structure.shapes[self.structure.place(name)]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(
            dataclasses.replace(metric, name=f"{name}: {metric.name}")
            for name, task in self.parts
            for metric in metrics_of(task)
        )

    def room(self, value: float) -> float:
        return self.parts[0][1].room(value)

    @property
    def room_in_words(self) -> str:
        return self.parts[0][1].room_in_words

    def packed(self, targets: Mapping[str, Tensor], where: str = "a batch") -> Tensor:
        """Targets by output, checked by their tasks, side by side."""
        found = []
        for part in self.layout:
            y = targets[part.name]
            samples = len(y) if y.ndim else 0
            checked = part.task.check(self._shape(part.name), samples, y, f"the output {part.name} of {where}")
            found.append(checked.reshape(samples, part.width).double())
        if len({len(y) for y in found}) > 1:
            raise DataError(f"the targets of the outputs have different numbers of samples, {[len(y) for y in found]}")
        return torch.cat(found, 1)

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if target.shape != (samples, sum(part.width for part in self.layout)):
            raise DataError(f"the targets of {where} are {tuple(target.shape)}, for {samples} samples of {self}")
        return target

    def _each(self, output: Tensor, target: Tensor) -> list[tuple[Part, Tensor, Tensor]]:
        """Output and target of every part, in their own shapes and types."""
        targets = target.split([part.width for part in self.layout], 1)
        return [
            (part, self.structure.part(output, part.name), y.reshape(len(y), *part.shape).to(part.kind))
            for part, y in zip(self.layout, targets, strict=True)
        ]

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """Those of all tasks side by side; of outcomes whether each is correct, and their number."""
        return torch.cat([_statistics(part.task, o, y) for part, o, y in self._each(output, target)], 1)

    def values(self, sums: Tensor) -> Tensor:
        sizes = [part.size for part in self.layout]
        return torch.cat(
            [_values(part.task, some) for part, some in zip(self.layout, sums.split(sizes, -1), strict=True)], -1
        )

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The sum of the losses."""
        return torch.stack([part.task.loss(o, y) for part, o, y in self._each(output, target)]).sum()


def _statistics(task: Task, output: Tensor, target: Tensor) -> Tensor:
    if isinstance(task, MeasuredTask):
        return task.statistics(output, target)
    right = task.rows(output, target).double()
    return torch.stack([right, torch.ones_like(right)], 1)


def _values(task: Task, sums: Tensor) -> Tensor:
    return task.values(sums) if isinstance(task, MeasuredTask) else sums[..., :1] / sums[..., 1:]


def _probed(name: str, task: Task, shape: tuple[int, ...]) -> Part:
    """The form of the targets, by targets of zeros of the shapes that tasks take."""
    error: DataError | None = None
    for wanted in dict.fromkeys(((), shape, shape[1:], shape[:-1])):
        for kind in (torch.int64, torch.float64):
            try:
                y = task.check(shape, 1, torch.zeros((1, *wanted), dtype=kind))
            except DataError as reason:
                error = error or reason
                continue
            size = _statistics(task, torch.zeros(1, *shape), y).shape[1]
            return Part(name, task, tuple(y.shape[1:]), y.dtype, size)
    raise DataError(f"the output {name}: {error}")
