"""Recordings of event cameras in NumPy archives.

Keys, for ``train`` and ``test`` (or ``val``, which counts as test): ``train_t``, ``train_x``, ``train_y``, ``train_p``
(one number per event, see Events), ``train_offsets`` [N + 1] and ``train_labels`` [N]. ``sensor_size`` [width,
height, …] and ``class_names`` are optional; the defaults are the largest coordinate and the largest label.
"""

from pathlib import Path

import numpy as np

from transpike.data import _archive
from transpike.data._base import Dataset, class_names
from transpike.data._recordings import BINS, Events, Kind, Recordings, dataset
from transpike.errors import DataError

ARRAYS = ("t", "x", "y", "p", "offsets", "labels")

MOST_PIXELS = 2**21
"""Twice the pixels of the largest event camera; each frame has all of them, whatever the number of events."""


def is_event_archive(path: Path) -> bool:
    """True if the archive has the arrays of recordings, not of images; JPEG archives have offsets too."""
    names = set(_archive.keys(path)) if path.is_file() else set()
    splits = [name.removesuffix("_offsets") for name in names if name.endswith("_offsets")]
    return any(not names & {f"{split}_jpeg", f"{split}_images"} for split in splits)


def load(path: str | Path, bins: int = BINS, span: int | None = None, frames: Kind = "two-channel") -> Dataset:
    """The archive's recordings as frames; see Frames for ``bins``, ``span`` (microseconds) and ``frames``.

    Raises DataError if the archive is damaged, an array is missing, or the arrays do not fit together.
    """
    path = Path(path).expanduser()
    wanted = {f"{split}_{array}" for split in ("train", "test", "val") for array in ARRAYS}
    found = _archive.read(path, lambda key: key in wanted or key in ("sensor_size", "class_names"))
    held_out = "test" if "test_offsets" in found else "val"
    present = [split for split in ("train", held_out) if f"{split}_offsets" in found]
    if not present:
        raise DataError(
            f"{path}: no recordings found. Expected train_{', train_'.join(ARRAYS)}, or the same with test_ or val_"
        )
    for split in present:
        missing = [f"{split}_{array}" for array in ARRAYS if f"{split}_{array}" not in found]
        if missing:
            raise DataError(f"{path}: {split}_offsets without {', '.join(missing)}")
    width, height = _sensor(path, found, present)
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{path}: a sensor of {width:,} × {height:,} pixels exceeds the limit of {MOST_PIXELS:,}; make the "
            "coordinates smaller"
        )
    splits: list[tuple[Recordings | None, np.ndarray]] = []
    for split in ("train", held_out):
        if split not in present:
            splits.append((None, np.empty(0, np.int64)))
            continue
        t, x, y, p, offsets, labels = (found[f"{split}_{array}"] for array in ARRAYS)
        source = f"{path}: {split}"
        recordings = Recordings(Events(t, x, y, p, width, height, source), offsets)
        if labels.shape != (len(recordings),) or labels.dtype.kind not in "iu":
            what = f"{labels.dtype}{list(labels.shape)}"
            raise DataError(f"{source}: labels are {what}, not an integer for each of {len(recordings)} recordings")
        splits.append((recordings, labels))
    classes = class_names(found.get("class_names"), *(labels for _, labels in splits), place=str(path))
    return dataset(f"npz:{path}", splits[0], splits[1], classes, bins, span, frames, path.name)


def _sensor(path: Path, found: dict[str, np.ndarray], present: list[str]) -> tuple[int, int]:
    """(width, height) as stated in the archive, else one more than the largest coordinates."""
    if "sensor_size" not in found:
        largest = [max((int(found[f"{s}_{axis}"].max(initial=0)) for s in present), default=0) for axis in "xy"]
        return largest[0] + 1, largest[1] + 1
    size = found["sensor_size"]
    if size.ndim != 1 or len(size) < 2 or size.dtype.kind not in "iu" or size[:2].min() < 1:
        raise DataError(f"{path}: sensor_size must be (width, height, ...), not {size.tolist()}")
    return int(size[0]), int(size[1])
