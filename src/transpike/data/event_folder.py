"""Folders of recordings: N-MNIST, CIFAR10-DVS and DVS128 Gesture as distributed, recognised by their files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transpike.data._base import Dataset, held_out
from transpike.data._event_files import read_aedat2, read_aedat3, read_bin
from transpike.data._names import read_lines, within
from transpike.data._recordings import BINS, Events, Kind, Recordings, dataset
from transpike.errors import DataError

Labelled = tuple["Files | Recordings | None", np.ndarray]
GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
DIGITS = tuple("0123456789")
SIDE_NMNIST, SIDE_DVS128 = 34, 128


def load(
    path: str | Path,
    bins: int = BINS,
    span: int | None = None,
    frames: Kind = "two-channel",
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """The recordings below ``path`` as frames; see Frames for ``bins``, ``span`` (microseconds) and ``frames``.

    N-MNIST: ``Train/0`` to ``Train/9`` and ``Test/0`` to ``Test/9`` with .bin files. DVS128 Gesture:
    ``trials_to_train.txt``, ``trials_to_test.txt``, and for each .aedat named there its ``_labels.csv``; every line of
    those is one recording. CIFAR10-DVS: a folder of .aedat per class, without an official split: the test split is a
    ``test_fraction`` of each class, drawn with ``split_seed``. N-MNIST and CIFAR10-DVS are read on demand; gestures are
    kept in memory, 7 bytes per event.
    Raises DataError if files are missing, truncated, or of another format.
    """
    root = Path(path).expanduser()
    root = root / "DvsGesture" if (root / "DvsGesture").is_dir() else root  # the folder in its archive
    name = f"events:{root}"
    if (root / "trials_to_train.txt").is_file():
        train, test = (_gestures(root, f"trials_to_{which}.txt") for which in ("train", "test"))
        return dataset(name, train, test, GESTURES, bins, span, frames, "DVS128 Gesture, official split")
    train, test = (_digits(root / which) for which in ("Train", "Test"))
    if train[0] or test[0]:
        return dataset(name, train, test, DIGITS, bins, span, frames, "N-MNIST, official split")
    found = {folder.name: sorted(folder.glob("*.aedat")) for folder in sorted(root.glob("*/"))}
    found = {label: files for label, files in found.items() if files}
    if not found:
        raise DataError(
            f"{root}: no recordings found. Expected Train/0 … Test/9 with .bin files (N-MNIST), trials_to_train.txt "
            "with .aedat files (DVS128 Gesture), or class folders with .aedat files (CIFAR10-DVS)"
        )
    train, test = _drawn(found, test_fraction, split_seed)
    note = f"CIFAR10-DVS; no official split: {test_fraction:g} of each class held out, drawn with seed {split_seed}"
    return dataset(name, train, test, tuple(found), bins, span, frames, note)


@dataclass(frozen=True, eq=False)
class Files:
    """One recording per file, read on demand."""

    paths: tuple[Path, ...]
    read: Callable[[Path], Events]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Events:
        return self.read(self.paths[index])


def _digits(folder: Path) -> Labelled:
    """The recordings of one split of N-MNIST, by class and name."""
    found = [(path, int(label)) for label in DIGITS for path in sorted((folder / label).glob("*.bin"))]
    if not found:
        return None, np.empty(0, np.int64)
    short = next((path for path, _ in found if not path.stat().st_size or path.stat().st_size % 5), None)
    if short is not None:
        raise DataError(f"{short} is truncated: {short.stat().st_size} bytes are not events of 5 bytes")
    return (
        Files(tuple(path for path, _ in found), _digit, SIDE_NMNIST, SIDE_NMNIST),
        np.array([label for _, label in found]),
    )


def _digit(path: Path) -> Events:
    return read_bin(path, SIDE_NMNIST, SIDE_NMNIST)


def _drawn(found: dict[str, list[Path]], test_fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    """Training and test files, drawn class by class."""
    paths = [path for files in found.values() for path in files]
    labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
    tested = held_out(labels, test_fraction, seed)
    train, test = (
        (Files(tuple(paths[i] for i in np.flatnonzero(part)), _object, SIDE_DVS128, SIDE_DVS128), labels[part])
        if part.any()
        else (None, labels[part])
        for part in (~tested, tested)
    )
    return train, test


def _object(path: Path) -> Events:
    """A recording of CIFAR10-DVS, upright.

    The camera was rotated: the chip's y runs along the rows of the image and its x along the columns, both reversed
    (github.com/jackd/events-tfds, pull request 1).
    """
    t, x, y, p = read_aedat2(path)
    side = SIDE_DVS128 - 1
    columns, rows = (side - y).astype(np.uint8), (side - x).astype(np.uint8)
    return Events(t.astype(np.int64), columns, rows, p.astype(np.uint8), SIDE_DVS128, SIDE_DVS128, str(path))


def _gestures(root: Path, trials: str) -> Labelled:
    """Every labelled span of every file that ``trials`` names; times are relative to the start of the span."""
    listing = root / trials
    if not listing.is_file():
        raise DataError(f"{root} has no {trials}")
    names = [line.strip() for line in read_lines(listing) if line.strip()]
    parts: list[tuple[np.ndarray, ...]] = []
    labels: list[int] = []
    for name in names:
        events = read_aedat3(within(root, name, listing), SIDE_DVS128, SIDE_DVS128)
        for label, start, end in _label_rows(root / f"{Path(name).stem}_labels.csv"):
            inside = (events.t >= start) & (events.t < end)
            t = (events.t[inside] - start).astype(np.int32)
            parts.append((t, events.x[inside].astype(np.uint8), events.y[inside].astype(np.uint8), events.p[inside]))
            labels.append(label - 1)
    if not parts:
        return None, np.empty(0, np.int64)
    offsets = np.cumsum([0] + [len(part[0]) for part in parts])
    t, x, y, p = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Recordings(Events(t, x, y, p, SIDE_DVS128, SIDE_DVS128, str(listing)), offsets), np.array(labels)


def _label_rows(path: Path) -> list[tuple[int, int, int]]:
    """(class from 1, start, end) in microseconds, after a header line."""
    if not path.is_file():
        raise DataError(f"no labels at {path}")
    rows = []
    for number, line in enumerate(read_lines(path)[1:], 2):
        cells = [cell.strip() for cell in line.split(",")]
        if cells == [""]:
            continue
        if len(cells) != 3 or not all(cell.isascii() and cell.isdigit() and len(cell) < 19 for cell in cells):
            raise DataError(f"{path}, line {number}: expected class,start,end in integers, not {line!r}")
        label, start, end = map(int, cells)
        if not 1 <= label <= len(GESTURES) or start >= end:
            raise DataError(f"{path}, line {number}: class {label} of 1 to {len(GESTURES)}, from {start} to {end}")
        rows.append((label, start, end))
    return rows
