"""Images from files, decoded to RGB within limits."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike.errors import DataError, MissingExtra, SettingError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}
"""File extensions of images."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
"""Formats that are decoded, whatever the file is called: some other decoders of Pillow start other programs."""
MOST_PIXELS = 2**26
"""About 8,192 × 8,192: decoded to RGB, 192 MiB. A file of a few kilobytes can claim any size."""
DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, zlib.error,
    MemoryError, AttributeError, NotImplementedError,
)  # fmt: skip
"""What Pillow's decoders raise for damaged files."""


def pillow() -> ModuleType:
    """Pillow's Image module; MissingExtra without it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(f"reading JPEG and PNG needs Pillow: pip install 'transpike[images]' ({error})") from error
    return Image


def rgb(source: Path | bytes | memoryview, place: str) -> Any:
    """The image, as Pillow's image in RGB. Raises DataError, beginning with ``place``, or MissingExtra."""
    library = pillow()
    try:
        with library.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{place} declares {width:,} × {height:,} pixels; the limit is {MOST_PIXELS:,}: "
                    "make it smaller, or download it again if the size is wrong"
                )
            return image.convert("RGB")
    except DataError:
        raise
    except (*DAMAGE, library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise DataError(f"{place} cannot be read as an image: {error}") from error


def sides(size: int, resize: int | None) -> tuple[int, int]:
    """Side of the images, and that to which the shorter one is scaled before: by default size / 0.875."""
    if size < 1 or (resize is not None and resize < size):
        raise SettingError(f"size must be at least 1, and resize at least size; not size={size}, resize={resize}")
    return size, resize or round(size / 0.875)


def cropped(source: Path | bytes, place: str, size: int, resize: int) -> Tensor:
    """The centre of the image, uint8 (3, size, size): its shorter side is scaled to ``resize``. Raises as ``rgb``."""
    image = rgb(source, place)
    width, height = image.size
    scale = resize / min(width, height)
    wanted = (max(size, round(width * scale)), max(size, round(height * scale)))
    if wanted[0] * wanted[1] > MOST_PIXELS:
        raise DataError(f"{place} has {width} × {height} pixels, which is too long and narrow to be scaled")
    picture = image.resize(wanted, pillow().Resampling.BILINEAR)
    left, top = (wanted[0] - size) // 2, (wanted[1] - size) // 2
    return torch.from_numpy(np.array(picture.crop((left, top, left + size, top + size)))).permute(2, 0, 1)


def decoded(indices: Tensor, decode: Callable[[int], Tensor], size: int) -> Tensor:
    """Images (n, 3, size, size) of ``decode`` for each index, by several threads."""
    if not len(indices):
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    pillow()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return torch.stack(list(pool.map(decode, indices.tolist())))
