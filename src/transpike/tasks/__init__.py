"""Tasks, which define correct outputs, by their names on the command line."""

from collections.abc import Mapping

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
from transpike.tasks.top_k import TopK as TopK

members: tuple[type[Task], ...] = family("task", Task, in_files=True).own(globals())
table: Mapping[str, type[Task]] = family("task").table


def remarks(task: Task) -> tuple[str, ...]:
    """Remarks of a result about its task; empty for classification, the default, and where metrics name themselves."""
    if task == Classification() or isinstance(task, contract.MeasuredTask):
        return ()
    return (f"accuracy and agreement are those of the task {task}",)


def task_given(task: Task | None) -> Task:
    """``task``, by default classification; raises SettingError for anything that is not a Task."""
    if task is None:
        return Classification()
    if not isinstance(task, Task):
        raise SettingError(f"task must be one of transpike.tasks, like TopK(5), not {task!r}")
    return task


def outcome_task(task: Task | None, what: str) -> contract.OutcomeTask:
    """``task`` for ``what``, which counts correct answers; raises SettingError for a task that measures errors."""
    found = task_given(task)
    if not isinstance(found, contract.OutcomeTask):
        raise SettingError(
            f"{what} counts correct answers, and {found} has none: evaluate(…, task=…) measures its errors at every "
            "time step, and cost() without a task counts its energy"
        )
    return found
