"""Converts users' data to checked tensors: the one place for everything that takes data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from transpike.core.inputs import InputNames, Inputs
from transpike.core.preprocessing import Preprocessing
from transpike.core.task import Task
from transpike.data import _several as several
from transpike.data._base import Dataset, Split
from transpike.data._forms import as_targets as as_targets
from transpike.data._forms import is_array as is_array
from transpike.data._forms import (
    is_scalar,
    is_whole,
    keys,
    line_for,
    named,
    rank,
    stacked,
    tensor,
)
from transpike.errors import DataError

FEWEST = 8
"""Minimum number of calibration samples."""
Sample = tuple[int, ...] | InputNames | None
"""What is known of one sample: its shape, or the names of several inputs."""
PART = 256  # samples per batch of arrays
ONE_INPUT = (
    "train() takes networks with one input, but the data have several: train the network in PyTorch and convert it; "
    "finetune() takes several inputs"
)
FORMS = "a tensor or array, (inputs, targets), a loader, a torch Dataset, or an iterable of batches (input, target)"


def calibration_batches(
    data: Any,
    prepare: Callable[[Any], Tensor],
    shape: tuple[int, ...] | None = None,
    limit: int | None = None,
    names: InputNames | None = None,
) -> tuple[Tensor, ...]:
    """Calibration inputs after ``prepare``, from data of any form that ``pairs`` takes; targets are not read.

    ``names`` are those of several inputs, of which ``prepare`` gets ``Inputs`` and gives the packed tensor.

    Raises DataError for no or fewer than 8 samples, mixed or wrong shapes, constant, NaN or infinite values.
    """
    if data is None:
        raise DataError("conversion needs calibration data: pass calibration=a tensor or a loader of training inputs")
    batches: list[Tensor] = []
    seen = 0
    for number, x in enumerate(inputs(data, names)):
        if limit is not None and seen >= limit:
            break
        x = x if limit is None else x[: limit - seen]
        x = prepare(x)
        expected = shape or (tuple(batches[0].shape[1:]) if batches else tuple(x.shape[1:]))
        if tuple(x.shape[1:]) != expected:
            raise DataError(
                f"calibration batch {number} contains samples of shape {tuple(x.shape[1:])}, not {expected}"
            )
        if not bool(torch.isfinite(x).all()):
            raise DataError(f"calibration batch {number} contains NaN or infinite values; clean the data first")
        batches.append(x)
        seen += len(x)
    if seen < FEWEST:
        raise DataError(f"{seen} calibration samples are too few for thresholds; use at least {FEWEST}, preferably 500")
    low, high = min(float(b.min()) for b in batches), max(float(b.max()) for b in batches)
    if low == high:
        raise DataError(f"all calibration data has the value {low:g}; use real training inputs")
    return tuple(batches)


def inputs(data: Any, shape: Sample = None) -> Iterator[Any]:
    """Input batches alone; targets may have any form, and are not read."""
    for x, _ in with_targets(data, shape):
        yield x


def pairs(data: Any, shape: Sample = None) -> Iterator[tuple[Any, Tensor | None]]:
    """(input batch, targets or None) from data of one of these forms:

    a tensor or an array; (inputs, targets) as tensors, arrays or lists, targets of several outputs also by name; a
    Split or a torch Dataset; a loader or another iterable of batches. A batch is an input, (input, target, …), where
    further entries are ignored, or a dictionary like {"pixel_values": …, "labels": …}. An iterable may also yield
    single samples, each with one label. The ``shape`` of a sample, where it is known, distinguishes samples from
    batches; for a network with several inputs it is their ``InputNames``, batches of inputs are ``Inputs``, and the
    forms are those of ``data/_several.py``.

    Raises DataError for other forms, and for targets that are text; the message has the line to write.
    """
    for x, target in with_targets(data, shape):
        yield x, None if target is None else as_targets(target)


def with_targets(data: Any, shape: Sample = None) -> Iterator[tuple[Any, Any]]:
    """``pairs`` with the targets as they are given, for example text."""
    if isinstance(shape, InputNames):
        data = data.batches(PART) if isinstance(data, Split) else data
        yield from several.batches(data, shape)
        return
    if isinstance(data, (str, bytes, Path)):
        raise DataError(f"data must be {FORMS}, not text or a path; transpike.data.load reads data sets")
    if isinstance(data, Split):
        yield from data.batches(PART)
    elif is_array(data):
        yield from _parts(data, None)
    elif isinstance(data, tuple) and len(data) == 2 and is_array(data[0]) and isinstance(data[1], Mapping):
        for start in range(0, len(data[0]), PART):
            part = slice(start, start + PART)
            yield tensor(data[0][part]), several.part_of(data[1], part, len(data[0]))
    elif (pair := _pair(data)) is not None:
        yield from _parts(*pair)
    elif isinstance(data, Mapping):
        yield from _parts(*_chosen(data, "data"))
    else:
        samples, single = _iterated(data, shape)
        yield from _grouped(map(_entry, samples), shape, single, isinstance(data, IterableDataset))


def without_targets(batches: Iterable[Any]) -> list[tuple[Any, None]]:
    """Batches of inputs in a form that is never read as (inputs, targets), also if there are two."""
    return [(x, None) for x in batches]


def dataset_of(data: Any, task: Task | None = None) -> Dataset:
    """A Dataset itself; a Split, or labelled samples of another form, as the training images of a Dataset.

    ``task`` is that of labels that are not class indices.
    """
    if isinstance(data, Dataset):
        return data
    split = data if isinstance(data, Split) else labelled_split(data, task)
    if split.any_targets:
        return Dataset("the data", split, split.subset([]), (), Preprocessing(), task=task)
    count = int(split.labels.max()) + 1 if len(split) else 0
    return Dataset("the data", split, split.subset([]), tuple(map(str, range(count))), Preprocessing())


def labelled_split(data: Any, task: Task | None = None) -> Split:
    """All samples of ``data`` in memory; DataError without samples or labels."""
    x, labels = labelled_tensors(data)
    return Split(x, labels, "the data", any_targets=task is not None)


def labelled_tensors(data: Any) -> tuple[Tensor, Tensor]:
    """All inputs and labels (samples,) of ``data``; DataError without samples or labels, and for several inputs.

    A task checks the labels, with the output of a network.
    """
    x, labels = labelled_inputs(data)
    if isinstance(x, Inputs):
        raise DataError(ONE_INPUT)
    return x, labels


def labelled_inputs(
    data: Any, names: InputNames | None = None, picked: Callable[[Any], Any] = lambda given: given
) -> tuple[Tensor | Inputs, Tensor]:
    """``labelled_tensors``, also for networks with the inputs ``names``; ``picked`` selects from given targets."""
    given = ((x, picked(target)) for x, target in with_targets(data, names))
    batches = [(x, None if target is None else as_targets(target)) for x, target in given]
    if not batches:
        raise DataError("there are no samples to train on")
    if any(y is None for _, y in batches):
        raise DataError("training needs labels: pass a data set, or batches of (input, label)")
    labels = [y for _, y in batches if y is not None]
    if len({(y.shape[1:], y.dtype) for y in labels}) > 1:
        raise DataError("the labels of different batches differ in shape or type; pass one class index per input")
    parts = [x for x, _ in batches]
    x = Inputs.joined(parts) if isinstance(parts[0], Inputs) else torch.cat(parts)
    y = torch.cat(labels)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 and not y.is_floating_point() else y
    return x, y


def _pair(data: Any) -> tuple[Any, Any] | None:
    """Inputs and targets of a tuple or list of two; None if it is a sequence of batches or samples."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return None
    first, second = data
    if is_array(first) and is_array(second) and rank(first) and rank(second):
        if rank(first) > 1 == rank(second) and len(first) != len(second) and is_whole(second):
            raise DataError(f"there are {len(first)} inputs and {len(second)} targets; pass one target per input")
        # a tuple is a pair; in a list, two batches of inputs have equal ranks
        clear = isinstance(data, tuple) or (rank(first) > 1 and rank(first) != rank(second))
        return (first, second) if clear and len(first) == len(second) else None
    labels = isinstance(second, (tuple, list)) and len(second) > 0 and all(map(is_scalar, second))
    samples = isinstance(first, (tuple, list)) and len(first) > 0 and all(map(is_array, first))
    if labels and (samples or rank(first)) and len(first) == len(second):
        return (stacked([tensor(x) for x in first]) if samples else first), second
    return None


