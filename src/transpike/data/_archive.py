"""NumPy archives, read without pickled objects."""

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from transpike.data._stored import StoredArray
from transpike.errors import DataError

# errors of zipfile and numpy for a damaged archive; numpy's reader of headers raises what Python's parser raises
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, LookupError, TypeError, SyntaxError,
    OverflowError, RecursionError, MemoryError, RuntimeError, struct.error, tokenize.TokenError, AttributeError,
)  # fmt: skip
MAGIC = b"\x93NUMPY"
MOST_PACKED = 1100
"""Bytes that a packed byte can expand to at most, rounded up."""
LONGEST_ITEM = 2**16
"""Bytes of one element: a text of 16,384 characters."""
LARGE = 2**28
"""Bytes from which on an array that is not compressed remains in its file."""
LOCAL_HEADER = 30
"""Bytes of a zip member's header before its name; the lengths of name and extra field are its last two numbers."""


def keys(path: Path) -> list[str]:
    """The names of the arrays, without reading them; raises DataError if the archive is damaged."""
    return list(_open(path, lambda key: False)[1])


def read(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The arrays whose names are ``wanted``; raises DataError if the archive is damaged or holds Python objects."""
    return _open(path, wanted)[0]  # type: ignore[return-value]


def read_partly(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray | StoredArray]:
    """As ``read``; large arrays that are not compressed are checked, and remain in the file."""
    return _open(path, wanted, partly=True)[0]


def is_split(key: str) -> bool:
    """True for a key that belongs to one of the splits."""
    return key.partition("_")[0] in ("train", "test", "val")


def _open(
    path: Path, wanted: Callable[[str], bool], partly: bool = False
) -> tuple[dict[str, np.ndarray | StoredArray], list[str]]:
    if not path.is_file():
        raise DataError(f"no data at {path}")
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                raise DataError(f"{path} is a single array; pass an archive written by numpy.savez")
            with zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                arrays = {key: _array(archive, info, path, partly) for key, info in members.items() if wanted(key)}
                return arrays, list(members)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path} is not a readable .npz archive, or is truncated: {error}") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, partly: bool) -> np.ndarray | StoredArray:
    """One array, in this machine's byte order. Raises ValueError for anything except numbers, texts and dates.

    The header is checked before memory is reserved: it states a shape of any size.
    """
    if info.file_size > MOST_PACKED * (info.compress_size + 100):
        raise ValueError(f"{info.filename} declares {info.file_size:,} bytes, but has {info.compress_size:,}")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"{info.filename} is an array of the unsupported format {version}")
        shape, by_columns, dtype = read(file)
        if dtype.kind == "O":
            raise ValueError(f"{info.filename} contains Python objects; write the arrays as numbers")
        if dtype.kind not in "biufcUS" or dtype.itemsize > LONGEST_ITEM:
            raise ValueError(f"{info.filename} contains {dtype}, which is neither numbers nor short texts")
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"{info.filename} has the shape {shape}")
        there, needed = info.file_size - file.tell(), prod(shape) * dtype.itemsize
        if needed != there or len(shape) > 32:
            raise ValueError(f"{info.filename} of shape {shape} needs {needed:,} bytes, but has {there:,}")
        if partly and needed >= LARGE and info.compress_type == zipfile.ZIP_STORED and shape and not by_columns:
            begin = file.tell()
            _read_through(file)
            return StoredArray(path, _begin(path, info) + begin, shape, dtype)
    with archive.open(info) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_through(file: IO[bytes]) -> None:
    """Read to the end, where the library compares the checksum."""
    while file.read(2**20):
        pass


def _begin(path: Path, info: zipfile.ZipInfo) -> int:
    """Where in the archive the content of a member begins."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = struct.unpack("<HH", file.read(LOCAL_HEADER)[-4:])
    return info.header_offset + LOCAL_HEADER + name + extra
