"""The writer of every file: whole or not at all, through links, and directly into pipes and the null device."""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from torch import Tensor

from transpike.errors import FileError, SettingError

_OURS = re.compile(r"\.(.+)\.tp-[0-9a-f]{12}\.part", re.DOTALL)
"""Names of temporary files. The part before ``.tp-`` is the beginning of the name of the file that is written."""
_STREAMS = {1: "stdout", 2: "stderr"}


def write_atomically(path: str | Path, data: bytes, *, make_folder: bool = False) -> None:
    """Write ``data`` to ``path``; another process sees the old content or the new one, never a part.

    The data goes to a temporary file in the same folder, is flushed to disk, and the file is renamed; a link is kept,
    and the file that it leads to is replaced. An existing file keeps its permissions. Named pipes, the null device and
    this process's own standard output are written directly. ``make_folder`` creates missing folders.
    Raises FileError for folders, other devices, sockets and terminals, and where the system refuses.
    """
    path = Path(path)
    try:
        target = _target(path)
        if target is None:
            _pour(path, data)
            return
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        with _temporary(target) as (file, name):
            if target.exists():
                name.chmod(stat.S_IMODE(target.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # which does not rename an open file
                file.close()
            name.replace(target)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def check_writable(*paths: str | Path | None, make_folder: bool = False, read_again: bool = False) -> None:
    """Raise FileError where ``write_atomically`` would fail, to be called before long work; None is left out.

    A temporary file is created and removed, because only the system knows its permissions, quotas and mounts.
    ``read_again``: pipes and devices are refused too. Raises SettingError for two paths of one file.
    """
    seen: set[Path] = set()
    for path in [Path(path) for path in paths if path is not None]:
        target = _checked(path, make_folder)
        if target is None and read_again:
            raise FileError(f"{path} is a pipe or a device, but this file is read again: use the name of a file")
        if target in seen:
            raise SettingError(f"{path} is given for two outputs, and one would overwrite the other")
        if target is not None:
            seen.add(target)


def _checked(path: Path, make_folder: bool) -> Path | None:
    try:
        target = _target(path)
        if target is None:
            return None
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        with _temporary(target):
            return target
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def check_folder(path: str | Path) -> Path:
    """The folder ``path``, created where it is missing. Raises FileError if files cannot be created in it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with _temporary(path / "folder"):
            return path
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise FileError(f"files cannot be written into the folder {path}: {reason}") from error


def write_folder(path: str | Path, source: Path, mark: str) -> None:
    """Put the folder ``source`` at ``path``: a copy next to it, flushed, is renamed when it is complete.

    A folder that holds the file ``mark`` is replaced. Raises FileError for what ``check_new_folder`` refuses, and where
    the system refuses; what was there is then unchanged.
    """
    target = Path(os.path.realpath(path))
    check_new_folder(target, mark)
    beside = target.with_name(f".{target.name[:200]}.tp-{secrets.token_hex(6)}.part")
    old = beside.with_suffix(".old")
    try:
        shutil.copytree(source, beside)
        for file in beside.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if target.exists():
            target.rename(old)
        try:
            beside.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def check_new_folder(path: str | Path, mark: str) -> None:
    """Raise FileError where ``write_folder`` would fail: for a file, and for a folder with other content.

    A missing or empty folder is fine, and one that holds the file ``mark``, which ``write_folder`` wrote before.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir():
            raise FileError(f"{path} is a file; use the name of a folder")
        if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file():
            raise FileError(f"{path} contains other files, which would be lost; use the name of a new folder")
        with _temporary(Path(os.path.realpath(path))):
            return
    except OSError as error:
        raise _refusal(path, error) from error


def goes_to_stdout(path: str | Path) -> bool:
    """True where ``path`` is this process's standard output, and not the null device."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return False
    return _stream(status) == 1 and not _is_null(status)


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes depend on its content only.

    The library writes the metadata in random order; here its header is sorted.
    """
    data = safetensors.torch.save(dict(tensors), dict(metadata))
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = header.encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(data)[8 + size :]))


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files whose writer was killed: a living one holds a lock on its file."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 (names only, in folders with many files)
            if _OURS.fullmatch(name):
                _remove_unlocked(folder / name)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, removed at the end; those of killed processes are removed before.

    A locked file next to the folder is there before it and after it, so that a killed process never leaves a folder
    that nobody can tell from a new one.
    """
    base = Path(tempfile.gettempdir())
    for lock in base.glob("transpike-????????????.lock"):
        _remove_unlocked(lock, lock.with_suffix(""))
    while True:
        lock = base / f"transpike-{secrets.token_hex(6)}.lock"
        with lock.open("xb") as file:
            if _lock(file.fileno()) is False or not os.fstat(file.fileno()).st_nlink:
                continue  # another process took it for a leftover, between its creation and its lock
            folder = lock.with_suffix("")
            try:
                folder.mkdir(mode=0o700)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
            return


def _remove_unlocked(path: Path, folder: Path | None = None) -> bool:
    """Remove a file of this user that no living process has locked, and its ``folder``; returns whether it did."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            path.unlink()  # fails while the file is open
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            return True
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if status.st_uid == os.geteuid() and _lock(descriptor) and os.path.samestat(status, path.lstat()):
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed. False if another holds the lock, None if the file system has no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open, locked, empty file next to ``target``, which is removed at the end if it still has its name."""
    while True:
        stem = target.name.encode()[:200].decode(errors="ignore")  # a name has at most 255 bytes
        name = target.with_name(f".{stem}.tp-{secrets.token_hex(6)}.part")
        with name.open("xb") as file:
            if _lock(file.fileno()) is False or not os.fstat(file.fileno()).st_nlink:
                continue  # another process took it for a leftover, between its creation and its lock
            try:
                yield file, name
            finally:
                name.unlink(missing_ok=True)
            return


def _target(path: Path) -> Path | None:
    """The regular file at the end of the links, existing or not; None for what is written directly."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if _stream(status) is not None and not _is_terminal(status):
        return None
    if stat.S_ISREG(status.st_mode):
        if not os.access(path, os.W_OK):
            raise FileError(f"{path} cannot be written: the file is write-protected; choose another name")
        return Path(os.path.realpath(path))
    if stat.S_ISFIFO(status.st_mode) or _is_null(status):
        return None
    kinds = {
        stat.S_ISDIR: "a folder", stat.S_ISSOCK: "a socket", stat.S_ISBLK: "a device",
        stat.S_ISCHR: "a device or a terminal",
    }  # fmt: skip
    kind = next((text for is_kind, text in kinds.items() if is_kind(status.st_mode)), "not a regular file")
    raise FileError(f"{path} cannot be written: it is {kind}; use the name of a file")


def _stream(status: os.stat_result) -> int | None:
    """The number of the standard stream that is this file."""
    for number in _STREAMS:
        with contextlib.suppress(OSError):
            if os.path.samestat(status, os.fstat(number)):
                return number
    return None


def _is_terminal(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and not _is_null(status)


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116


def _pour(path: Path, data: bytes) -> None:
    """Write into a pipe, the null device, or after what this process has written to the same stream."""
    number = _stream(path.stat())
    if number is None:
        with path.open("wb") as file:
            file.write(data)
        return
    getattr(sys, _STREAMS[number]).flush()
    with os.fdopen(os.dup(number), "wb") as file:
        file.write(data)


def _refusal(path: Path, error: Exception) -> FileError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not path.absolute().parent.is_dir():
        return FileError(f"{path} cannot be written: there is no folder {path.absolute().parent}; create it first")
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return FileError(f"{path} cannot be written ({reason}); an existing file is unchanged")
