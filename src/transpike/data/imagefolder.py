"""Image folders: ``train/`` and ``val/`` (or ``test/``), each with one folder of images per class.

The layout of Tiny-ImageNet is supported too: images in subfolders of a class folder, and ``val/val_annotations.txt``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.data._base import Dataset, Split, statistics
from transpike.data._names import read_lines, within
from transpike.data._pictures import SUFFIXES, cropped, decoded, sides
from transpike.errors import DataError

STATISTICS_IMAGES = 256


def load(
    directory: str | Path,
    size: int = 224,
    resize: int | None = None,
    name: str | None = None,
    preprocessing: Preprocessing | None = None,
    note: str = "",
) -> Dataset:
    """RGB images (N, 3, size, size), read on demand: shorter side scaled to ``resize``, then a centre crop.

    ``resize`` defaults to size / 0.875 (256 for 224). Without ``preprocessing``, mean and deviation come from 256
    training images. Raises DataError if a folder is missing, empty, or has a class that train/ does not have.
    """
    size, resize = sides(size, resize)
    root = Path(directory).expanduser()
    train = _pictures(root / "train")
    held_out = next((root / n for n in ("val", "test") if (root / n).is_dir()), root / "val")
    test = _annotated(held_out) if (held_out / "val_annotations.txt").is_file() else _pictures(held_out)
    if not train and not test:
        raise DataError(f"{root}: no class folders with images in train/, val/ or test/")
    classes = tuple(sorted({c for _, c in train or test}))
    unknown = sorted({c for _, c in test} - set(classes))
    if unknown:
        raise DataError(f"{held_out}: classes that {root / 'train'} does not have: {', '.join(unknown[:10])}")
    name = name or f"imagefolder:{root}"
    splits = []
    for pictures, which in ((train, "training"), (test, "test")):
        labels = torch.tensor([classes.index(c) for _, c in pictures], dtype=torch.int64)
        images = FolderImages(tuple(p for p, _ in pictures), size, resize)
        splits.append(Split(images, labels, f"{which} images of {name}"))
    preprocessing = preprocessing or statistics(splits[0], STATISTICS_IMAGES)
    return Dataset(name, splits[0], splits[1], classes, preprocessing, note or f"images in {root.name}/")


def _pictures(folder: Path) -> list[tuple[Path, str]]:
    """(file, class) for every image below every class folder, sorted."""
    if not folder.is_dir():
        return []
    folders = sorted(f for f in folder.iterdir() if f.is_dir())
    return [(p, f.name) for f in folders for p in sorted(f.rglob("*")) if p.suffix.lower() in SUFFIXES]


def _annotated(folder: Path) -> list[tuple[Path, str]]:
    listing = folder / "val_annotations.txt"
    rows = [line.split("\t") for line in read_lines(listing) if line]
    return [(within(folder / "images", row[0], listing), row[1]) for row in rows if len(row) > 1]


class FolderImages:
    """Images on disk, decoded by several threads on each access: uint8 (n, 3, size, size)."""

    def __init__(self, paths: tuple[Path, ...], size: int, resize: int) -> None:
        self.paths, self.size, self.resize = paths, size, resize

    @property
    def shape(self) -> Sequence[int]:
        return (len(self.paths), 3, self.size, self.size)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return decoded(indices, self._decode, self.size)

    def _decode(self, index: int) -> Tensor:
        return cropped(self.paths[index], str(self.paths[index]), self.size, self.resize)
