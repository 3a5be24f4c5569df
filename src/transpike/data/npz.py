"""Data sets in NumPy archives, without pickled objects.

Keys, for ``train`` and ``test`` (or ``val``, which counts as test): ``train_images`` uint8 or floating [N, H, W] or
[N, H, W, C] with ``train_labels``; or ``train_jpeg`` (the files one after another), ``train_offsets`` [N + 1] and
``train_labels``. ``class_names`` is optional, and one of the splits may be missing. An archive with targets of another
task than classification, ``train_labels`` [N, …], has an entry ``task`` like "regression" or
"pixel-classification:ignore_index=255". An archive for a network with several inputs has ``train_input_NAME`` for each
instead of ``train_images`` (_named_arrays).
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.core.registry import family
from transpike.core.task import Task
from transpike.data import _archive, _named_arrays
from transpike.data._base import Dataset, Images, Split, class_names, statistics
from transpike.data._pictures import rgb
from transpike.errors import DataError, SettingError

# decoding JPEG takes about 0.1 ms per image, so mean and deviation come from a part of a large archive
STATISTICS_IMAGES = 4096


def load(
    paths: str | Path | Sequence[Path],
    name: str | None = None,
    classes: tuple[str, ...] | None = None,
    preprocessing: Preprocessing | None = None,
    note: str = "",
) -> Dataset:
    """One archive, or several whose splits are concatenated; raises DataError for an unusable archive."""
    files = [Path(paths).expanduser()] if isinstance(paths, str | Path) else list(paths)
    name = name or f"npz:{files[0]}"
    archives = [
        _archive.read(file, lambda key: key in ("class_names", "task") or _archive.is_split(key)) for file in files
    ]
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
            f"{', '.join(map(str, files))}: no images. Wanted train_images and train_labels, or train_jpeg, "
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
        preprocessing = statistics(train, None if isinstance(train.images, Tensor) else STATISTICS_IMAGES)
    return Dataset(name, train, test, classes, preprocessing, note or ", ".join(file.name for file in files), task=task)


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


def _split(parts: list[tuple[dict[str, np.ndarray], str]], source: str, task: Task | None = None) -> Split:
    if not parts:
        return Split(torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), source)
    images: Images
    given = [archive[f"{key}_labels"] for archive, key in parts]
    labels = _joined([array.reshape(-1) for array in given] if task is None else given, source)
    if labels.dtype.kind not in ("iu" if task is None else "biuf"):
        raise DataError(f"{source}: labels are {labels.dtype}, not whole numbers")
    if labels.dtype == np.uint64 and len(labels) and labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"{source}: there is a label {labels.max()}; labels number the classes from 0 on")
    if all(f"{key}_images" in archive for archive, key in parts):
        arrays = [_channels_first(archive[f"{key}_images"], source) for archive, key in parts]
        images = torch.from_numpy(_joined(arrays, source))
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
        raise DataError(f"{source}: the archives do not fit together: {error}") from error


def _channels_first(array: np.ndarray, source: str) -> np.ndarray:
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] > 4:
        raise DataError(f"{source}: images are [N, H, W] or [N, H, W, C] with C up to 4, not {list(array.shape)}")
    if array.dtype.kind not in "biuf" or not array.size:
        raise DataError(f"{source}: images are numbers, one or more, not {array.dtype}{list(array.shape)}")
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


class JpegImages:
    """JPEG files in memory, decoded to RGB on first access and then cached."""

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray]], source: str) -> None:
        """``parts``: (bytes of the files one after another, offsets [n + 1]) each."""
        self.source = source
        self.files: list[memoryview] = []
        for content, offsets in parts:
            if content.dtype != np.uint8 or offsets.dtype.kind not in "iu":
                raise DataError(
                    f"{source}: JPEG files are {content.dtype} and offsets {offsets.dtype}, not uint8 and whole"
                )
            blob, ends = memoryview(content.tobytes()), offsets.reshape(-1)
            if not ends.size or ends[0] < 0 or np.any(ends[1:] <= ends[:-1]) or ends[-1] > len(blob):
                raise DataError(f"{source}: the offsets do not fit the {len(blob)} JPEG bytes")
            self.files += [blob[a:b] for a, b in pairwise(ends.tolist())]
        height, width = self._decode(0).shape[:2] if self.files else (1, 1)
        try:
            self.decoded = torch.empty(len(self.files), 3, height, width, dtype=torch.uint8)
        except RuntimeError as error:
            raise DataError(f"{source}: {len(self.files)} images of {height} × {width} need too much memory") from error
        self.known = torch.zeros(len(self.files), dtype=torch.bool)

    @property
    def shape(self) -> Sequence[int]:
        return self.decoded.shape

    def __getitem__(self, indices: Tensor) -> Tensor:
        for index in indices[~self.known[indices]].tolist():
            pixels = torch.from_numpy(self._decode(index)).permute(2, 0, 1)
            if pixels.shape != self.decoded.shape[1:]:
                shapes = f"{tuple(pixels.shape[1:])}, not {tuple(self.decoded.shape[2:])}"
                raise DataError(f"{self.source}: image {index} is of another size, {shapes}")
            self.decoded[index] = pixels
            self.known[index] = True
        return self.decoded[indices]

    def _decode(self, index: int) -> np.ndarray:
        return np.array(rgb(self.files[index], f"{self.source}: image {index}"))
