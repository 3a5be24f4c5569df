"""The facts of a fine-tuning: loss, samples, augmentation, statistics of its inputs."""

import dataclasses
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from transpike.core.input_statistics import InputStatistics
from transpike.core.inputs import InputNames, Inputs, with_statistics
from transpike.core.task import OutcomeTask, Task
from transpike.data import Split
from transpike.errors import SettingError
from transpike.snn import SNN
from transpike.tasks import Classification
from transpike.training.samples import Pairs, Samples
from transpike.training.source import augmentation
from transpike.training.spiking.finetuning import FineTuning
from transpike.training.spiking.losses import Loss, OfTask


def loss_json(criterion: Loss, task: Task) -> dict[str, Any]:
    """The loss that is used, and the task if it is not classification."""
    known = {} if task == Classification() else {"task": str(task)}
    if isinstance(criterion, OfTask):
        return {"loss": ["OfTask", {}], **known}
    return {"loss": [type(criterion).__name__, asdict(criterion)], **known}


def checked_samples(samples: Samples, shape: tuple[int, ...], task: Task) -> Samples:
    """The samples, with targets in the form of the task. Raises DataError for others."""
    labels = task.check(shape, len(samples), samples.labels, "the training data")
    if isinstance(samples, Pairs):
        return dataclasses.replace(samples, labels=labels)
    same = labels.dtype == samples.labels.dtype and torch.equal(labels, samples.labels)
    return (
        samples
        if same or not isinstance(samples, Split)
        else Split(samples.images, labels, samples.source, any_targets=True)
    )


def augmentation_of(snn: SNN, samples: Samples, settings: FineTuning, task: Task) -> str:
    """The augmentation that ``settings`` ask for, or the usual one; DataError for samples of a wrong shape."""
    x = samples.batch(torch.arange(1))[0]
    snn.prepare(x)
    if isinstance(x, Inputs):
        if settings.augment not in ("auto", "none"):
            raise SettingError(
                f"augment={settings.augment!r} moves the pixels of one image, but the network has several inputs: "
                "augment the data"
            )
        return "none"
    usual = augmentation.usual(tuple(x.shape[1:]))
    return augmentation.for_targets(settings.augment, usual, isinstance(task, OutcomeTask), samples.labels)


def input_fields(snn: SNN, samples: Samples, indices: Tensor) -> dict[str, Any]:
    """Statistics of these samples, as the calibration inputs of the tuned network: fields of an SNN."""
    parts = [snn.prepare(samples.batch(part)[0]) for part in indices.split(128)]
    if InputNames.of(snn.source.inputs) is not None:
        return {"source": with_statistics(snn.source, parts)}
    return {"inputs": InputStatistics.of(map(snn.encoder.accumulate, parts))}
