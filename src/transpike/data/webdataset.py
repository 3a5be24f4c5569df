"""Pictures in tar files, in the layout of WebDataset: 0001.jpg and 0001.cls (or 0001.json) for each sample.

Every shard is read once from its beginning to its end, headers and labels only, to find its samples. After that each
sample can be read alone, so that a data set of any size can be shuffled, divided and counted. An *index* keeps what was
found, for the next time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.data import _shard_index
from transpike.data._base import Dataset, Split, class_names, held_out, statistics
from transpike.data._pictures import cropped, decoded, sides
from transpike.data._shards import Shard, shards
from transpike.data._tar import Samples, name_at
from transpike.errors import DataError

STATISTICS_IMAGES = 256


def load(
    paths: str | Path,
    size: int = 224,
    resize: int | None = None,
    name: str | None = None,
    preprocessing: Preprocessing | None = None,
    note: str = "",
    index: str | Path | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """RGB images (N, 3, size, size), read on demand and scaled as those of image folders.

    ``paths``: a pattern like ``shards/{000..099}.tar``, ``shards/*.tar``, a folder or an address of fsspec, or several,
    separated by ``::``. A shard with train in its name, or else in that of its folder, holds training images; val,
    validation or test means test images; where there are both, val is left out. Where no name says so, a
    ``test_fraction`` of each class is held out, drawn with ``split_seed``. ``index``: a file for the places of all
    samples, read if it fits the shards and written otherwise; by default ``transpike-index.npz`` next to the first
    shard is read, if it is there, and nothing is written. Without ``preprocessing``, mean and deviation come from 256
    training images. Raises DataError, SettingError or MissingExtra.
    """
    size, resize = sides(size, resize)
    found = shards(str(paths))
    name = name or f"webdataset:{paths}"
    splits = [shard.split for shard in found]
    if None in splits and any(splits):
        stated, unclear = (found[splits.index(one)] for one in (next(filter(None, splits)), None))
        raise DataError(f"{stated} has the name of a split, but {unclear} does not: name all of them, or none")
    listed = _shard_index.samples(found, index)
    everything = Places.of(found, listed)
    if not any(splits):
        tested = held_out(everything.labels, test_fraction, split_seed)
        note = note or f"{test_fraction:g} of each class of {len(found)} shards held out, drawn with seed {split_seed}"
    else:
        of_sample = np.repeat([str(split) for split in splits], [len(one) for one in listed])
        tested = of_sample == ("test" if "test" in splits else "val")
        everything, tested = everything[tested | (of_sample == "train")], tested[tested | (of_sample == "train")]
    train, test = everything[~tested], everything[tested]
    classes = class_names(None, train.labels, test.labels, place=name)
    parts = [
        Split(ShardImages(part, size, resize), torch.from_numpy(part.labels), f"{which} images of {name}")
        for which, part in (("training", train), ("test", test))
    ]
    preprocessing = preprocessing or statistics(parts[0], STATISTICS_IMAGES)
    return Dataset(name, parts[0], parts[1], classes, preprocessing, note or f"images in {len(found)} shards")


@dataclass(frozen=True, eq=False)
class Places:
    """Samples of several shards: int64 (samples,) each, 32 bytes for a sample."""

    shards: tuple[Shard, ...]
    numbers: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Shard], listed: Sequence[Samples]) -> "Places":
        """All samples, in the order of the shards."""
        numbers = np.repeat(np.arange(len(found)), [len(one) for one in listed])
        columns = ([getattr(one, column) for one in listed] for column in ("offsets", "sizes", "labels"))
        return cls(tuple(found), numbers, *map(np.concatenate, columns))

    def __getitem__(self, mask: np.ndarray) -> "Places":
        columns = (self.numbers, self.offsets, self.sizes, self.labels)
        return Places(self.shards, *(column[mask] for column in columns))


class ShardImages:
    """Pictures in shards, decoded by several threads on each access: uint8 (n, 3, size, size)."""

    def __init__(self, places: Places, size: int, resize: int) -> None:
        self.places, self.size, self.resize = places, size, resize

    @property
    def shape(self) -> Sequence[int]:
        return (len(self.places.labels), 3, self.size, self.size)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return decoded(indices, self._decode, self.size)

    def _decode(self, index: int) -> Tensor:
        places = self.places
        shard = places.shards[places.numbers[index]]
        offset, size = int(places.offsets[index]), int(places.sizes[index])
        content = shard.read(offset, size)
        if len(content) < size:
            raise DataError(f"{shard} ends before byte {offset + size:,}: it has changed since its samples were listed")
        try:
            return cropped(content, "the image", self.size, self.resize)
        except DataError as error:
            text = str(error).removeprefix("the image")
            raise DataError(f"{shard}: {name_at(shard, offset)}{text}") from error
