"""Splits with several named inputs, and their arrays in NumPy archives.

Keys: ``train_input_NAME`` [N, …] for every input of the network, also "batch.image" for one within a dictionary, and
``train_labels`` [N, …], or ``train_labels_OUTPUT`` for several outputs; the same with ``test_`` or ``val_``, which
counts as test.
"""

import re
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from transpike.core.inputs import Inputs
from transpike.core.preprocessing import Preprocessing
from transpike.core.task import Task
from transpike.data._base import Dataset, Split, class_names
from transpike.errors import DataError

INPUT, LABELS = re.compile(r"(train|test|val)_input_(.+)"), re.compile(r"(train|test|val)_labels(?:_(.+))?")


class NamedSplit(Split):
    """Labelled samples of several inputs; ``batch`` gives ``Inputs``, and targets by output where ``labels`` are."""

    def __init__(self, inputs: Inputs, labels: Tensor | Mapping[str, Tensor], source: str, any_targets: bool) -> None:
        self.inputs, self.source = inputs, source
        self.targets: Tensor | dict[str, Tensor] = labels if isinstance(labels, Tensor) else dict(labels)
        self.by_output = not isinstance(labels, Tensor)
        self.any_targets = any_targets or self.by_output
        first = labels if isinstance(labels, Tensor) else next(iter(labels.values()))
        self.images, self.labels = torch.empty(len(inputs) if inputs.values else 0, 0), first

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Empty: each input has its own."""
        return ()

    @property
    def frames(self) -> None:
        return None

    def accumulated(self) -> "NamedSplit":
        return self

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Inputs, Tensor | dict[str, Tensor]]:  # type: ignore[override]
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if isinstance(self.targets, Tensor):
            return self.inputs[chosen], self.targets[chosen]
        return self.inputs[chosen], {name: value[chosen] for name, value in self.targets.items()}

    def subset(self, indices: Tensor | Sequence[int]) -> "NamedSplit":
        return NamedSplit(*self.batch(indices), self.source, self.any_targets)

    @property
    def of_bytes(self) -> tuple[str, ...]:
        """The names of the inputs that are bytes."""
        return tuple(".".join(map(str, place)) for place, v in self.inputs.values.items() if v.dtype == torch.uint8)


def has_named(archives: Sequence[Mapping[str, np.ndarray]]) -> bool:
    """Whether an archive holds named inputs."""
    return any(INPUT.fullmatch(key) for archive in archives for key in archive)


def data_set(
    archives: Sequence[Mapping[str, np.ndarray]],
    name: str,
    task: Task | None,
    classes: tuple[str, ...] | None,
    note: str,
) -> Dataset:
    """The data set of a single archive; raises DataError for missing, unequal or unreadable arrays."""
    if len(archives) > 1:
        raise DataError(f"{name}: archives with named inputs are not joined; write one")
    (archive,) = archives
    train = _split(archive, "train", name, task)
    test = _split(archive, "test" if any(key.startswith("test_") for key in archive) else "val", name, task)
    if {*train.inputs.values} != {*test.inputs.values} and len(train) and len(test):
        raise DataError(f"{name}: training and test samples have different inputs: {_names(train)} and {_names(test)}")
    if classes is None:
        named, plain = archive.get("class_names"), not (train.any_targets or test.any_targets)
        known = plain or named is not None
        labels = [split.labels.numpy() for split in (train, test) if plain]
        classes = class_names(named, *labels, place=name) if known else ()
    return Dataset(name, train, test, classes, Preprocessing(), note, task=task)


def _split(archive: Mapping[str, np.ndarray], part: str, name: str, task: Task | None) -> NamedSplit:
    inputs, labels = dict[tuple[str | int, ...], Tensor](), dict[str, Tensor]()
    source = f"{'training' if part == 'train' else 'test'} samples of {name}"
    for key, array in archive.items():
        found, target = INPUT.fullmatch(key), LABELS.fullmatch(key)
        if found and found[1] == part:
            inputs[tuple(found[2].split("."))] = _numbers(array, f"{source}: {key}")
        elif target and target[1] == part:
            labels[target[2] or ""] = _numbers(array, f"{source}: {key}")
    if not inputs and not labels:
        return NamedSplit(Inputs({}), torch.empty(0, dtype=torch.int64), source, False)
    if not inputs or not labels or ("" in labels and len(labels) > 1):
        raise DataError(
            f"{source}: add {part}_input_NAME for every input, and {part}_labels, or {part}_labels_OUTPUT for several "
            f"outputs; found {', '.join(archive)}"
        )
    counts = {len(value) for value in (*inputs.values(), *labels.values())}
    if len(counts) > 1:
        raise DataError(f"{source}: the arrays have different numbers of samples, {sorted(counts)}")
    targets = labels.get("")
    if targets is not None and task is None and (targets.ndim > 1 or targets.is_floating_point()):
        raise DataError(f"{source}: its targets are not class indices; add an entry task, like 'regression'")
    if targets is not None and task is None and len(targets) and int(targets.min()) < 0:
        raise DataError(f"{source}: labels must be integers of at least 0")
    return NamedSplit(Inputs(inputs), labels if targets is None else targets, source, task is not None)


def _numbers(array: np.ndarray, where: str) -> Tensor:
    if array.dtype.kind not in "biuf" or not array.ndim or (len(array) and not prod(array.shape)):
        raise DataError(f"{where} is {array.dtype}{list(array.shape)}, not numbers with the samples as first axis")
    if array.dtype.kind in "ui" and array.dtype != np.uint8:
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise DataError(f"{where} contains {array.max()}, beyond 64 bits with a sign")
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))


def _names(split: NamedSplit) -> str:
    return ", ".join(".".join(map(str, place)) for place in split.inputs.values)
