"""Batches that the processes of torchrun share: number k belongs to process k modulo their number."""

import io
import itertools
import math
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from transpike.core.inputs import InputNames, Inputs
from transpike.data import Batches, Split
from transpike.data.batches import PART, is_array, with_targets
from transpike.errors import DataError
from transpike.training.ranks import Ranks, packed
from transpike.workflow.distributed import alone

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Batch:
    """``size`` samples, of which the ``first`` has this number; ``content``: (input, target), as with_targets gives it.

    ``content`` is None where another process runs the batch and nothing had to be read here. ``mark``: a checksum of
    the samples, by which processes see that they were given the same.
    """

    first: int
    size: int
    content: Any
    mark: int = 0

    @classmethod
    def of(cls, part: Tensor) -> "Batch":
        """A part of samples that every process has."""
        return cls(0, len(part), part)


def numbered(
    data: Any, shape: Any, ranks: Ranks, limit: int | None = None, *, skip: int = 0, marked: bool = False
) -> Iterator[Batch]:
    """The batches of ``data`` (see with_targets), the last one cut so that there are ``limit`` samples.

    Of a data set with batches that can be read apart a process reads only its own; it goes through all other data. The
    first ``skip`` batches have no content. ``marked``: batches have a mark in a single process too, the same for any
    number of processes, which includes targets, and the content of the first batch.
    """
    first = 0
    if limit is not None and limit < 1:
        return
    for size, mark, content in _entries(data, shape, ranks, skip, marked):
        kept = size if limit is None else min(size, limit - first)
        if content is not None and kept < size:
            content = content[0][:kept], content[1]
        yield Batch(first, kept, content, mark)
        first += kept
        if first == limit:
            return


def _entries(
    data: Any, shape: Any, ranks: Ranks, skip: int, marked: bool
) -> Iterator[tuple[int, int, tuple[Any, Any] | None]]:
    """(samples, mark, content) of each batch."""
    if (ranks.count > 1 or marked) and not isinstance(shape, InputNames):
        data = data.batches(PART) if isinstance(data, Split) else data
        if isinstance(data, Batches):
            for number, chosen in enumerate(data.indices.split(data.size)):
                mine = number >= skip and (number - skip) % ranks.count == ranks.rank
                whole, content = marked and number == 0, None
                if mine or whole:
                    content = next(with_targets(Batches(data.split, chosen, data.size), shape))
                # of samples that were not read only the place and the label are known
                known = (chosen, torch.as_tensor(data.split.labels[chosen]))
                mark = _mark(*known, *_parts(content[0])) if whole and content is not None else _mark(*known)
                yield len(chosen), mark, content if mine else None
            return
    for number, (x, given) in enumerate(with_targets(data, shape)):
        mark = _mark(*_parts(x)) if ranks.count > 1 or marked else 0
        mark = zlib.crc32(_target_bytes(given), mark) if marked else mark
        yield len(x), mark, (x, given) if number >= skip else None


def shared(ranks: Ranks, batches: Iterable[Batch], run: Callable[[Batch], Result]) -> Iterator[Result]:
    """``run(batch)`` of all batches in their order, each computed in its process and given to all of them.

    An error in one process is raised in all of them, after the results of the batches before it. Raises DataError where
    the processes received different batches, LostProcess where one of them ended. A list has the same length in all
    of them.
    """
    if ranks.count == 1:
        yield from map(run, batches)
        return
    waiting, left = iter(batches), len(batches) if isinstance(batches, list) else None
    while left is None or left > 0:
        marks, result, failed = list[tuple[int, int]](), b"", b""
        try:
            for place, batch in enumerate(itertools.islice(waiting, ranks.count)):
                marks.append((batch.size, batch.mark))
                if place == ranks.rank:
                    with alone():
                        result = dumped(run(batch))
        except Exception as error:
            failed = packed(error)
        # a process whose batch failed has not read on
        found = ranks.gather((marks, result, failed))
        known = max((told[0] for told in found), key=len)
        if any(told[0] != known[: len(told[0])] or (len(told[0]) < len(known) and not told[2]) for told in found):
            raise DataError(
                "the processes received different samples: pass each of them all samples in the same order, without "
                "a sampler for distributed training, and shuffled by the same seed or not at all"
            )
        # in the order of the batches: an error while the first was read comes before all results
        for place, (read, result, failed) in enumerate(found):
            if failed and len(read) <= place:
                raise pickle.loads(failed)
            if result:
                yield loaded(result)
            if failed:
                raise pickle.loads(failed)
        left = None if left is None else left - len(known)
        if len(known) < ranks.count:
            return


class _Dumper(pickle.Pickler):
    """Leaves plain tensors out: PyTorch treats each of them as a file, and results have hundreds of small ones."""

    def __init__(self, written: io.BytesIO) -> None:
        super().__init__(written, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not Tensor or value.requires_grad or value.device.type != "cpu":
            return None
        if value.layout is not torch.strided or value.is_neg() or value.is_quantized:
            return None
        self.tensors.append(value)
        return len(self.tensors) - 1


class _Loader(pickle.Unpickler):
    def __init__(self, data: bytes, tensors: list[Tensor]) -> None:
        super().__init__(io.BytesIO(data))
        self.tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self.tensors[number]


def dumped(value: Any) -> bytes:
    """``value`` for ``loaded``; its tensors of one type are written as one."""
    written = io.BytesIO()
    dumper = _Dumper(written)
    dumper.dump(value)
    kinds: dict[torch.dtype, list[int]] = {}
    for number, tensor in enumerate(dumper.tensors):
        kinds.setdefault(tensor.dtype, []).append(number)
    joined = [
        (kind, numbers, _bytes(torch.cat([dumper.tensors[number].flatten() for number in numbers])))
        for kind, numbers in kinds.items()
    ]
    return pickle.dumps((written.getvalue(), [tuple(tensor.shape) for tensor in dumper.tensors], joined))


def loaded(data: bytes) -> Any:
    """What ``dumped`` was given. Tensors of one type share their memory."""
    written, shapes, joined = pickle.loads(data)
    tensors: dict[int, Tensor] = {}
    for kind, numbers, content in joined:
        values = torch.frombuffer(bytearray(content), dtype=kind) if content else torch.empty(0, dtype=kind)
        parts = values.split([math.prod(shapes[number]) for number in numbers])
        tensors |= {number: part.view(shapes[number]) for number, part in zip(numbers, parts, strict=True)}
    return _Loader(written, [tensors[number] for number in range(len(shapes))]).load()


def _parts(x: Any) -> tuple[Tensor, ...]:
    """Each of several inputs, or the only one."""
    return tuple(x.values.values()) if isinstance(x, Inputs) else (x,)


def _target_bytes(given: Any) -> bytes:
    """What tells targets of any form, also those of several outputs, from others."""
    if isinstance(given, Mapping):
        given = tuple(part for item in given.items() for part in item)
    if isinstance(given, (tuple, list)) and any(map(is_array, given)):
        return b"".join(map(_target_bytes, given))
    if isinstance(given, Tensor):
        return _bytes(given)
    plain = np.asarray(given) if is_array(given) else None
    if plain is not None and not plain.dtype.hasobject:
        return plain.tobytes()
    return repr(given if plain is None else plain.tolist()).encode("utf-8", "surrogatepass")


def _mark(*tensors: Tensor) -> int:
    """A checksum of values."""
    found = 0
    for value in tensors:
        found = zlib.crc32(_bytes(value), found)
    return found


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
