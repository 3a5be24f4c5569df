"""Network and data of a comparison, as one file that its processes map into memory."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from transpike.core import registry
from transpike.core.annotated import fits
from transpike.core.codec import decode, encode
from transpike.core.encoder import Encoder
from transpike.core.graph import Graph
from transpike.core.input_check import InputCheck
from transpike.core.input_statistics import InputStatistics
from transpike.core.preprocessing import Preprocessing
from transpike.data.batches import inputs, pairs
from transpike.errors import DataError, FileError
from transpike.results.writing import tensor_bytes, write_atomically


def first_batches(calibration: Any, samples: int | None) -> tuple[Tensor, ...]:
    """Calibration batches before preprocessing."""
    if calibration is None:
        raise DataError("a comparison needs calibration data: pass calibration=a tensor or a loader of training inputs")
    return tuple(x.cpu() for x, _ in _limited(((x, None) for x in inputs(calibration)), samples))


def labelled_batches(
    data: Any, limit: int | None, shape: tuple[int, ...] | None, needs_targets: bool = True
) -> list[tuple[Tensor, Tensor]]:
    """Batches of (input, target) with at most ``limit`` samples; DataError without targets or samples.

    A task that needs no targets gets zeros, which it does not read.
    """
    batches = []
    for x, y in _limited(pairs(data, shape), limit):
        if not needs_targets:
            y = torch.zeros(len(x))
        elif y is None:
            raise DataError("a comparison needs targets: give data as batches of (input, target)")
        if len(x) != len(y):
            raise DataError(f"a batch has {len(x)} inputs and {len(y)} targets")
        batches.append((x, y))
    if not batches:
        raise DataError("there are no samples to compare with")
    return batches


def _limited(
    batches: Iterable[tuple[Tensor, Tensor | None]], limit: int | None
) -> Iterable[tuple[Tensor, Tensor | None]]:
    seen = 0
    for x, y in batches:
        if limit is not None and seen >= limit:
            return
        keep = len(x) if limit is None else limit - seen
        yield x[:keep], None if y is None else y[:keep]
        seen += len(x)


def input_warnings(
    calibration: Sequence[Tensor],
    data: Iterable[tuple[Tensor, Any]],
    preprocessing: Preprocessing | None,
    encoder: Encoder,
    any_input: bool,
) -> tuple[str, ...]:
    """Differences between ``data`` and the prepared ``calibration``; DataError, before the work, for clear ones."""
    known = replace(InputStatistics.of(map(encoder.accumulate, calibration)), any_input=any_input)
    check = InputCheck(known, preprocessing, encoder)
    for x, _ in data:
        prepared = x.float() if preprocessing is None else preprocessing(x)
        if prepared.shape[1:] == calibration[0].shape[1:]:  # the evaluation refuses other shapes
            check.add(prepared.cpu())
    return check.finished()


FITTING = "fitting."


@dataclass(frozen=True, eq=False)
class Stored:
    """Labelled batches of an inputs file, read one at a time from the memory-mapped file; ``kind`` names them there."""

    path: Path
    batches: int
    kind: str = ""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        with _reading(self.path) as file:
            for index in range(self.batches):
                yield (
                    file.get_tensor(f"{self.kind}inputs.{index}"),
                    file.get_tensor(f"{self.kind}targets.{index}"),
                )


def write_inputs(
    store: Path,
    source: Graph,
    calibration: Sequence[Tensor],
    data: Sequence[tuple[Tensor, Tensor]],
    fitting: Sequence[tuple[Tensor, Tensor]] = (),
) -> str:
    """Write network, data and samples for exits to one file in the store, named by its SHA-256, and return that."""
    tensors: dict[str, Tensor] = {}
    graph = encode(source, tensors, "source")
    tensors |= {f"calibration.{index}": x.detach().cpu().clone() for index, x in enumerate(calibration)}
    for kind, batches in (("", data), (FITTING, fitting)):
        for index, (x, y) in enumerate(batches):
            tensors[f"{kind}inputs.{index}"] = x.detach().cpu().clone()
            tensors[f"{kind}targets.{index}"] = y.detach().cpu().clone()
    content = {"source": graph, "calibration": len(calibration), "batches": len(data), "fitting": len(fitting)}
    packed = tensor_bytes({k: v.contiguous() for k, v in tensors.items()}, {"content": json.dumps(content)})
    digest = sha256(packed)
    path = inputs_path(store, digest)
    if not path.exists() or sha256(path.read_bytes()) != digest:
        write_atomically(path, packed)
    return digest


def open_inputs(path: Path) -> tuple[Graph, tuple[Tensor, ...], Stored, Stored]:
    """Source network, calibration batches, test batches and batches for exits of an inputs file."""
    return _opened(path, registry.generation())


@functools.lru_cache(maxsize=1)
def _opened(path: Path, generation: int) -> tuple[Graph, tuple[Tensor, ...], Stored, Stored]:
    """``generation``: a class that is registered again must be decoded again, even from the same file."""
    with _reading(path) as file:
        content = json.loads(file.metadata()["content"])
        tensors = {name: file.get_tensor(name) for name in file.keys() if name.startswith("source")}  # noqa: SIM118
        calibration = tuple(file.get_tensor(f"calibration.{index}") for index in range(content["calibration"]))
        counts = content["batches"], content["fitting"]
        source = decode(content["source"], tensors)
        if not isinstance(source, Graph) or not fits(counts, tuple[int, int]):
            raise FileError("it holds no network")
    tests, fitting = Stored(path, counts[0]), Stored(path, counts[1], FITTING)
    return source, calibration, tests, fitting


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
