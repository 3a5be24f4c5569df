"""Calls that go through data, and continue where a lost process or a kill has ended them."""

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from transpike.core.installation import versions
from transpike.errors import CheckpointError, GateFailed, SettingError, TranspikeError
from transpike.results.writing import check_writable
from transpike.snn import SNN
from transpike.training.ranks import Ranks
from transpike.workflow.distributed import facts, processes
from transpike.workflow.resumable.file import FileAt, Place, Saved, damaged, packed, unpacked
from transpike.workflow.shared_batches import Batch, numbered, shared

SHARE = 20
"""The file is written again after this many times as long as writing it took: about 5 % of the time."""


class Tally(Protocol):
    """What batches add up to. ``state`` gives it as plain data for ``core.codec``, from which ``restore`` takes it."""

    def merge(self, part: Any) -> None: ...
    def state(self) -> Any: ...
    def restore(self, state: Any) -> None: ...


class Checkpoint:
    """The file of the calls in one context, each by its number; ``forgiving``: one that does not fit is not used.

    ``every``: seconds after which the file is written first, and again.
    """

    def __init__(self, place: Place, resume: bool, every: float = 0.0, forgiving: bool = False) -> None:
        self.place, self.resume, self.every, self.forgiving = place, resume, every, forgiving
        self.ranks: Ranks | None = None
        self.found: list[Saved] = []
        self.ended: list[Saved] = []
        self.call: Call | None = None
        self.last, self.took = time.perf_counter(), 0.0

    def begin(self, ranks: Ranks, tally: Tally, asked: dict[str, str]) -> "Call":
        """The next call, continued where the file has it; ``tally`` is empty before.

        Raises SettingError where the file is that of another call, CheckpointError where it is damaged.
        """
        if self.ranks is None:
            self.ranks, self.found = ranks, self._read(ranks)
        if self.call is not None:
            self.ended.append(self.call.saved())
        number = len(self.ended)
        before = self.found[number] if number < len(self.found) else None
        if before is not None and before.facts != asked:
            if not self.forgiving:
                raise _other(self.place, before.facts, asked)
            del self.found[number:]
            before = None
        if before is not None and before.batches:
            try:
                tally.restore(before.state)
            except Exception as error:  # a file may hold anything behind its checksum
                raise damaged(str(self.place), error) from error
        self.call = Call(self, ranks, tally, asked, before)
        return self.call

    def save(self, ranks: Ranks) -> None:
        """Write the file if it is time; every process calls it, and the first one writes."""

        def write() -> None:
            now = time.perf_counter()
            if self.call is None or now - self.last < max(self.every, SHARE * self.took):
                return
            # calls that come later are in the file of an earlier run
            self.place.write(packed([*self.ended, self.call.saved(), *self.found[len(self.ended) + 1 :]]))
            self.last, self.took = time.perf_counter(), time.perf_counter() - now

        ranks.in_first(write)

    def close(self) -> None:
        """Remove the file of calls that have ended."""
        if self.ranks is not None:
            self.ranks.in_first(self.place.remove)

    def _read(self, ranks: Ranks) -> list[Saved]:
        """What the first process finds in the file."""
        data: bytes | None = None

        def read() -> None:
            nonlocal data
            data = self.place.read()

        ranks.in_first(read)
        data = ranks.gather(data)[0]
        try:
            found = [] if data is None else unpacked(data, str(self.place))
        except CheckpointError:
            if not self.forgiving:
                raise
            found = []
        return found if self.resume else []


