"""What a good answer is, by the name that the command line uses."""

from transpike.core.task import Task
from transpike.errors import SettingError
from transpike.tasks.classification import Classification
from transpike.tasks.top_k import TopK

table: dict[str, type[Task]] = {member.name: member for member in (Classification, TopK)}
members: tuple[type[Task], ...] = tuple(table.values())


def remarks(task: Task) -> tuple[str, ...]:
    """What a result has to say of its task: nothing of classification, which accuracy is usually of."""
    return () if task == Classification() else (f"accuracy and agreement are those of the task {task}",)


def task_given(task: Task | None) -> Task:
    """``task``, by default classification. SettingError for something else, like the name of a task."""
    if task is None:
        return Classification()
    if not isinstance(task, Task):
        raise SettingError(f"task must be one of transpike.tasks, like TopK(5), not {task!r}")
    return task
