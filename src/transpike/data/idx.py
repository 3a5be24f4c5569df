"""The IDX files of MNIST and its relatives, gzip-compressed or not."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch

from transpike.core.preprocessing import Preprocessing
from transpike.data._base import Dataset, Split
from transpike.errors import DataError

UNSIGNED_BYTES = 8
MOST_PACKED = 1100
"""Bytes that a byte of a gzip file can expand to at most, rounded up."""


def load(
    files: tuple[Path, Path, Path, Path], name: str, classes: tuple[str, ...], preprocessing: Preprocessing, note: str
) -> Dataset:
    """``files``: training images, training labels, test images, test labels. Raises DataError for a damaged one."""
    splits = []
    for images, labels, which in ((*files[:2], "training"), (*files[2:], "test")):
        pixels = torch.from_numpy(_read(images, 3)).unsqueeze(1)
        splits.append(Split(pixels, torch.from_numpy(_read(labels, 1)).long(), f"{which} images of {name}"))
    return Dataset(name, splits[0], splits[1], classes, preprocessing, note)


def _read(path: Path, dimensions: int) -> np.ndarray:
    length = 4 + 4 * dimensions
    try:
        packed = path.suffix == ".gz"
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(length)
            if len(header) < length or header[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)):
                raise DataError(f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions")
            shape = tuple(np.frombuffer(header, ">u4", dimensions, 4).tolist())
            size = path.stat().st_size
            if prod(shape) > size * (MOST_PACKED if packed else 1):
                raise DataError(f"{path} is truncated or damaged: {size} bytes for shape {shape}")
            data = file.read(prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(data) != prod(shape):
        raise DataError(f"{path} is truncated or damaged: {len(data)} bytes or more for shape {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()
