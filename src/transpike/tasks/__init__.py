"""Tasks, which define good answers, by their names on the command line."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from transpike.core import task as contract  # a contract among the names would be a member
from transpike.core.registry import family
from transpike.core.task import Task
from transpike.errors import SettingError
from transpike.tasks.binary import Binary as Binary
from transpike.tasks.classification import Classification
from transpike.tasks.fidelity import Fidelity as Fidelity
from transpike.tasks.multi_label import MultiLabel as MultiLabel
from transpike.tasks.pixel_classification import PixelClassification as PixelClassification
from transpike.tasks.regression import Regression as Regression
from transpike.tasks.sequence import Sequence as Sequence
from transpike.tasks.top_k import TopK as TopK

members: tuple[type[Task], ...] = family("task", Task, in_files=True).own(globals())
table: Mapping[str, type[Task]] = family("task").table

# these take a function, which no file and no command line can hold: they are not members of the family
from transpike.tasks.detection import Detection as Detection  # noqa: E402
from transpike.tasks.function import Function as Function  # noqa: E402

TAKE_FUNCTIONS = (Detection.name, Function.name)
ALSO_CALLED = {"segmentation": "pixel-classification"}
"""Other names on the command line."""


def remarks(task: Task) -> tuple[str, ...]:
    """Remarks of a result about its task; empty for classification, the default, and where metrics name themselves."""
    if task == Classification() or isinstance(task, contract.MeasuredTask):
        return ()
    return (f"accuracy and agreement are those of the task {task}",)


def task_given(task: contract.AnyTask | None) -> Task:
    """``task``, by default classification; a function (answer, target) → (batch,) as a ``Function``.

    Raises SettingError for anything else.
    """
    if task is None:
        return Classification()
    if isinstance(task, type) and issubclass(task, Task):
        raise SettingError(f"task must be an object, not a class: write {task.__name__}(…)")
    if callable(task) and not isinstance(task, (Task, type)):
        return Function(task)
    if not isinstance(task, Task):
        raise SettingError(
            f"task must be one of transpike.tasks, like TopK(5), or a function of (answer, target), not {task!r}"
        )
    return task


def metrics_of(task: Task) -> tuple[contract.Metric, ...]:
    """The metrics of a task: its own, or the accuracy."""
    return task.metrics if isinstance(task, contract.MeasuredTask) else (task.first,)


def metrics_json(task: Task) -> dict[str, Any]:
    """The part of a result's JSON about the metrics of a task; nothing of a task that counts correct answers."""
    if not isinstance(task, contract.MeasuredTask):
        return {}
    return {"metrics": [dataclasses.asdict(metric) for metric in task.metrics]}


def compares_classes(task: Task) -> bool:
    """Whether the loss of the task is the cross-entropy of the logits of several classes."""
    return isinstance(task, contract.OutcomeTask) and task.has_classes and type(task).loss is contract.OutcomeTask.loss


def exit_task(task: contract.AnyTask | None) -> contract.OutcomeTask:
    """``task`` for an early exit; raises SettingError, with the reason, for a task that cannot have one."""
    found = task_given(task)
    way_out = "evaluate() measures every time step, of which one can be chosen for all samples"
    if not isinstance(found, contract.OutcomeTask):
        raise SettingError(
            "an early exit bounds the share of samples that lose a correct answer, but an answer of "
            f"{found} is neither correct nor wrong: {way_out}"
        )
    if not found.has_classes:
        raise SettingError(f"an early exit compares the classes of one answer, but {found} has none: {way_out}")
    return found
