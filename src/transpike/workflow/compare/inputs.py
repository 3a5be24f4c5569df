"""Network and data of a comparison, as files that its processes map into memory.

The head holds the network, the calibration and a list of parts, each a file with a few labelled batches. The name of a
file is the SHA-256 of its content, so that the name of the head represents everything. Batches are written while they
are read: at most one part of them is in memory.
"""

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from transpike.core import registry
from transpike.core.annotated import fits
from transpike.core.codec import decode, encode
from transpike.core.graph import Graph
from transpike.core.inputs import Inputs, Place
from transpike.errors import FileError
from transpike.results.writing import tensor_bytes, write_atomically

PART = 2**26
"""Bytes from which on a part is written; a larger batch is a separate part."""
Batches = Iterable[tuple[Any, Tensor]]
"""Labelled batches that can be read several times."""
Opened = tuple[Graph, tuple[Any, ...], Batches, Batches]
"""Source network, calibration batches, test batches and batches for exits."""
Parts = tuple[tuple[str, int], ...]
"""SHA-256 and number of batches of each part."""
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Stored:
    """Labelled batches in parts of ``folder``, read one at a time from the memory-mapped files.

    ``places`` are those of several inputs, which are ``Inputs``.
    """

    folder: Path
    parts: Parts
    places: tuple[Place, ...] | None = None

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        for digest, batches in self.parts:
            with _reading(inputs_path(self.folder, digest)) as file:
                for index in range(batches):
                    yield _joined(file, f"inputs.{index}", self.places), file.get_tensor(f"targets.{index}")


def write_inputs(
    store: Path,
    source: Graph,
    calibration: Sequence[Any],
    data: Iterable[tuple[Any, Tensor]],
    fitting: Iterable[tuple[Any, Tensor]] = (),
) -> str:
    """Write network, data and samples for exits (which are read first) into the store; returns the SHA-256 of the head.

    Where the data raise, what was written is removed.
    """
    created: list[Path] = []
    try:
        for_exits, tests = (_write_parts(store, batches, created) for batches in (fitting, data))
        tensors: dict[str, Tensor] = {}
        graph = encode(source, tensors, "source")
        for index, x in enumerate(calibration):
            tensors |= _tensors(f"calibration.{index}", x)
        places = [list(place) for place in calibration[0].values] if isinstance(calibration[0], Inputs) else None
        content = {
            "source": graph, "places": places, "calibration": len(calibration), "data": tests, "fitting": for_exits,
        }  # fmt: skip
        return _write(store, tensors, {"content": json.dumps(content)}, created)
    except BaseException:
        for path in created:
            path.unlink(missing_ok=True)
        raise


def _write_parts(store: Path, batches: Iterable[tuple[Any, Tensor]], created: list[Path]) -> list[tuple[str, int]]:
    parts: list[tuple[str, int]] = []
    tensors: dict[str, Tensor] = {}
    count = size = 0
    for x, y in batches:
        batch = _tensors(f"inputs.{count}", x) | _tensors(f"targets.{count}", y)
        tensors |= batch
        count, size = count + 1, size + sum(value.nbytes for value in batch.values())
        del x, y, batch  # else the next batch is read while this one is held twice
        if size >= PART:
            parts.append((_write(store, tensors, {}, created), count))
            tensors, count, size = {}, 0, 0
    if count:
        parts.append((_write(store, tensors, {}, created), count))
    return parts


def _write(store: Path, tensors: dict[str, Tensor], metadata: dict[str, str], created: list[Path]) -> str:
    """A file of the store, named by its content; one that is there and whole remains."""
    packed = tensor_bytes({name: value.contiguous() for name, value in tensors.items()}, metadata)
    digest = sha256(packed)
    path = inputs_path(store, digest)
    there = path.exists()
    if not there or sha256(path.read_bytes()) != digest:
        write_atomically(path, packed)
    if not there:
        created.append(path)
    return digest


def open_inputs(path: Path) -> Opened:
    """The content of an inputs file; its test batches are read one at a time."""
    return _opened(path, registry.generation())


@functools.lru_cache(maxsize=1)
def _opened(path: Path, generation: int) -> Opened:
    """``generation``: a class that is registered again must be decoded again, even from the same file."""
    with _reading(path) as file:
        content = json.loads(file.metadata()["content"])
        tensors = {name: file.get_tensor(name) for name in file.keys() if name.startswith("source")}  # noqa: SIM118
        places = None if content["places"] is None else tuple(map(tuple, content["places"]))
        calibration = tuple(_joined(file, f"calibration.{i}", places) for i in range(content["calibration"]))
        tests, fitting = (_parts_of(content[kind]) for kind in ("data", "fitting"))
        source = decode(content["source"], tensors)
        if not isinstance(source, Graph):
            raise FileError("it contains no network")
    return source, calibration, Stored(path.parent, tests, places), Stored(path.parent, fitting, places)


def _parts_of(content: Any) -> Parts:
    """The list of parts in a head; each is a file next to it."""
    parts = tuple(map(tuple, content))
    if not fits(parts, Parts) or not all(_DIGEST.fullmatch(digest) for digest, _ in parts):
        raise ValueError("it lists no parts")
    return parts


def _tensors(name: str, x: Tensor | Inputs) -> dict[str, Tensor]:
    """The tensors of a batch by the names that they have in the file."""
    values = {name: x} if isinstance(x, Tensor) else {f"{name}.{i}": one for i, one in enumerate(x.values.values())}
    return {key: value.detach().cpu().clone() for key, value in values.items()}


def _joined(file: Any, name: str, places: tuple[Place, ...] | None) -> Tensor | Inputs:
    if places is None:
        return file.get_tensor(name)
    return Inputs({place: file.get_tensor(f"{name}.{index}") for index, place in enumerate(places)})


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The file, memory-mapped. Raises FileError for what no comparison has written."""
    try:
        with safe_open(str(path), "pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is damaged ({type(error).__name__}: {error}); delete it, and compare again") from error


def inputs_path(store: Path, digest: str) -> Path:
    """The inputs file with this SHA-256."""
    return store / f"inputs-{digest[:24]}.safetensors"


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
