"""Base classes of data sets: two splits, class names, and mean and standard deviation of the training images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.core.task import Task
from transpike.errors import DataError, SettingError

MOST_CLASSES = 1_000_000
"""A label is a class index, and each class has a name; a single large label would make a list of gigabytes."""


class Images(Protocol):
    """Returns images (n, channels, height, width) for an int64 tensor of n indices; a Tensor is one.

    Recordings return (n, frames, channels, height, width), signals (n, channels, samples).
    """

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, indices: Tensor, /) -> Tensor: ...


class Split:
    """Labelled images: ``images`` (N, channels, height, width), uint8 0..255 or floating; ``labels`` (N) int64.

    Recordings have their frames before the channels; signals are (N, channels, samples). ``images`` may read lazily
    (JPEG archives, image folders and recordings do); ``source`` names the data in messages. With ``any_targets`` labels
    are targets of another task than classification: a tensor (N, …), which the task checks. Raises DataError for
    shapes that do not fit, labels below zero, or values that are not finite.
    """

    by_output = False
    """Whether targets are those of several outputs, which have no common task."""

    def __init__(self, images: Images, labels: Tensor, source: str = "images", any_targets: bool = False) -> None:
        if len(images.shape) not in (3, 4, 5):
            wanted = "(N, channels, height, width), recordings (N, frames, channels, height, width), signals (N, "
            wanted += "channels, samples)"
            raise DataError(f"{source}: images must have the shape {wanted}, not {tuple(images.shape)}")
        if labels.shape[: labels.ndim if not any_targets else 1] != (images.shape[0],):
            raise DataError(f"{source}: {images.shape[0]} images but labels of shape {tuple(labels.shape)}")
        if not any_targets and (labels.dtype.is_floating_point or (len(labels) and int(labels.min()) < 0)):
            raise DataError(f"{source}: labels must be integers of at least 0")
        if isinstance(images, Tensor) and images.dtype != torch.uint8:
            if not images.is_floating_point():
                raise DataError(f"{source}: images must be uint8 (0..255) or floating point, not {images.dtype}")
            if not bool(torch.isfinite(images).all()):
                raise DataError(f"{source}: images contain NaN or infinite values")
        self.images, self.labels, self.source = images, labels if any_targets else labels.long(), source
        self.any_targets = any_targets

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        frames = "" if self.frames is None else f"{self.frames} frames of "
        kind = "signals" if len(self.image_shape) == 2 else "images"
        return f"Split({self.source}: {len(self)} {kind} of {frames}{'x'.join(map(str, self.image_shape))})"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width), of signals (channels, samples)."""
        return tuple(self.images.shape[1:] if self.frames is None else self.images.shape[2:])

    @property
    def frames(self) -> int | None:
        """Number of frames per recording; None for images."""
        return int(self.images.shape[1]) if len(self.images.shape) == 5 else None

    def accumulated(self) -> "Split":
        """The recordings as images, the mean of their frames, for a network without time; images are unchanged."""
        return (
            self if self.frames is None else Split(Accumulated(self.images), self.labels, self.source, self.any_targets)
        )

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (n, channels, height, width) and labels (n) at these indices, in this order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[chosen], self.labels[chosen]

    def batches(
        self, size: int = 256, limit: int | None = None, indices: Tensor | Sequence[int] | None = None
    ) -> "Batches":
        """Pairs of images and labels, in order; at most ``limit`` images, only those at ``indices``."""
        if size < 1 or (limit is not None and limit < 1):
            raise SettingError(f"size and limit must be at least 1, not size={size}, limit={limit}")
        if not len(self):
            raise DataError(f"there are no {self.source}")
        chosen = torch.arange(len(self)) if indices is None else torch.as_tensor(indices, dtype=torch.int64)
        return Batches(self, chosen if limit is None else chosen[:limit], size)

    def subset(self, indices: Tensor | Sequence[int]) -> "Split":
        """A split of the images at these indices; lazily read images remain lazy."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        images = self.images[chosen] if isinstance(self.images, Tensor) else Chosen(self.images, chosen)
        return Split(images, self.labels[chosen], self.source, self.any_targets)


@dataclass(frozen=True)
class Batches:
    """Pairs (images, labels) of one split; can be iterated repeatedly, and has a length."""

    split: Split
    indices: Tensor
    size: int

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in self.indices.split(self.size):
            yield self.split.batch(chosen)


@dataclass(frozen=True)
class Chosen:
    """A selection of lazily read images."""

    images: Images
    indices: Tensor

    @property
    def shape(self) -> Sequence[int]:
        return (len(self.indices), *self.images.shape[1:])

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.images[self.indices[indices]]


@dataclass(frozen=True)
class Accumulated:
    """The mean over the frames of lazily read recordings."""

    recordings: Images

    @property
    def shape(self) -> Sequence[int]:
        return (self.recordings.shape[0], *self.recordings.shape[2:])

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.recordings[indices].float().mean(1)


@dataclass(frozen=True)
class Dataset:
    """Training and test images; either split may be empty. ``note`` states the origin of the data.

    ``encoder`` names the member of ``transpike.encoders`` that the samples need; empty if any fits. ``validation``: the
    images for selecting an epoch if a random part of the training images is not suitable, for example with several
    samples per person; else None. ``task``: the task of the targets, None for classification; commands and
    ``finetune`` use it unless another one is given. Splits whose targets are not class indices need one.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    note: str = ""
    encoder: str = ""
    validation: Split | None = None
    task: Task | None = None

    def __post_init__(self) -> None:
        for split in (self.train, self.test, *((self.validation,) if self.validation else ())):
            if not split.any_targets and len(split) and int(split.labels.max()) >= len(self.classes):
                raise DataError(
                    f"{split.source}: label {int(split.labels.max())} is out of range for {len(self.classes)} classes"
                )
        if self.task is None and any(one.any_targets and not one.by_output for one in (self.train, self.test)):
            raise DataError(f"{self.name}: its targets are not class indices; name their task")
        if len(self.train) and len(self.test) and self.train.image_shape != self.test.image_shape:
            shapes = f"{self.train.image_shape} and {self.test.image_shape}"
            raise DataError(f"{self.name}: training and test images differ in shape, {shapes}")

    def accumulated(self) -> "Dataset":
        """The data set for a network without time; see Split.accumulated."""
        held_out = None if self.validation is None else self.validation.accumulated()
        return replace(self, train=self.train.accumulated(), test=self.test.accumulated(), validation=held_out)

    @property
    def frames(self) -> int | None:
        """Number of frames per recording; None for images."""
        return (self.train if len(self.train) else self.test).frames

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width), of signals (channels, samples)."""
        return (self.train if len(self.train) else self.test).image_shape


def statistics(split: Split, most: int | None = None) -> Preprocessing:
    """Mean and standard deviation of every channel, to six digits, over the split or ``most`` evenly spaced images.

    Bytes count as 0..1. Without images the identity is returned; the deviation of a constant channel counts as 1.
    """
    if not len(split):
        return Preprocessing()
    count = len(split) if most is None else min(most, len(split))
    total = square = torch.zeros(split.image_shape[0], dtype=torch.float64)
    for chosen in (torch.arange(count) * len(split) // count).split(1024):
        images = split.images[chosen]
        # integers are summed without rounding, so that the result does not depend on the order of addition
        values = images.int() if images.dtype == torch.uint8 else images.double()
        scale = 255 if images.dtype == torch.uint8 else 1
        axes = (0, *range(2, values.ndim))
        total = total + values.sum(axes).double() / scale
        square = square + (values * values).sum(axes).double() / scale**2
    pixels = count * prod(split.image_shape[1:])
    mean = total / pixels
    deviation = (square / pixels - mean * mean).clamp(min=0).sqrt()
    mean_values, deviations = ([round(v, 6) for v in t.tolist()] for t in (mean, deviation))
    return Preprocessing(tuple(mean_values), tuple(d or 1.0 for d in deviations))


def balanced(labels: Tensor, strength: float) -> Tensor:
    """Indices that repeat rare classes: class c occurs ``round((n_max / n_c) ** strength)`` times, in the order of
    ``labels`` (N); 0 changes nothing, 1 makes classes about equal. SettingError for a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise SettingError(f"balance must be from 0 (unchanged) to 1 (all classes equal), not {strength}")
    counts = labels.bincount().double()
    times = torch.where(counts > 0, (counts.max() / counts.clamp(min=1)) ** strength, 0).round().long()
    return torch.arange(len(labels)).repeat_interleave(times[labels])


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which samples (N,) are held out for tests: a ``fraction`` of each class, drawn with ``seed``.

    Raises SettingError for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise SettingError(f"test_fraction lies between 0 and 1, not {fraction}")
    found = np.zeros(len(labels), bool)
    for label in np.unique(labels).tolist():
        places = np.flatnonzero(labels == label)
        order = np.random.default_rng((seed, label)).permutation(len(places))
        found[places[order[: round(len(places) * fraction)]]] = True
    return found


def class_names(named: np.ndarray | None, *labels: np.ndarray, place: str) -> tuple[str, ...]:
    """The names of the classes in an archive, else the numbers from 0 to the largest of the ``labels``.

    Raises DataError for names that are not a list, and for labels that cannot be class indices.
    """
    if named is not None:
        if named.ndim != 1 or named.dtype.kind not in "USiu":
            raise DataError(f"{place}: class_names is {named.dtype}{list(named.shape)}, not a list of names")
        return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in named.tolist())
    highest = max((int(part.max()) for part in labels if len(part)), default=-1)
    if highest >= MOST_CLASSES:
        raise DataError(
            f"{place}: there is a label {highest:,}, and labels number the classes from 0 to {MOST_CLASSES - 1:,} at "
            "most; number the classes that occur"
        )
    return tuple(map(str, range(highest + 1)))
