"""The IDX files of MNIST and its relatives, gzip-compressed or not."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from transpike.core.preprocessing import Preprocessing
from transpike.data._base import Dataset, Split
from transpike.errors import DataError

UNSIGNED_BYTES = 8


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
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)):
        raise DataError(f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions")
    shape = tuple(np.frombuffer(data, ">u4", dimensions, 4).astype(np.int64).tolist())
    if len(data) - header != int(np.prod(shape)):
        raise DataError(f"{path} is truncated or damaged: {len(data) - header} bytes for shape {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()
