"""Arrays that remain in their file, of which only the rows that are needed are read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transpike.errors import DataError

ROWS = 256
"""Rows that are read at once where all of them are looked at."""


@dataclass(frozen=True)
class StoredArray:
    """An array of ``shape`` in the order of C, from byte ``offset`` of the file ``path`` on."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def rows(self, indices: Iterable[int]) -> np.ndarray:
        """A copy of these rows, in this order and in the byte order of this machine. Raises DataError."""
        wanted = list(indices)
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        step = found.itemsize * prod(self.shape[1:])
        content = memoryview(found.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        try:
            with self.path.open("rb", buffering=0) as file:
                for place, index in enumerate(wanted if step else ()):
                    file.seek(self.offset + index * step)
                    self._fill(file, content[place * step : (place + 1) * step])
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    def _fill(self, file: object, content: memoryview) -> None:
        while len(content):
            count = file.readinto(content)  # type: ignore[attr-defined]
            if not count:
                raise DataError(f"{self.path} has become shorter since it was opened")
            content = content[count:]

    def part(self, begin: int, end: int) -> bytes:
        """The elements from ``begin`` to ``end`` of an array of bytes (size,)."""
        return StoredArray(self.path, self.offset + begin, (1, end - begin), self.dtype).rows((0,)).tobytes()


class ArrayImages:
    """Images of one or several arrays [n, H, W] or [n, H, W, C], some of which remain in their files.

    A batch is (n, C, H, W), uint8 or floating, in one type for all. Raises DataError for other shapes and types, and
    for values that are not finite.
    """

    def __init__(self, arrays: Sequence[np.ndarray | StoredArray], source: str) -> None:
        self.arrays, self.source = arrays, source
        one = arrays[0]
        if any(array.shape[1:] != one.shape[1:] or array.dtype != one.dtype for array in arrays):
            kinds = " and ".join(sorted({f"{array.dtype}{list(array.shape[1:])}" for array in arrays}))
            raise DataError(f"{source}: the archives are inconsistent: {kinds}")
        if one.dtype != np.uint8 and one.dtype.kind != "f":
            raise DataError(f"{source}: images must be uint8 (0..255) or floating point, not {one.dtype}")
        self.ends = np.cumsum([len(array) for array in arrays])
        height, width, channels = (*one.shape[1:], 1)[:3]
        self.shape = (int(self.ends[-1]), channels, height, width)
        if one.dtype.kind == "f":
            for chosen in torch.arange(self.shape[0]).split(ROWS):
                if not bool(torch.isfinite(self[chosen]).all()):
                    raise DataError(f"{source}: images contain NaN or infinite values")

    def __getitem__(self, indices: Tensor) -> Tensor:
        places = indices.numpy()
        numbers = np.searchsorted(self.ends, places, side="right")
        dtype = self.arrays[0].dtype
        found = np.empty((len(places), *self.shape[2:], self.shape[1]), dtype.newbyteorder("="))
        for number, array in enumerate(self.arrays):
            chosen = numbers == number
            if chosen.any():
                rows = places[chosen] - (self.ends[number] - len(array))
                read = array.rows(rows.tolist()) if isinstance(array, StoredArray) else array[rows]
                found[chosen] = read.reshape(-1, *found.shape[1:])
        return torch.from_numpy(np.ascontiguousarray(found.transpose(0, 3, 1, 2)))