class Call:
    """One call: goes through its batches, except those that are ``done``."""

    def __init__(
        self, checkpoint: Checkpoint, ranks: Ranks, tally: Tally, asked: dict[str, str], before: Saved | None
    ) -> None:
        self.checkpoint, self.ranks, self.tally, self.asked, self.before = checkpoint, ranks, tally, asked, before
        found = before or Saved(asked, 0, 0, 0, "", None)
        self.done = self.batches = found.batches
        self.samples, self.size, self.chain = found.samples, found.size, found.chain
        self.read = deque[tuple[int, int]]()

    def missing(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches that are not done. Raises CheckpointError where the others are not those of the file."""
        chain, number = "", 0
        for number, batch in enumerate(batches, 1):
            if number == 1 and self.before is not None and batch.size != self.size:
                raise self._other_samples(f"its batches have {self.size} of them, and those of this run {batch.size}")
            if number <= self.done:
                chain = _followed(chain, batch.size, batch.mark)
                if number == self.done and chain != self.chain:
                    raise self._other_samples(f"the first {self.samples} of this run are not those that it holds")
                continue
            if number == 1:
                self.size = batch.size
            self.read.append((batch.size, batch.mark))
            yield batch
        if number < self.done:
            raise self._other_samples(f"it holds {self.samples} of them, and this run has fewer")

    def merged(self) -> None:
        """The next batch is part of the tally."""
        size, mark = self.read.popleft()
        self.batches, self.samples = self.batches + 1, self.samples + size
        self.chain = _followed(self.chain, size, mark)
        if (self.batches - self.done) % self.ranks.count == 0:  # all processes have exchanged their batches
            self.checkpoint.save(self.ranks)

    def saved(self) -> Saved:
        state = self.tally.state() if self.batches else None
        return Saved(self.asked, self.batches, self.samples, self.size, self.chain, state)

    def _other_samples(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self.checkpoint.place} is a checkpoint of other samples: {why}. Give the same data in the same order "
            "and batches, or delete it to restart"
        )


_checkpoint: ContextVar[Checkpoint | None] = ContextVar("checkpoint", default=None)


@contextlib.contextmanager
def resumable(path: str | Path, *, resume: bool = True) -> Iterator[None]:
    """Context whose calls of ``evaluate``, ``cost``, ``explain`` and ``fit_exit`` continue from the file ``path``.

    While they run, the first process writes what finished batches add up to; the file is replaced as a whole. A script
    that was killed, or whose processes were lost, is started again: in the same context the same calls in the same
    order take the finished batches from the file, read only the others, and give the same bits, also with another
    number of processes (``distributed_samples``). The file is removed when the context ends without an error.
    ``resume=False`` restarts and overwrites it.

    The file belongs to the network, the settings, the samples and their batches, and the versions of transpike and
    torch. For a data set of ``ts.data`` the first batch, and places and labels of the others are compared, for other
    data all samples. Conversions, training and comparisons have separate files (``checkpoint``, ``store``).
    Raises FileError for a file that cannot be written; the calls raise SettingError for a checkpoint of another run,
    naming what differs, and CheckpointError for one of other samples and for a damaged file.
    """
    place = Path(path)
    processes().in_first(lambda: check_writable(place, read_again=True))
    with resumable_at(FileAt(place), resume=resume):
        yield


@contextlib.contextmanager
def resumable_at(
    place: Place | None, *, resume: bool = True, every: float = 0.0, forgiving: bool = False
) -> Iterator[None]:
    """``resumable`` with a file anywhere, see ``Checkpoint``; None: the calls inside of it cannot be resumed."""
    checkpoint = None if place is None else Checkpoint(place, resume, every, forgiving)
    token = _checkpoint.set(checkpoint)
    try:
        yield
    except GateFailed:  # the work is done, and its result is known
        if checkpoint is not None:
            checkpoint.close()
        raise
    finally:
        _checkpoint.reset(token)
    if checkpoint is not None:
        checkpoint.close()


def added(
    what: str, tally: Tally, snn: SNN, data: Any, run: Callable[[Batch], Any], asked: Mapping[str, object],
    limit: int | None = None,
) -> Iterator[None]:  # fmt: skip
    """Merge ``run`` of each batch of ``data`` into ``tally``, in their order; yields after each of them.

    Processes share the batches, and inside of ``resumable`` those that are done are left out. ``what`` names the call;
    ``asked``: the settings that its result depends on besides ``snn`` and ``limit``.
    """
    ranks, checkpoint = processes(), _checkpoint.get()
    if checkpoint is None:
        for part in shared(ranks, numbered(data, snn.sample_shape, ranks, limit), run):
            tally.merge(part)
            yield
        return
    call = checkpoint.begin(ranks, tally, _named(what, snn, {**asked, "limit": limit}))
    batches = numbered(data, snn.sample_shape, ranks, limit, skip=call.done, marked=True)
    yield from _merged(call, shared(ranks, call.missing(batches), run))


def added_parts(
    what: str, tally: Tally, snn: SNN, parts: list[Batch], run: Callable[[Batch], Any], asked: Mapping[str, object]
) -> Iterator[None]:
    """``added`` of parts of samples that every process has, and that ``asked`` names."""
    ranks, checkpoint = processes(), _checkpoint.get()
    if checkpoint is None:
        for part in shared(ranks, parts, run):
            tally.merge(part)
            yield
        return
    call = checkpoint.begin(ranks, tally, _named(what, snn, asked))
    yield from _merged(call, shared(ranks, list(call.missing(parts)), run))


def _merged(call: Call, found: Iterator[Any]) -> Iterator[None]:
    for part in found:
        try:
            call.tally.merge(part)
        except TranspikeError:
            raise
        except Exception as error:  # what a file holds behind its checksum may not fit together with a batch
            if call.done and call.batches == call.done:
                raise damaged(str(call.checkpoint.place), error) from error
            raise
        call.merged()
        yield


def _named(what: str, snn: SNN, asked: Mapping[str, object]) -> dict[str, str]:
    return {"the call": what, "the version": versions(), **facts(snn, **asked)}


def _followed(chain: str, size: int, mark: int) -> str:
    """The digest of all batches up to this one."""
    return hashlib.sha256(f"{chain} {size} {mark}".encode()).hexdigest()


def _other(place: Place, before: dict[str, str], now: dict[str, str]) -> SettingError:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    changes = "; ".join(
        f"{name} was {before.get(name, 'not there')}, now {now.get(name, 'not there')}" for name in names
    )
    return SettingError(
        f"{place} is the checkpoint of another run: {changes}. Use the same network, data and settings, give another "
        "path, or delete it to restart"
    )
