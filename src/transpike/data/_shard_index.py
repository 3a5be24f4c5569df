"""A file that keeps where the samples of shards are, so that the shards are read only once to find them."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transpike.data import _archive, _tar
from transpike.data._shards import Local, Shard
from transpike.data._tar import LARGEST_PICTURE, Samples
from transpike.errors import DataError
from transpike.results.writing import check_writable, write_atomically

NAME = "transpike-index.npz"
FORMAT = 1
BEGINNING = 2**14  # bytes
COLUMNS = ("offsets", "sizes", "labels")


def samples(shards: Sequence[Shard], index: str | Path | None) -> list[Samples]:
    """The samples of every shard, from the ``index`` where it fits, else from the shards, and then it is written.

    Without an ``index`` the one next to the first shard is read if it fits, and nothing is written. An index fits
    shards with the same names, sizes and beginnings. Raises DataError for damaged shards, FileError where it cannot be
    written.
    """
    place = _place(shards[0]) if index is None else Path(index).expanduser()
    if index is not None and place is not None and not place.exists():
        check_writable(place)  # before the work
    names, sizes = _marks(shards), [shard.size() for shard in shards]
    if place is not None and place.is_file():
        found = _read(place, names, sizes)
        if found is not None:
            return found
    listed = [_tar.samples(shard) for shard in shards]
    if index is not None and place is not None:
        write_atomically(place, _packed(names, sizes, listed))
    return listed


def _place(shard: Shard) -> Path | None:
    return shard.path.with_name(NAME) if isinstance(shard, Local) else None


def _marks(shards: Sequence[Shard]) -> list[str]:
    """Name and digest of the beginning, where the time of the first file is, so that a rewritten shard is another."""
    digests = (hashlib.sha256(shard.read(0, BEGINNING)).hexdigest() for shard in shards)
    return [f"{shard.name.rpartition('/')[2]} {digest}" for shard, digest in zip(shards, digests, strict=True)]


def _packed(names: list[str], sizes: list[int], listed: list[Samples]) -> bytes:
    columns: dict[str, Any] = {column: np.concatenate([getattr(one, column) for one in listed]) for column in COLUMNS}
    file = io.BytesIO()
    np.savez(
        file, format=np.array(FORMAT), shards=np.array(names), bytes=np.array(sizes),
        counts=np.array([len(one) for one in listed]), **columns,
    )  # fmt: skip
    return file.getvalue()


def _read(path: Path, names: list[str], sizes: list[int]) -> list[Samples] | None:
    """The samples in the index; None if it is that of other shards. DataError for a damaged one."""
    content = _archive.read(path, lambda key: key in ("format", "shards", "bytes", "counts", *COLUMNS))
    wrong = f"{path} is not a shard index that this version of transpike wrote; delete it, and it is written again"
    whole = {key: value for key, value in content.items() if key != "shards"}
    if len(content) != 4 + len(COLUMNS) or any(value.dtype != np.int64 for value in whole.values()):
        raise DataError(wrong)
    if content["format"].shape != () or int(content["format"]) != FORMAT or content["shards"].dtype.kind != "U":
        raise DataError(wrong)
    if content["shards"].tolist() != names or content["bytes"].tolist() != sizes:
        return None
    counts, total = content["counts"], np.array(sizes)
    columns = [content[column] for column in COLUMNS]
    if counts.shape != total.shape or (counts < 1).any() or any(c.shape != (counts.sum(),) for c in columns):
        raise DataError(wrong)
    offsets, lengths, labels = columns
    ends = np.repeat(total, counts)
    if (offsets < 0).any() or (lengths < 1).any() or (lengths > LARGEST_PICTURE).any() or (labels < 0).any():
        raise DataError(wrong)
    if (offsets > ends - lengths).any():
        raise DataError(wrong)
    edges = np.cumsum(counts)[:-1]
    return [Samples(*parts) for parts in zip(*(np.split(column, edges) for column in columns), strict=True)]
