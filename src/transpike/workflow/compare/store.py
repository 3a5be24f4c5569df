"""Where results are kept: a local folder, or any place that fsspec reaches, as s3://bucket/folder."""

import contextlib
import json
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transpike.core.installation import code_digest
from transpike.core.version import __version__
from transpike.errors import FileError, MissingExtra, SettingError
from transpike.results.writing import check_folder, write_atomically
from transpike.workflow.compare.units import FORMAT

MARK = "transpike-store.json"
"""The file that says which versions wrote a store."""
PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"}
"""Protocols of stores in which a file appears when it is complete; elsewhere it is written next to its place."""


class Store(ABC):
    """Files by name. Several processes may write at once: a file is there whole or not at all, and the last one wins.

    ``read`` gives None for a file that is not there, and ``remove`` does nothing. All raise FileError where the system
    refuses.
    """

    @abstractmethod
    def read(self, name: str) -> bytes | None: ...

    @abstractmethod
    def write(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class Folder(Store):
    """A local folder, or one that several machines share."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(f"{self.path / name} cannot be read: {error.strerror or error}") from error

    def write(self, name: str, data: bytes) -> None:
        write_atomically(self.path / name, data)

    def remove(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{self.path / name} cannot be removed: {error.strerror or error}") from error


@dataclass(frozen=True)
class Remote(Store):
    """A place of a file system of fsspec; ``url`` as the user gave it, ``path`` in the file system ``files``."""

    url: str
    files: Any
    path: str

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes | None:
        try:
            return self.files.cat_file(f"{self.path}/{name}")
        except FileNotFoundError:
            return None
        except Exception as error:  # every file system has its own
            raise self._refused("read", name, error) from error

    def write(self, name: str, data: bytes) -> None:
        place = f"{self.path}/{name}"
        protocols = self.files.protocol if isinstance(self.files.protocol, tuple) else (self.files.protocol,)
        try:
            if PUT_WHOLE & {*protocols}:
                self.files.pipe_file(place, data)
                return
            self.files.makedirs(self.path, exist_ok=True)
            part = f"{self.path}/.{name}.tp-{secrets.token_hex(6)}.part"
            try:
                self.files.pipe_file(part, data)
                self.files.mv(part, place)
            except BaseException:
                with contextlib.suppress(Exception):
                    self.files.rm_file(part)
                raise
        except Exception as error:
            raise self._refused("written", name, error) from error

    def remove(self, name: str) -> None:
        try:
            self.files.rm_file(f"{self.path}/{name}")
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._refused("removed", name, error) from error

    def _refused(self, what: str, name: str, error: Exception) -> FileError:
        reason = f"{type(error).__name__}: {error}"[:300]
        return FileError(
            f"{name} cannot be {what} in the store {self.url} ({reason}): check the address and the credentials"
        )


@dataclass(frozen=True)
class Entry:
    """A file of a store."""

    store: Store
    name: str

    def __str__(self) -> str:
        return f"{self.name} of the store {self.store}"

    def read(self) -> bytes | None:
        return self.store.read(self.name)

    def write(self, data: bytes) -> None:
        self.store.write(self.name, data)

    def remove(self) -> None:
        self.store.remove(self.name)


def store_at(place: str | Path) -> Store:
    """The store at a folder or an address of fsspec.

    Raises FileError for a folder that cannot be written, SettingError for an unknown kind of address, MissingExtra
    without fsspec, or without the package that fsspec needs for this kind.
    """
    url = str(place)
    if isinstance(place, Path) or "://" not in url:
        return Folder(check_folder(place))
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem
    except ImportError as error:
        raise MissingExtra(f"the store {url} needs fsspec: pip install 'transpike[cluster]'") from error
    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        raise MissingExtra(f"the store {url} needs another package: {error}") from error
    except Exception as error:
        raise SettingError(f"the store {url} is not an address that fsspec knows: {error}") from error
    return Folder(check_folder(path)) if isinstance(files, LocalFileSystem) else Remote(url, files, path.rstrip("/"))


def enter(store: Store, together: bool = False, begun: bool = False) -> None:
    """Mark the store with these versions; one that is ``begun`` has its mark.

    Raises FileError for a store of another format, version or torch, and, where several runs work ``together`` on one
    table, for one that another code of transpike wrote: their results would not be found by each other.
    """
    ours = {"format": FORMAT, "transpike": __version__, "torch": torch.__version__, "code": code_digest()}
    data = store.read(MARK)
    if data is None and begun:
        raise FileError(f"the store {store} contains no results: measure units into it before you collect them")
    if data is not None:
        try:
            found = json.loads(data)
            theirs = {name: found[name] for name in ours}
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise FileError(f"{MARK} of the store {store} is damaged: delete it, and compare again") from error
        if theirs == ours:
            return
        if together or {**theirs, "code": ""} != {**ours, "code": ""}:
            raise FileError(
                f"the store {store} was written by {_told(theirs)}, but this is {_told(ours)}: their results are not "
                "mixed in one table. Use that version, or another store"
            )
    store.write(MARK, json.dumps(ours, indent=1).encode())


def _told(mark: dict[str, Any]) -> str:
    return (
        f"transpike {mark['transpike']} (code {str(mark['code'])[:12]}, store format {mark['format']}) "
        f"with torch {mark['torch']}"
    )
