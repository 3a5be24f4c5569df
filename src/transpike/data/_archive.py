"""NumPy archives, read without pickled objects."""

import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from transpike.errors import DataError

# errors of zipfile and numpy for a damaged archive; the last is an unknown compression method
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, KeyError, NotImplementedError)


def keys(path: Path) -> list[str]:
    """The names of the arrays, without reading them; raises DataError if the archive is damaged."""
    return list(_open(path, lambda key: False)[1])


def read(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The arrays whose names are ``wanted``; raises DataError if the archive is damaged or holds Python objects."""
    return _open(path, wanted)[0]


def is_split(key: str) -> bool:
    """True for a key that belongs to one of the splits."""
    return key.partition("_")[0] in ("train", "test", "val")


def _open(path: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, np.ndarray], list[str]]:
    if not path.is_file():
        raise DataError(f"no data at {path}")
    try:
        with path.open("rb") as file:  # numpy leaves the file open when the archive is damaged
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array; give an archive written by numpy.savez")
            return {key: archive[key] for key in archive.files if wanted(key)}, archive.files
    except DataError:
        raise
    except DAMAGE as error:
        hint = "; write the arrays as numbers, not as Python objects" if "Object arrays" in str(error) else ""
        raise DataError(f"{path} is not a readable .npz archive, or is truncated: {error}{hint}") from error
