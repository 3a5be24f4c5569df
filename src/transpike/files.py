"""Save and load spiking networks: safetensors and JSON, no pickle, written whole or not at all."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from transpike import activations, encoders, exits, neurons, ops, readouts, recipes, schedules
from transpike.core.codec import decode, encode
from transpike.core.encoder import Encoder
from transpike.core.exit import ExitPolicy
from transpike.core.graph import Graph, Input, Node
from transpike.core.preprocessing import Preprocessing
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.time_code import TimeCode
from transpike.errors import FileError, TranspikeError
from transpike.snn import SNN

VERSION = 1
LARGEST_HEADER = 64 * 2**20
"""Bytes; the header of a real file is a few hundred kilobytes."""

_KINDS: dict[str, Any] = {
    "graph": Graph,
    "source": Graph,
    "recipe": Recipe,
    "encoder": Encoder,
    "grid_timesteps": int | None,
}
_FIELDS = ("graph", "source", "recipe", "encoder", "preprocessing", "exact_grid", "ranges", "grid_timesteps")
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Graph,
        Node,
        Input,
        Preprocessing,
        TimeCode,
        *ops.members,
        *activations.members,
        *neurons.members,
        *encoders.members,
        *readouts.members,
        *schedules.members,
        *recipes.members,
        *exits.members,
        ExitPolicy,
    )
}


def save(snn: SNN, path: str | Path, *, metrics: dict[str, Any] | None = None) -> Path:
    """Write ``snn`` to ``path``; ``metrics`` (JSON) are kept beside its provenance.

    The file is safetensors with the graph, recipe and provenance as JSON in its header and a SHA-256 over both. An
    existing file stays whole until the new one is complete. Raises FileError where the disk refuses.
    """
    tensors: dict[str, Tensor] = {}
    content = {name: encode(getattr(snn, name), tensors, name) for name in _FIELDS}
    provenance = snn.provenance | ({"metrics": metrics} if metrics else {})
    if snn.calibrated_readout is not None:
        content["readout"] = encode(snn.calibrated_readout, tensors, "readout")
    if snn.exit is not None:
        score = type(getattr(snn.exit, "score", None))
        if score not in (*_TYPES.values(), type(None)):
            raise FileError(
                f"{path} would hold the exit score {score.__name__}, which no other program knows: use one of "
                "transpike.exits, or dataclasses.replace(snn, exit=None)"
            )
        content["exit"] = encode(snn.exit, tensors, "exit")
    content |= {"rates": snn.rates, "remarks": list(snn.remarks), "provenance": provenance}
    text = json.dumps(content, sort_keys=True)
    metadata = {"transpike": str(VERSION), "content": text, "sha256": _digest(text, tensors)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    return Path(path)


def load(path: str | Path) -> SNN:
    """Read what ``save`` wrote; FileError for a file that is truncated, damaged, foreign or of another version."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    metadata = _metadata(data, path)
    if metadata.get("transpike") != str(VERSION):
        raise FileError(
            f"{path} has format version {metadata.get('transpike')!r}, this transpike reads {VERSION}; "
            "convert the network again or install the matching version"
        )
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} is truncated or damaged ({error}); make it again or restore a copy") from error
    text = metadata.get("content", "")
    if _digest(text, tensors) != metadata.get("sha256"):
        raise FileError(f"{path} is damaged: its checksum does not match its content; make it again or restore a copy")
    try:
        content = json.loads(text)
        fields = {name: decode(content[name], tensors, _TYPES) for name in _FIELDS if name in content}
        if wrong := [name for name, kind in _KINDS.items() if not isinstance(fields.get(name), kind)]:
            raise FileError(f"its {', '.join(wrong)} is of another kind")
        readout = decode(content["readout"], tensors, _TYPES) if "readout" in content else None
        if not isinstance(readout, Readout | None):
            raise FileError("its readout is of another kind")
        policy = decode(content["exit"], tensors, _TYPES) if "exit" in content else None
        if not isinstance(policy, ExitPolicy | None):
            raise FileError("its exit is of another kind")
        return SNN(
            **fields,
            exit=policy,
            calibrated_readout=readout,
            rates=dict(content["rates"]),
            remarks=tuple(content["remarks"]),
            provenance=dict(content["provenance"]),
        )
    except (TranspikeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise FileError(f"{path} does not hold a spiking network that this version can read: {error}") from error


def _metadata(data: bytes, path: Path) -> dict[str, str]:
    """The header's metadata, after checking that a header is there and believable."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else 0
    if not 2 <= size <= LARGEST_HEADER or 8 + size > len(data):
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise FileError(f"{path} is a pickle or a zip archive, not a transpike file; transpike never unpickles")
        raise FileError(f"{path} is truncated, damaged or not a transpike file: its header would be {size} bytes long")
    try:
        metadata = dict(json.loads(data[8 : 8 + size]).get("__metadata__") or {})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is damaged or not a transpike file: its header cannot be read") from error
    if "transpike" not in metadata:
        raise FileError(f"{path} is a safetensors file without a spiking network; give weights with --weights instead")
    return metadata


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed to disk, then renamed."""
    path = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        if isinstance(error, OSError):
            raise FileError(
                f"{path} cannot be written ({error.strerror or error}); an existing file is as it was"
            ) from error
        raise
