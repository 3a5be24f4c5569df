"""Samples in a tar file, as WebDataset has them: members with one name and different extensions, one after another.

Only headers and labels are read; images are read when they are needed. Nothing is unpacked.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from transpike.data._forms import TARGETS
from transpike.data._pictures import SUFFIXES
from transpike.data._shards import Shard
from transpike.errors import DataError

LONGEST_LABEL = 2**20
"""Bytes of a .cls or .json file."""
LARGEST_PICTURE = 2**28
"""Bytes of a packed image, which is in memory while it is decoded."""
PACKED = {
    rb"\x1f\x8b\x08": "gunzip", rb"BZh[1-9]1AY&SY": "bunzip2", rb"\xfd7zXZ\x00": "unxz", rb"\x28\xb5\x2f\xfd": "unzstd",
}  # fmt: skip
"""How packed files begin → what unpacks them."""
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError,
          MemoryError, AttributeError)  # fmt: skip
"""What the standard library raises for damaged tar files."""
_PICTURES = tuple(sorted(suffix[1:] for suffix in SUFFIXES))
LONGEST_HEADER = 2**20
"""Bytes of an extended header."""
_META = re.compile("__[^/]*__(/|$)")
_NAME = re.compile(r"((?:.*/|)[^./][^./]*)[.]([^/]*)", re.DOTALL)


@dataclass(frozen=True)
class Member:
    """A file in the archive: ``size`` bytes from ``offset`` on; ``kind`` says what it is, if it is not a plain file."""

    name: str
    offset: int
    size: int
    kind: str = ""


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one shard, int64 (samples,) each: where the image begins, its bytes, and the label."""

    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def samples(shard: Shard) -> Samples:
    """The labelled images of the shard in their order; raises DataError that names the shard and the member."""
    rows: list[tuple[int, int, int]] = []
    seen: set[str] = set()
    with shard.opened() as file:
        for key, parts in _grouped(shard, file):
            if key in seen:
                raise DataError(f"{shard}: the sample {key} appears twice, or its files are not next to each other")
            seen.add(key)
            picture = _picture(shard, key, parts)
            rows.append((picture.offset, picture.size, _label(shard, file, key, parts)))
    if not rows:
        raise DataError(f"{shard} contains no samples: expected files like 0001.jpg and 0001.cls")
    return Samples(*np.array(rows, np.int64).T.copy())


def name_at(shard: Shard, offset: int) -> str:
    """The name of the member that begins at ``offset``, for messages."""
    try:
        with shard.opened() as file:
            found = next((member.name for member in members(shard, file) if member.offset == offset), None)
    except DataError:
        found = None
    return found or f"the file at byte {offset}"


def members(shard: Shard, file: BinaryIO) -> Iterator[Member]:
    """Every member but folders. Raises DataError where the archive ends early or is damaged."""
    size = shard.size()
    first = file.read(10)
    if tool := next((tool for magic, tool in PACKED.items() if re.match(magic, first)), None):
        raise DataError(
            f"{shard} is compressed as a whole, so single samples cannot be read from it: decompress it with {tool}"
        )
    file.seek(0)
    at = 0
    try:
        # without a compression, which open would look for
        archive = tarfile.TarFile(fileobj=_Headers(file), mode="r")  # type: ignore[arg-type]
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # which would grow with the archive
            if info.size < 0 or archive.offset <= at:
                raise DataError(f"{shard} is damaged: {info.name} has a size of {info.size} bytes")
            if info.offset_data + info.size > size:
                raise DataError(f"{shard} is truncated: {info.name} has {info.size:,} bytes, but the file ends earlier")
            at = archive.offset
            if not info.isdir():
                yield Member(info.name, info.offset_data, info.size, _kind(info))
        _check_end(shard, file, archive.offset)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{shard} is not a readable tar file, or is truncated: {error}") from error