def _chosen(batch: Mapping, name: str) -> tuple[Any, Any]:
    """Input and target of a dictionary."""
    key, label = keys(batch)
    if not key:
        line = "((b[KEY], b[LABEL]) for b in data)" if name == "a batch" else "(data[KEY], data[LABEL])"
        raise DataError(
            f"{name} is a dictionary with the keys {', '.join(map(repr, batch))}, and it is not clear which one is the "
            f"input: write {line}"
        )
    return batch[key], batch[label] if label else None


def _parts(samples: Any, labels: Any) -> Iterator[tuple[Tensor, Any]]:
    """Arrays in batches; only one batch is copied at a time."""
    if rank(samples) < 2:
        shape = tuple(samples.shape) if is_array(samples) else named(samples)
        raise DataError(f"data must have the samples as its first axis; got shape {shape}")
    if labels is not None and len(labels) != len(samples):
        raise DataError(f"there are {len(samples)} inputs and {len(labels)} targets; pass one target per input")
    for start in range(0, len(samples), PART):
        part = slice(start, start + PART)
        yield tensor(samples[part]), None if labels is None else labels[part]


def _iterated(data: Any, shape: tuple[int, ...] | None) -> tuple[Iterable[Any], bool]:
    """Batches or samples of ``data``, and whether they are single samples; DataError where it cannot be iterated."""
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, TorchDataset) or (indexed and not isinstance(data, Iterable)):
        samples: Iterable[Any] = (data[index] for index in range(len(data))) if indexed else data  # type: ignore[arg-type,assignment]
        return samples, True
    if not isinstance(data, Iterable):
        more = "; use data.test.batches(64), or data.train" if hasattr(data, "test") else ""
        raise DataError(f"data must be {FORMS}, not {named(data)}{more}")
    if shape is None and isinstance(data, (tuple, list)) and len(data) > 1 and all(map(is_array, data)):
        shapes = {tuple(one.shape) for one in data}
        one = next(iter(shapes))
        if len(shapes) == 1 and len(one) == 3 and one[0] in (1, 3):
            raise DataError(
                f"a list of tensors of shape {one} is ambiguous: write torch.stack(data) if each is one sample, "
                f"torch.cat(data) if each is a batch of {one[0]}"
            )
    return data, False


