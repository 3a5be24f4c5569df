"""What a fine-tuning is described by: its loss, the bounds of its parameters, a digest of its start."""

import hashlib
import math
from dataclasses import asdict
from typing import Any

from torch import nn

from transpike.core.task import Task
from transpike.tasks import Classification
from transpike.training.spiking.losses import Loss, OfTask
from transpike.training.spiking.unrolled import Unrolled

LEAST = 1e-3
"""Lower bound of thresholds, relative to their initial values, and of leaks."""


def loss_json(criterion: Loss, task: Task) -> dict[str, Any]:
    """The loss that is used, and the task if it is not classification."""
    known = {} if task == Classification() else {"task": str(task)}
    if isinstance(criterion, OfTask):
        return {"loss": ["OfTask", {}], **known}
    return {"loss": [type(criterion).__name__, asdict(criterion)], **known}


def bounds(module: Unrolled) -> dict[str, tuple[float, float]]:
    """Name of a neuron's tensor → (smallest allowed value, unit of its learning rate)."""
    bounds: dict[str, tuple[float, float]] = {}
    parameters = dict(module.named_parameters())
    for node in module.source_graph:
        keys = node.keys()
        if "threshold" in keys and keys["threshold"] in parameters:
            threshold = parameters[keys["threshold"]].detach()
            unit = float(threshold.mean())
            bounds[keys["threshold"]] = LEAST * float(threshold.min()), unit
            if "initial" in keys:
                bounds[keys["initial"]] = -math.inf, unit
    return bounds


def digest(module: nn.Module) -> str:
    """Sixteen hexadecimal digits of a hash of all tensors."""
    digest = hashlib.sha256()
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
