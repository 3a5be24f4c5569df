"""What a fine-tuning is described by: its loss and its task."""

from dataclasses import asdict
from typing import Any

from transpike.core.task import Task
from transpike.tasks import Classification
from transpike.training.spiking.losses import Loss, OfTask


def loss_json(criterion: Loss, task: Task) -> dict[str, Any]:
    """The loss that is used, and the task if it is not classification."""
    known = {} if task == Classification() else {"task": str(task)}
    if isinstance(criterion, OfTask):
        return {"loss": ["OfTask", {}], **known}
    return {"loss": [type(criterion).__name__, asdict(criterion)], **known}