def _entry(batch: Any) -> tuple[Any, Any]:
    """The input, or the ``Inputs``, and the target of a batch or sample, whatever form it has."""
    if isinstance(batch, Mapping):
        batch = _chosen(batch, "a batch")
    if is_array(batch):
        return tensor(batch), None
    if not isinstance(batch, (tuple, list)) or not batch:
        raise DataError(
            f"a batch must be a tensor, (input, target) or a dictionary, not {named(batch)}{line_for(batch)}"
        )
    first = batch[0]
    ranks = [rank(part) for part in batch]
    place = ranks.index(max(ranks))
    index_first = ranks[0] == 0 and (is_scalar(first) or first is None)
    if place and (index_first or (ranks[0] == 1 < ranks[place] and is_whole(first))):
        label = place + 1 if place + 1 < len(batch) else 0
        raise DataError(
            f"a batch must begin with its input, but this one begins with {named(first)}: write ((b[{place}], "
            f"b[{label}]) for b in data)"
        )
    if isinstance(first, (tuple, list, Mapping)) and first:
        return Inputs.of(first), batch[1] if len(batch) > 1 else None
    if not is_array(first):
        raise DataError(f"the input of a batch must be a tensor or array, not {named(first)}{line_for(first)}")
    return tensor(first), batch[1] if len(batch) > 1 else None


def _grouped(
    entries: Iterable[tuple[Tensor, Any]], shape: tuple[int, ...] | None, single: bool, stream: bool
) -> Iterator[tuple[Tensor, Any]]:
    """Batches as they are; consecutive single samples of one shape as batches. A ``stream`` of torch gives either."""
    waiting: list[tuple[Tensor, Any]] = []
    for x, target in entries:
        if isinstance(x, Inputs):
            if single:  # whose first axes are no batch
                raise DataError(
                    "the samples of this data set have several inputs: pass batches of them, as of "
                    "torch.utils.data.DataLoader(data, batch_size=64)"
                )
            yield x, target
            continue
        sample = (single and not (stream and _is_batch(x, target, shape))) or _is_sample(x, target, shape)
        if waiting and not (sample and len(waiting) < PART and waiting[0][0].shape == x.shape):
            yield _joined(waiting)
            waiting = []
        if x.ndim + sample < 2:
            raise DataError(f"a batch must have the samples as its first axis; got shape {tuple(x.shape)}")
        if sample:
            waiting.append((x, target))
        else:
            yield x, target
    if waiting:
        yield _joined(waiting)


def _is_sample(x: Tensor, target: Any, shape: tuple[int, ...] | None) -> bool:
    """A single sample has the shape that the network takes, or one label."""
    if shape is not None and shape in (tuple(x.shape), tuple(x.shape[1:])):
        return tuple(x.shape) == shape
    return x.ndim > 0 and target is not None and is_scalar(target)


def _is_batch(x: Tensor, target: Any, shape: tuple[int, ...] | None) -> bool:
    """A batch has samples of the shape that the network takes, or as many targets as samples."""
    if shape is not None:
        return tuple(x.shape[1:]) == shape
    several = isinstance(target, (list, tuple)) or rank(target) > 0
    return x.ndim > 1 and several and len(target) == len(x)


def _joined(samples: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
    labels = [target for _, target in samples]
    return stacked([x for x, _ in samples]), None if any(one is None for one in labels) else labels
