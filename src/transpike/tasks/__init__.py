"""Tasks, which define correct outputs, by their names on the command line."""

from collections.abc import Mapping

from transpike.core.registry import family
from transpike.core.task import Task
from transpike.errors import SettingError
from transpike.tasks.classification import Classification
from transpike.tasks.top_k import TopK

members: tuple[type[Task], ...] = family("task", Task, in_files=True).own(globals())
table: Mapping[str, type[Task]] = family("task").table


def remarks(task: Task) -> tuple[str, ...]:
    """Remarks of a result about its task; empty for classification, the default."""
    return () if task == Classification() else (f"accuracy and agreement are those of the task {task}",)


def task_given(task: Task | None) -> Task:
    """``task``, by default classification; raises SettingError for anything that is not a Task."""
    if task is None:
        return Classification()
    if not isinstance(task, Task):
        raise SettingError(f"task must be one of transpike.tasks, like TopK(5), not {task!r}")
    return task