@dataclass(frozen=True)
class _Headers:
    """A tar file as its reader sees it: extended headers state how many bytes they have, and may state any number."""

    file: BinaryIO

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise ValueError(f"a header of {size:,} bytes")
        return self.file.read(size)

    def seek(self, offset: int) -> int:
        return self.file.seek(offset)

    def tell(self) -> int:
        return self.file.tell()


def _check_end(shard: Shard, file: BinaryIO, offset: int) -> None:
    """Zeros follow the last member, and nothing else: the library takes a damaged header for the end of the archive."""
    file.seek(offset)
    first = file.read(tarfile.BLOCKSIZE)
    if len(first) < tarfile.BLOCKSIZE or any(first):
        what = "truncated" if len(first) < tarfile.BLOCKSIZE else "damaged"
        raise DataError(f"{shard} is {what} at byte {offset:,}: there is neither a file nor the end of the archive")
    while part := file.read(2**16):
        if part.count(0) < len(part):
            raise DataError(
                f"{shard} contains data after the end of its archive, as when archives are concatenated: write one"
            )


def _kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link, which is not followed"
    return "" if info.isreg() and not info.issparse() else "not a regular file"


def _grouped(shard: Shard, file: BinaryIO) -> Iterator[tuple[str, dict[str, Member]]]:
    """The key of each sample and its files by extension, in small letters: what follows the first dot of the name."""
    key: str | None = None
    parts: dict[str, Member] = {}
    for member in members(shard, file):
        match = _NAME.fullmatch(member.name)
        if match is None or _META.match(member.name):  # hidden files, metadata of the archive
            continue
        if match[1] != key:
            if key is not None:
                yield key, parts
            key, parts = match[1], {}
        extension = match[2].lower()
        if extension in parts:
            raise DataError(f"{shard}: {member.name} appears twice")
        parts[extension] = member
    if key is not None:
        yield key, parts


def _picture(shard: Shard, key: str, parts: dict[str, Member]) -> Member:
    found = [parts[kind] for kind in _PICTURES if kind in parts]
    if len(found) != 1:
        there = ", ".join(f".{extension}" for extension in parts)
        what = "no image" if not found else "several images"
        raise DataError(f"{shard}: the sample {key} has {what} (.{', .'.join(_PICTURES)}); it has {there}")
    if found[0].kind:
        raise DataError(f"{shard}: {found[0].name} is {found[0].kind}")
    if not 0 < found[0].size <= LARGEST_PICTURE:
        raise DataError(f"{shard}: {found[0].name} has {found[0].size:,} bytes; images have 1 to {LARGEST_PICTURE:,}")
    return found[0]


def _label(shard: Shard, file: BinaryIO, key: str, parts: dict[str, Member]) -> int:
    """The number in .cls, or the one under "label" or a similar key in .json."""
    member = parts.get("cls", parts.get("json"))
    if member is None:
        there = ", ".join(f".{extension}" for extension in parts)
        raise DataError(
            f"{shard}: the sample {key} has no label: expected {key}.cls with its class index, or {key}.json "
            f'like {{"label": 3}}; it has {there}'
        )
    if member.kind or member.size > LONGEST_LABEL:
        raise DataError(f"{shard}: {member.name} is {member.kind or f'not a label: it has {member.size:,} bytes'}")
    file.seek(member.offset)
    content = file.read(member.size)
    if member is parts.get("cls"):
        text = content.decode("ascii", "replace").strip()
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise DataError(f"{shard}: {member.name} is {text[:40]!r}, not a class index")
        return int(text)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shard}: {member.name} is not valid JSON: {error}") from error
    names = [name for name in ("cls", *TARGETS) if isinstance(found, dict) and name in found]
    label = found[names[0]] if names else None
    if type(label) is not int or not 0 <= label < 10**18:
        what = f"{names[0]} is {label!r}"[:80] if names else f"there is none of {', '.join(('cls', *TARGETS))}"
        raise DataError(f"{shard}: {member.name} contains no class index: {what}")
    return label
