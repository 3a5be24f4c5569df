"""Pictures from files, decoded to RGB within limits."""

import io
import struct
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from transpike.errors import DataError, MissingExtra

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
    """The picture, as Pillow's image in RGB. Raises DataError, beginning with ``place``, or MissingExtra."""
    library = pillow()
    try:
        with library.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{place} claims {width:,} × {height:,} pixels, and at most {MOST_PIXELS:,} are read: "
                    "make it smaller, or get it again if it is not so large"
                )
            return image.convert("RGB")
    except DataError:
        raise
    except (*DAMAGE, library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise DataError(f"{place} cannot be read as a picture: {error}") from error
