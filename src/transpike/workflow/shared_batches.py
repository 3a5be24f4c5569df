"""Batches that the processes of torchrun share: number k belongs to process k modulo their number."""

import itertools
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from transpike.core.inputs import InputNames, Inputs
from transpike.data import Batches, Split
from transpike.data.batches import PART, with_targets
from transpike.errors import DataError
from transpike.training.ranks import Ranks

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


def numbered(data: Any, shape: Any, ranks: Ranks, limit: int | None = None) -> Iterator[Batch]:
    """The batches of ``data`` (see with_targets), the last one cut so that there are ``limit`` samples.

    Of a data set with batches that can be read apart a process reads only its own; it goes through all other data.
    """
    first = 0
    for size, mark, content in _entries(data, shape, ranks):
        kept = size if limit is None else min(size, limit - first)
        if limit is not None and kept < 1:
            return
        if content is not None and kept < size:
            content = content[0][:kept], content[1]
        yield Batch(first, kept, content, mark)
        first += kept


def _entries(data: Any, shape: Any, ranks: Ranks) -> Iterator[tuple[int, int, tuple[Any, Any] | None]]:
    """(samples, mark, content) of each batch."""
    if ranks.count > 1 and not isinstance(shape, InputNames):
        data = data.batches(PART) if isinstance(data, Split) else data
        if isinstance(data, Batches):
            for number, chosen in enumerate(data.indices.split(data.size)):
                own = Batches(data.split, chosen, data.size) if number % ranks.count == ranks.rank else None
                yield len(chosen), 0, None if own is None else next(with_targets(own, shape))
            return
    for x, given in with_targets(data, shape):
        yield len(x), _mark(x) if ranks.count > 1 else 0, (x, given)


def shared(ranks: Ranks, batches: Iterable[Batch], run: Callable[[Batch], Result]) -> Iterator[Result]:
    """``run(batch)`` of all batches in their order, each computed in its process and given to all of them.

    An error in one process is raised in all of them, after the results of the batches before it. Raises DataError where
    the processes were given different batches, LostProcess where one of them ended.
    """
    if ranks.count == 1:
        yield from map(run, batches)
        return
    waiting = iter(batches)
    while True:
        marks, result, failed = list[tuple[int, int]](), b"", b""
        try:
            for place, batch in enumerate(itertools.islice(waiting, ranks.count)):
                marks.append((batch.size, batch.mark))
                if place == ranks.rank:
                    result = pickle.dumps(run(batch))
        except Exception as error:
            failed = _sent(error)
        # a process whose batch failed has not read on
        found = ranks.gather((marks, result, failed))
        known = max((told[0] for told in found), key=len)
        if any(told[0] != known[: len(told[0])] or (len(told[0]) < len(known) and not told[2]) for told in found):
            raise DataError(
                "the processes were given different samples: give each of them all samples in the same order, without "
                "a sampler for distributed training, and shuffled by the same seed or not at all"
            )
        # in the order of the batches: an error while the first was read comes before all results
        for place, (read, result, failed) in enumerate(found):
            if failed and len(read) <= place:
                raise pickle.loads(failed)
            if result:
                yield pickle.loads(result)
            if failed:
                raise pickle.loads(failed)
        if len(known) < ranks.count:
            return


def _sent(error: Exception) -> bytes:
    """The error as bytes; as its text where it cannot leave the process."""
    try:
        sent = pickle.dumps(error)
        pickle.loads(sent)
        return sent
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


def _mark(x: Tensor | Inputs) -> int:
    """A checksum of the values of a batch."""
    found = 0
    for value in x.values.values() if isinstance(x, Inputs) else (x,):
        found = zlib.crc32(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes(), found)
    return found
