"""Network and data of a comparison, as one file that its processes map into memory."""

import contextlib
import functools
import hashlib
import json
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

FITTING = "fitting."
Batches = Iterable[tuple[Any, Tensor]]
"""Labelled batches that can be read several times."""
Opened = tuple[Graph, tuple[Any, ...], Batches, Batches]
"""Source network, calibration batches, test batches and batches for exits."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Labelled batches of an inputs file, read one at a time from the memory-mapped file; ``kind`` names them there.

    ``places`` are those of several inputs, which are ``Inputs``.
    """

    path: Path
    batches: int
    kind: str = ""
    places: tuple[Place, ...] | None = None

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        with _reading(self.path) as file:
            for index in range(self.batches):
                targets = file.get_tensor(f"{self.kind}targets.{index}")
                yield _joined(file, f"{self.kind}inputs.{index}", self.places), targets


def write_inputs(
    store: Path,
    source: Graph,
    calibration: Sequence[Any],
    data: Sequence[tuple[Any, Tensor]],
    fitting: Sequence[tuple[Any, Tensor]] = (),
) -> str:
    """Write network, data and samples for exits to one file in the store, named by its SHA-256, and return that."""
    tensors: dict[str, Tensor] = {}
    graph = encode(source, tensors, "source")
    for index, x in enumerate(calibration):
        tensors |= _parts(f"calibration.{index}", x)
    for kind, batches in (("", data), (FITTING, fitting)):
        for index, (x, y) in enumerate(batches):
            tensors |= _parts(f"{kind}inputs.{index}", x)
            tensors[f"{kind}targets.{index}"] = y.detach().cpu().clone()
    places = [list(place) for place in calibration[0].values] if isinstance(calibration[0], Inputs) else None
    counts = {"calibration": len(calibration), "batches": len(data), "fitting": len(fitting)}
    content = {"source": graph, "places": places, **counts}
    packed = tensor_bytes({k: v.contiguous() for k, v in tensors.items()}, {"content": json.dumps(content)})
    digest = sha256(packed)
    path = inputs_path(store, digest)
    if not path.exists() or sha256(path.read_bytes()) != digest:
        write_atomically(path, packed)
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
        counts = content["batches"], content["fitting"]
        source = decode(content["source"], tensors)
        if not isinstance(source, Graph) or not fits(counts, tuple[int, int]):
            raise FileError("it holds no network")
    tests, fitting = Stored(path, counts[0], places=places), Stored(path, counts[1], FITTING, places)
    return source, calibration, tests, fitting


def _parts(name: str, x: Tensor | Inputs) -> dict[str, Tensor]:
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
