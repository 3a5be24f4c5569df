"""Data sets in NumPy archives, without pickled objects.

Keys, for ``train`` and ``test`` (or ``val``, which counts as test): ``train_images`` uint8 or floating [N, H, W] or
[N, H, W, C] with ``train_labels``; or ``train_jpeg`` (the files one after another), ``train_offsets`` [N + 1] and
``train_labels``. ``class_names`` is optional, and one of the splits may be missing. An archive with targets of a
task other than classification, ``train_labels`` [N, …], has an entry ``task`` like "regression" or
"pixel-classification:ignore_index=255". An archive for a network with several inputs has ``train_input_NAME`` for each
instead of ``train_images`` (_named_arrays).
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.core.registry import family
from transpike.core.task import Task
from transpike.data import _archive, _named_arrays
from transpike.data._base import Dataset, Images, Split, class_names, statistics
from transpike.data._pictures import rgb
from transpike.data._stored import ArrayImages, StoredArray
from transpike.errors import DataError, SettingError

# decoding JPEG takes about 0.1 ms per image, so mean and deviation come from a part of a large archive
STATISTICS_IMAGES = 4096
PICTURES = {f"{split}_{kind}" for split in ("train", "test", "val") for kind in ("images", "jpeg")}
CACHED = 2**30
"""Bytes up to which the decoded images of a split remain in memory."""
Arrays = Mapping[str, np.ndarray | StoredArray]


def load(
    paths: str | Path | Sequence[Path],
    name: str | None = None,
    classes: tuple[str, ...] | None = None,
    preprocessing: Preprocessing | None = None,
    note: str = "",
) -> Dataset:
    """One archive, or several whose splits are concatenated; raises DataError for an unusable archive.

    Images of 256 MiB or more in an archive of ``numpy.savez``, which does not compress, remain in the file.
    """
    files = [Path(paths).expanduser()] if isinstance(paths, str | Path) else list(paths)
    name = name or f"npz:{files[0]}"
    archives = [_read(file) for file in files]
    task = _task(next((a["task"] for a in archives if "task" in a), None), name)
    if _named_arrays.has_named(archives):
        return _named_arrays.data_set(archives, name, task, classes, note or ", ".join(file.name for file in files))
    train = _split([(a, "train") for a in archives if "train_labels" in a], f"training images of {name}", task)
    # an archive with both keeps its validation images out of the test split
    tested = [
        (a, "test" if "test_labels" in a else "val") for a in archives if {"test_labels", "val_labels"} & a.keys()
    ]
    test = _split(tested, f"test images of {name}", task)
    if not len(train) and not len(test):
        found = ", ".join(sorted({key for a in archives for key in a})) or "nothing"
        raise DataError(
            f"{', '.join(map(str, files))}: no images found. Expected train_images and train_labels, or train_jpeg, "
            f"train_offsets and train_labels, or the same with test_ or val_; found {found}"
        )
    if classes is None:
        named = next((a["class_names"] for a in archives if "class_names" in a), None)
        classes = (
            ()
            if task is not None and named is None
            else class_names(named, train.labels.numpy(), test.labels.numpy(), place=name)
        )
    if preprocessing is None:
        preprocessing = statistics(train, STATISTICS_IMAGES if isinstance(train.images, JpegImages) else None)
    return Dataset(name, train, test, classes, preprocessing, note or ", ".join(file.name for file in files), task=task)


def _read(file: Path) -> dict[str, Any]:
    """The entries of the splits; only images may remain in the file."""
    images = _archive.read_partly(file, PICTURES.__contains__)
    rest = _archive.read(
        file, lambda key: key not in images and (key in ("class_names", "task") or _archive.is_split(key))
    )
    return images | rest


def _task(entry: np.ndarray | None, name: str) -> Task | None:
    """The task of an entry like "top-k:k=3"; raises DataError for anything else."""
    if entry is None:
        return None
    if entry.ndim or entry.dtype.kind != "U":
        raise DataError(f"{name}: task is {entry.dtype}{list(entry.shape)}, not a name like 'regression'")
    kind, *parts = str(entry).split(":")
    try:
        settings = {key.strip(): json.loads(value) for key, _, value in (part.partition("=") for part in parts)}
        found: Task = family("task").get(kind)(**settings)
    except (SettingError, ValueError, TypeError) as error:
        raise DataError(f"{name}: its task is {str(entry)!r}: {error}") from error
    return found


def _split(parts: list[tuple[dict[str, Any], str]], source: str, task: Task | None = None) -> Split:
    if not parts:
        return Split(torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), source)
    images: Images
    given = [archive[f"{key}_labels"] for archive, key in parts]
    labels = _joined([array.reshape(-1) for array in given] if task is None else given, source)
    if labels.dtype.kind not in ("iu" if task is None else "biuf"):
        raise DataError(f"{source}: labels are {labels.dtype}, not integers")
    if labels.dtype == np.uint64 and len(labels) and labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"{source}: there is a label {labels.max()}; labels must be class indices of at least 0")
    if all(f"{key}_images" in archive for archive, key in parts):
        arrays = [_checked(archive[f"{key}_images"], source) for archive, key in parts]
        if any(isinstance(array, StoredArray) for array in arrays):
            images = ArrayImages(arrays, source)
        else:
            images = torch.from_numpy(_joined([_channels_first(array) for array in arrays], source))
    elif all(f"{key}_jpeg" in archive and f"{key}_offsets" in archive for archive, key in parts):
        images = JpegImages([(a[f"{key}_jpeg"], a[f"{key}_offsets"]) for a, key in parts], source)
    else:
        key = parts[0][1]
        raise DataError(f"{source}: {key}_labels without {key}_images, or {key}_jpeg and {key}_offsets")
    targets = labels if labels.dtype.kind in "bf" else labels.astype(np.int64)
    return Split(images, torch.from_numpy(targets), source, task is not None)


def _joined(arrays: list[np.ndarray], source: str) -> np.ndarray:
    try:
        return np.concatenate(arrays)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: the archives are inconsistent: {error}") from error


def _checked(array: Any, source: str) -> Any:
    """Images [N, H, W] or [N, H, W, C]; raises DataError for others."""
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] > 4):
        raise DataError(f"{source}: images are [N, H, W] or [N, H, W, C] with C up to 4, not {list(array.shape)}")
    if array.dtype.kind not in "biuf" or not array.size:
        raise DataError(f"{source}: images are numbers, one or more, not {array.dtype}{list(array.shape)}")
    return array


def _channels_first(array: np.ndarray) -> np.ndarray:
    array = array[..., None] if array.ndim == 3 else array
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


class JpegImages:
    """JPEG files, decoded to RGB on each access; those of a split that fits into ``CACHED`` bytes only once."""

    def __init__(self, parts: list[tuple[Any, np.ndarray]], source: str) -> None:
        """``parts``: (bytes of the files one after another, offsets [n + 1]) each."""
        self.source = source
        self.files: list[tuple[memoryview | StoredArray, int, int]] = []
        for content, offsets in parts:
            if content.dtype != np.uint8 or offsets.dtype.kind not in "iu":
                raise DataError(
                    f"{source}: JPEG files are {content.dtype} and offsets {offsets.dtype}, not uint8 and whole"
                )
            blob = content if isinstance(content, StoredArray) and content.ndim == 1 else memoryview(_bytes(content))
            ends = offsets.reshape(-1)
            if not ends.size or ends[0] < 0 or np.any(ends[1:] <= ends[:-1]) or ends[-1] > len(blob):
                raise DataError(f"{source}: the offsets do not fit the {len(blob)} JPEG bytes")
            self.files += [(blob, a, b) for a, b in pairwise(ends.tolist())]
        height, width = self._decode(0).shape[:2] if self.files else (1, 1)
        self.shape: Sequence[int] = (len(self.files), 3, height, width)
        self.cached = prod(self.shape) <= CACHED
        self.decoded = torch.empty(self.shape if self.cached else 0, dtype=torch.uint8)
        self.known = torch.zeros(len(self.files), dtype=torch.bool)

    def __getitem__(self, indices: Tensor) -> Tensor:
        if not self.cached:
            found = [self._pixels(index) for index in indices.tolist()]
            return torch.stack(found) if found else torch.empty(0, *self.shape[1:], dtype=torch.uint8)
        for index in indices[~self.known[indices]].tolist():
            self.decoded[index] = self._pixels(index)
            self.known[index] = True
        return self.decoded[indices]

    def _pixels(self, index: int) -> Tensor:
        pixels = torch.from_numpy(self._decode(index)).permute(2, 0, 1)
        if pixels.shape != self.shape[1:]:
            shapes = f"{tuple(pixels.shape[1:])}, not {tuple(self.shape[2:])}"
            raise DataError(f"{self.source}: image {index} has a different size, {shapes}")
        return pixels

    def _decode(self, index: int) -> np.ndarray:
        blob, begin, end = self.files[index]
        content = blob.part(begin, end) if isinstance(blob, StoredArray) else blob[begin:end]
        return np.array(rgb(content, f"{self.source}: image {index}"))


def _bytes(content: np.ndarray | StoredArray) -> bytes:
    return (content.rows(range(len(content))) if isinstance(content, StoredArray) else content).tobytes()
