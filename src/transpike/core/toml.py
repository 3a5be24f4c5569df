"""TOML files that people write."""

import tomllib
from pathlib import Path
from typing import Any

from transpike.errors import FileError


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises FileError if it cannot be read, or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise FileError(f"{path} is not TOML that can be read: its brackets are nested too deeply") from None
    except ValueError as error:  # also an integer with thousands of digits, and bytes that are not UTF-8
        raise FileError(f"{path} is not TOML: {error}") from None
