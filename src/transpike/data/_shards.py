"""Shards: the files of a data set that is stored in many archives, on this machine or anywhere that fsspec reaches."""

import contextlib
import glob
import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from transpike.errors import DataError, MissingExtra, SettingError

MOST = 2**16
"""Shards of a data set: a pattern of a few letters can name any number of them."""
DEEPEST = 32  # braces in a pattern
NAMED = 3  # missing files that a message names
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""Word → split."""


class Shard(ABC):
    """A file that is read in parts; ``str`` is its name in messages. All methods raise DataError."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the file with its folder, with slashes."""

    @abstractmethod
    def size(self) -> int:
        """Bytes."""

    @abstractmethod
    def opened(self) -> contextlib.AbstractContextManager[BinaryIO]:
        """The file, to read it from its beginning to its end."""

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """A part; fewer bytes where the file ends before."""

    @property
    def split(self) -> str | None:
        """The split that a word of its name states, or else the name of its folder: train, val, test or None."""
        folder, name = ("", *self.name.lower().split("/"))[-2:]
        return next((_SPLITS[word] for word in (*re.findall("[a-z]+", name), folder) if word in _SPLITS), None)


@dataclass(frozen=True)
class Local(Shard):
    """A file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.absolute().as_posix()

    def size(self) -> int:
        with self._reading():
            return self.path.stat().st_size

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        with self._reading(), self.path.open("rb") as file:
            yield file

    def read(self, offset: int, size: int) -> bytes:
        with self.opened() as file:
            file.seek(offset)
            return file.read(size)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self} cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True)
class Remote(Shard):
    """A file of a file system of fsspec; ``url`` as the user gave it, ``path`` in the file system ``files``."""

    url: str
    files: Any
    path: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.path

    def size(self) -> int:
        with self._reading():
            return int(self.files.size(self.path))

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        with self._reading():
            file = self.files.open(self.path, "rb", cache_type="readahead")
        with file:
            yield _Told(file, self)  # type: ignore[misc]

    def read(self, offset: int, size: int) -> bytes:
        with self._reading():
            return self.files.cat_file(self.path, offset, offset + size)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every file system has its own
            reason = f"{type(error).__name__}: {error}"[:300]
            raise DataError(f"{self.url} cannot be read ({reason}): check the address and the credentials") from error


@dataclass(frozen=True)
class _Told:
    """A remote file whose errors name it."""

    file: Any
    shard: Remote

    def read(self, size: int = -1) -> bytes:
        with self.shard._reading():
            return self.file.read(size)

    def seek(self, offset: int) -> int:
        return self.file.seek(offset)

    def tell(self) -> int:
        return self.file.tell()


def shards(patterns: str) -> list[Shard]:
    """The shards of patterns that ``::`` separates: files, folders of .tar files, addresses of fsspec.

    A pattern may have ranges {000..099}, alternatives {a,b} and the wildcards of file names. Shards are in the order of
    the patterns and of the numbers, those of wildcards and folders by name. Raises DataError where there are none, or
    where one is missing, SettingError for a shard that is given twice or for too many, and MissingExtra.
    """
    found: list[Shard] = []
    for pattern in patterns.split("::"):
        for one in _expanded(pattern):
            found += _files(one)
            if len(found) > MOST:
                raise SettingError(f"{patterns} expands to more than {MOST:,} shards")
    if missing := [shard for shard in found if isinstance(shard, Local) and not shard.path.is_file()]:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DataError(f"there is no shard {', '.join(map(str, missing[:NAMED]))}{more}")
    counted = Counter(shard.name for shard in found)
    if twice := next((name for name in sorted(counted) if counted[name] > 1), None):
        raise SettingError(f"{patterns} names the shard {twice} twice, so that its samples would count twice")
    return found


def _expanded(pattern: str) -> Iterator[str]:
    if not pattern:
        raise SettingError("a pattern of shards is empty: write one like shards/train-{000..099}.tar")
    if pattern.count("{") > DEEPEST:
        raise SettingError(f"a pattern of shards has at most {DEEPEST} braces: {pattern[:80]}")
    if Path(pattern).expanduser().is_file():  # a name with braces
        return iter((pattern,))
    return _braces(pattern)


def _braces(text: str) -> Iterator[str]:
    """What ranges and alternatives in braces represent; other braces are letters of the name."""
    start = text.find("{")
    end, commas, depth = -1, [], 0
    for place in range(max(start, 0), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "," and depth == 1:
            commas.append(place)
        if depth == 0:
            end = place
            break
    if end < 0:
        yield text
        return
    inside = text[start + 1 : end]
    parts: Iterator[str] = iter((text[start : end + 1],))
    if commas:
        edges = [start, *commas, end]
        parts = (one for a, b in itertools.pairwise(edges) for one in _braces(text[a + 1 : b]))
    elif match := _RANGE.fullmatch(inside):
        parts = _numbers(*match.groups())
    for part in parts:
        for rest in _braces(text[end + 1 :]):
            yield f"{text[:start]}{part}{rest}"


def _numbers(first: str, last: str) -> Iterator[str]:
    width = max(len(first), len(last)) if first[0] == "0" or last[0] == "0" else 1
    way = 1 if int(first) <= int(last) else -1
    return (f"{number:0{width}d}" for number in range(int(first), int(last) + way, way))


def _files(pattern: str) -> list[Shard]:
    """The shards of a pattern without ranges."""
    if "://" in pattern:
        return _remote(pattern)
    path = Path(pattern).expanduser()
    wild = glob.has_magic(pattern) and not path.exists()
    if wild:
        paths = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 (absolute too)
    elif path.is_dir():
        paths = sorted(path.rglob("*.tar"))
    else:
        return [Local(path)]
    if not paths:
        raise DataError(f"{pattern} {'matches no file' if wild else 'is a folder without .tar files'}")
    return [Local(one) for one in paths]


def _remote(pattern: str) -> list[Shard]:
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem
    except ImportError as error:
        raise MissingExtra(f"the shards {pattern} need fsspec: pip install 'transpike[shards]'") from error
    try:
        files, path = url_to_fs(pattern)
        found = sorted(files.glob(path)) if glob.has_magic(path) else [path]
    except ImportError as error:
        raise MissingExtra(f"the shards {pattern} need another package: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise DataError(
            f"the shards {pattern} cannot be listed ({reason}): check the address and the credentials"
        ) from error
    if not found:
        raise DataError(f"{pattern} matches no file")
    if isinstance(files, LocalFileSystem):
        return [Local(Path(one)) for one in found]
    kind = pattern.partition("://")[0]
    return [Remote(f"{kind}://{str(one).removeprefix('/')}", files, one) for one in found]
