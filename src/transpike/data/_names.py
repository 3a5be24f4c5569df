"""Lists of files in text files: the names are those of files next to the list, and of no others."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from transpike.errors import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8; raises DataError."""
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8: {error}") from error


def within(folder: Path, name: str, listing: Path) -> Path:
    """The file ``name`` in ``folder``. Raises DataError for a name that leads elsewhere, or that no file has."""
    foreign = "\0" in name or PurePosixPath(name).name != name or PureWindowsPath(name).name != name
    if foreign or name in ("", ".", "..") or len(name) > 255:
        raise DataError(f"{listing}: {name[:80]!r} is not the name of a file in {folder.name}/")
    return folder / name
