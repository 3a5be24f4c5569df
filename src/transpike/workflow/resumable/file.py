"""The file of an evaluation that can be resumed: what its batches have added up to."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from transpike.codes.time_code import TimeCode
from transpike.core.activity import Activity, Connection, Crossing, Evaluations, LayerActivity
from transpike.core.annotated import wrong_fields
from transpike.core.codec import decode, encode
from transpike.core.digest import content_digest
from transpike.core.marks import Box, Marks
from transpike.core.naming import qualified
from transpike.core.tensor_fields import DTYPES
from transpike.errors import CheckpointError, FileError
from transpike.results.writing import tensor_bytes, write_atomically

FORMAT = "transpike evaluation checkpoint"
VERSION = "1"
_CLASSES = (Activity, LayerActivity, Connection, Evaluations, Crossing, TimeCode, Marks, Box)
KINDS = {name: kind for kind in _CLASSES for name in (qualified(kind), kind.__name__)}
"""What such a file may hold besides numbers, text and tensors, by the name in it."""


@dataclass(frozen=True)
class Saved:
    """One call that goes through data: what it was asked, and how far it is.

    ``facts``: everything that its result depends on besides the samples, as text by name. ``batches`` of ``samples`` in
    all are done, the first one of ``size`` samples; ``chain`` is a digest of all of them. ``state``: what they add up
    to, as plain data for ``core.codec``.
    """

    facts: dict[str, str]
    batches: int
    samples: int
    size: int
    chain: str
    state: Any


class Place(Protocol):
    """Where the file lies. A write is whole or not at all. All raise FileError where the system refuses."""

    def read(self) -> bytes | None: ...
    def write(self, data: bytes) -> None: ...
    def remove(self) -> None: ...


@dataclass(frozen=True)
class FileAt:
    """A file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> bytes | None:
        """The content; None where there is no file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def write(self, data: bytes) -> None:
        write_atomically(self.path, data)

    def remove(self) -> None:
        """Remove the file; of a link the file that it leads to, which ``write`` has written."""
        try:
            Path(os.path.realpath(self.path)).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{self.path} cannot be removed: {error.strerror or error}") from error


def packed(calls: Sequence[Saved]) -> bytes:
    """The file of these calls."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(encode(tuple(vars(one) for one in calls), tensors, "calls"))
    metadata = {"format": FORMAT, "version": VERSION, "content": text, "sha256": content_digest(text, tensors)}
    return tensor_bytes(tensors, metadata)


def unpacked(data: bytes, name: str) -> list[Saved]:
    """The calls in a file called ``name``.

    Raises CheckpointError for a file that is truncated, damaged, of another version, or no such checkpoint.
    """
    metadata = _metadata(data, name)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{name} is not a checkpoint of an evaluation, and is not overwritten: give another path for the checkpoint"
        )
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{name} is a checkpoint of version {metadata.get('version')!r}, and this transpike resumes version "
            f"{VERSION}: finish it with the other transpike, or delete it to restart"
        )
    try:
        text, tensors = metadata["content"], safetensors.torch.load(data)
        if foreign := [str(value.dtype) for value in tensors.values() if value.dtype not in DTYPES]:
            raise ValueError(f"it holds tensors of {foreign[0]}")
        if content_digest(text, tensors) != metadata.get("sha256"):
            raise ValueError("its checksum does not match its content")
        found = [Saved(**one) for one in decode(json.loads(text), tensors, kinds=KINDS)]
        if wrong := [reason for one in found for reason in wrong_fields(Saved, vars(one))]:
            raise ValueError("; ".join(wrong))
    except (SafetensorError, FileError, LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise damaged(name, error) from error
    return found


def damaged(name: str, error: Exception) -> CheckpointError:
    """The error about a file that holds something else than an evaluation."""
    return CheckpointError(
        f"{name} is not a checkpoint, or is truncated or damaged ({type(error).__name__}: {error}). Delete it to "
        "restart, or give another path"
    )


def _metadata(data: bytes, name: str) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    try:
        if not 2 <= size <= len(data) - 8:
            raise ValueError(f"its header would have {size} bytes, and the file has {len(data)}")
        found = dict(json.loads(data[8 : 8 + size]).get("__metadata__") or {})
        if not all(isinstance(value, str) for value in found.values()):
            raise ValueError("the metadata of its header are not text")
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise damaged(name, error) from error
    return found
