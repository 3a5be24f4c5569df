"""Tar files of pictures for tests."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np


def picture(level: int, kind: str = "PNG", size: tuple[int, int] = (12, 8)) -> bytes:
    """A picture of one grey level."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(file, kind)
    return file.getvalue()


def noise(seed: int, kind: str = "JPEG", size: tuple[int, int] = (12, 8)) -> bytes:
    """A picture of random pixels."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar file of these members, in this order; names may occur twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(keys: Iterable[int], classes: int = 3, label: str = "cls", kind: str = "png") -> dict[str, bytes]:
    """Members of a sample for each key: a picture of level 10·key mod 250 and the label key mod ``classes``."""
    found = {}
    for key in keys:
        found[f"{key:04d}.{kind}"] = picture(10 * key % 250, "PNG" if kind == "png" else "JPEG")
        number = key % classes
        found[f"{key:04d}.{label}"] = (
            str(number).encode() if label == "cls" else json.dumps({"label": number, "caption": "grey"}).encode()
        )
    return found
