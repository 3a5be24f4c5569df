"""Recordings of event cameras, and their binning into frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.data._base import Dataset, Split
from transpike.errors import DataError, FileError, SettingError

Kind = Literal["two-channel", "signed"]
ENCODERS: dict[str, str] = {"two-channel": "event-frames", "signed": "signed-event-frames"}
BINS = 20
MOST_BINS = 2**16
LONGEST = 2**53
"""Microseconds."""


def recording_options(stored: Any) -> dict[str, Any]:
    """The options of a data set that the file of a network holds: ``bins``, ``span`` and ``frames`` of recordings.

    A file may come from anywhere, and these values become arguments of a reader. So nothing else is passed on: no
    path, no download, no other setting. Raises FileError for other names, types and values.
    """
    allowed = {
        "bins": lambda value: _is_whole(value, MOST_BINS),
        "span": lambda value: value is None or _is_whole(value, LONGEST),
        "frames": lambda value: isinstance(value, str) and value in ENCODERS,
    }
    found = stored if isinstance(stored, dict) else {"data_options": stored}
    wrong = [
        f"{name}={value!r}"[:80] for name, value in found.items() if name not in allowed or not allowed[name](value)
    ]
    if wrong:
        raise FileError(
            f"the network's file gives data options that are not those of recordings (bins, span, frames): "
            f"{', '.join(wrong)[:400]}; such a file was not written by transpike"
        )
    return dict(found)


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


@dataclass(frozen=True, eq=False)
class Events:
    """Events as four arrays (events,): ``t`` in microseconds from the recording's start, pixel ``x`` < width from the
    left and ``y`` < height from the top, polarity ``p`` (0 darker, 1 brighter). Arrays keep their integer types.

    Raises DataError, beginning with ``source``, for other types and lengths, values out of range, or negative times.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    width: int
    height: int
    source: str = "recording"

    def __post_init__(self) -> None:
        for name, limit in (("t", None), ("x", self.width), ("y", self.height), ("p", 2)):
            values = getattr(self, name)
            if values.ndim != 1 or values.dtype.kind not in "iub" or len(values) != len(self.t):
                raise DataError(
                    f"{self.source}: {name} is {values.dtype}{list(values.shape)}; t, x, y and p must be "
                    f"integers, one of each per event, {len(self.t)} here"
                )
            if len(values) and (values.min() < 0 or (limit is not None and values.max() >= limit)):
                allowed = "times must not be negative" if limit is None else f"{name} must be from 0 to {limit - 1}"
                raise DataError(f"{self.source}: {name} from {values.min()} to {values.max()}; {allowed}")

    def __len__(self) -> int:
        return len(self.t)


class Source(Protocol):
    """A sequence of recordings from a sensor of one size."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Events: ...


@dataclass(frozen=True, eq=False)
class Recordings:
    """Concatenated recordings in memory: recording i has the events ``offsets[i]`` to ``offsets[i + 1]``.

    ``offsets`` (N + 1,) int64, from 0 to the number of events, not decreasing. A recording may have no events; raises
    DataError if there are no events at all, or if the offsets do not fit.
    """

    events: Events
    offsets: np.ndarray

    def __post_init__(self) -> None:
        ends, source = self.offsets, self.events.source
        if ends.ndim != 1 or ends.dtype.kind not in "iu" or len(ends) < 2:
            raise DataError(f"{source}: offsets are {ends.dtype}{list(ends.shape)}, not N + 1 integers")
        falls = np.flatnonzero(ends[1:] < ends[:-1])
        if len(falls):
            at = int(falls[0])
            raise DataError(f"{source}: offsets decrease from {ends[at]} to {ends[at + 1]} at recording {at}")
        if ends[0] != 0 or ends[-1] != len(self.events):
            raise DataError(
                f"{source}: offsets run from {ends[0]} to {ends[-1]}, not from 0 to {len(self.events)} events"
            )
        if not len(self.events):
            raise DataError(f"{source}: there are no events")

    @property
    def width(self) -> int:
        return self.events.width

    @property
    def height(self) -> int:
        return self.events.height

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Events:
        events, part = self.events, slice(self.offsets[index], self.offsets[index + 1])
        t, x, y, p = (array[part] for array in (events.t, events.x, events.y, events.p))
        return Events(t, x, y, p, events.width, events.height, f"{events.source} {index}")


class Frames:
    """Recordings binned into frames on demand: float32 (n, bins, channels, height, width).

    An event at time t is in bin ``⌊(t − start) · bins / span⌋``. Without ``span`` (microseconds) the span of each
    recording is from its first event to its last; with it, every recording starts at 0 and later events belong to the
    last bin. ``kind`` "two-channel": 1 where a pixel had an event of that polarity (channel 0
    darker, 1 brighter); "signed": one channel, sign(brighter − darker). Raises SettingError for settings out of range.
    """

    def __init__(self, source: Source, bins: int = BINS, span: int | None = None, kind: Kind = "two-channel") -> None:
        if bins < 1 or (span is not None and span < bins):
            raise SettingError(f"bins must be at least 1 and span at least one microsecond per bin; not {bins}, {span}")
        if kind not in ENCODERS:
            raise SettingError(f"frames are one of {', '.join(ENCODERS)}, not {kind!r}")
        self.source, self.bins, self.span, self.signed = source, bins, span, kind == "signed"

    @property
    def shape(self) -> Sequence[int]:
        return (len(self.source), self.bins, 1 if self.signed else 2, self.source.height, self.source.width)

    def __getitem__(self, indices: Tensor) -> Tensor:
        chosen = np.arange(len(self.source))[indices.numpy()]
        shape = (len(chosen), *self.shape[1:])
        cells, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for row, index in enumerate(chosen):
            events = self.source[int(index)]
            cell = row * self.bins + self._bins(events)
            if not self.signed:
                cell = cell * 2 + events.p
            cells.append((cell * shape[3] + events.y) * shape[4] + events.x)
            values.append(2 * events.p.astype(np.int64) - 1)
        flat = np.concatenate(cells)
        if self.signed:
            total = np.zeros(int(np.prod(shape)), np.int32)
            np.add.at(total, flat, np.concatenate(values).astype(np.int32))
            return torch.from_numpy(np.sign(total).astype(np.float32)).reshape(shape)
        frames = torch.zeros(shape)
        frames.view(-1)[torch.from_numpy(flat)] = 1
        return frames

    def _bins(self, events: Events) -> np.ndarray:
        """The bin of each event, int64."""
        t = events.t.astype(np.int64)
        if self.span is not None:
            return np.minimum(t * self.bins // self.span, self.bins - 1)
        if not len(t):
            return t
        start = t.min()
        return (t - start) * self.bins // (t.max() - start + 1)


def dataset(
    name: str,
    train: tuple[Source | None, np.ndarray],
    test: tuple[Source | None, np.ndarray],
    classes: tuple[str, ...],
    bins: int,
    span: int | None,
    kind: Kind,
    note: str,
) -> Dataset:
    """A data set of frames from two splits of (recordings, labels), None for a missing one."""
    splits = []
    for (source, labels), which in ((train, "training"), (test, "test")):
        images = torch.empty(0, 1, 1, 1) if source is None else Frames(source, bins, span, kind)
        splits.append(Split(images, torch.from_numpy(labels.astype(np.int64)), f"{which} recordings of {name}"))
    return Dataset(name, splits[0], splits[1], classes, Preprocessing(), note, ENCODERS[kind])
