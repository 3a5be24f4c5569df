"""Which transpike this is: versions, and a digest of its sources."""

import functools
import hashlib
from pathlib import Path

import torch

from transpike import errors
from transpike.core.version import __version__


def sources() -> dict[str, Path]:
    """The package's Python sources by their path in it, except those that only show results."""
    root = Path(errors.__file__).parent
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.py"))}
    return {name: path for name, path in found.items() if not name.startswith(("cli/", "report/"))}


@functools.cache
def code_digest() -> str:
    """Digest of the package's sources: results depend on the code."""
    digest = hashlib.sha256()
    for name, path in sources().items():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def versions() -> str:
    """Everything that the bits of results depend on: versions of transpike and torch, and the installed code."""
    return f"transpike {__version__} (code {code_digest()[:12]}), torch {torch.__version__}"
