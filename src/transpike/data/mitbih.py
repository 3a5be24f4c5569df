"""Heartbeats of the MIT-BIH arrhythmia database, de Chazal's split by patients, the classes of ANSI/AAMI EC57.

Read from one archive, mitbih_arrhythmia.npz: ``records`` (names), ``fs``, and for each record R ``R_signal`` int16
[leads, samples] in ADC units, ``R_leads`` (names), ``R_ann_sample`` (R-peaks) and ``R_ann_symbol`` (PhysioNet's codes).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from transpike.core.preprocessing import Preprocessing
from transpike.data import _archive
from transpike.data._base import Dataset, Split, balanced
from transpike.errors import DataError, MissingExtra, SettingError

Task = Literal["classes", "screen"]
Scale = Literal["minmax", "zscore"]
Rhythm = Literal["none", "past", "both"]

_DS1 = (101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230)
_DS2 = (100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232, 233, 234)
DS1, DS2 = (tuple(map(str, numbers)) for numbers in (_DS1, _DS2))
VALIDATION = ("108", "114", "118", "124")
AAMI = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
CODES = {code: number for number, codes in enumerate(AAMI.values()) for code in codes}
BEFORE = AFTER = 90
MEAN_OF = 10  # beats whose intervals give the local mean
MINUTES = 5  # of a patient's record that EC57 allows for training


def load(
    path: str | Path,
    task: Task = "classes",
    keep_q: bool = False,
    baseline: bool = True,
    align: bool = False,
    scale: Scale = "minmax",
    rhythm: Rhythm = "none",
    balance: float = 0.0,
    validation: bool = True,
    patient: str | None = None,
    common: int = 75,
) -> Dataset:
    """Signals (channels, 180), float32: lead MLII from 90 samples before the R-peak to 89 after it, at 360 Hz.

    Training split DS1, test split DS2 (22 patients each). ``validation``: DS1's patients 108, 114, 118 and 124 are
    held out to select an epoch, as in the published code; else they are training data. ``task`` "classes": N, S, V, F
    (and Q with ``keep_q``); "screen": normal (N) or abnormal. ``baseline``: two median filters, of 0.2 and 0.6 s,
    give the baseline that is subtracted; needs scipy. ``align`` moves each peak to the largest value within 20
    samples. ``scale``: each record to [0, 1], or to mean 0 and deviation 1, over its half hour. ``rhythm`` adds
    channels that are constant over a beat, each ``RR / mean − ½`` within [0, 1]: "past" the interval before the beat
    and the one before that by the mean of the last 10, and the former by the mean of all earlier ones; "both" also
    the interval after the beat by the mean of the last 10, so that the answer comes one beat later. ``balance``: see
    ``balanced``; training and validation only. ``patient`` (of DS2): EC57's patient-wise protocol, training on that
    record's first 5 minutes and on ``common`` evenly spaced beats of each class of DS1, test on the rest of the record.

    Sources: de Chazal, O'Dwyer, Reilly 2004 (IEEE TBME 51(7)); Yan, Zhou, Wong 2021 (BSPC 63:102170), whose code counts
    e and j to S, here N as in EC57. Raises DataError, SettingError, or MissingExtra (no scipy).
    """
    for name, value, known in (("task", task, ("classes", "screen")), ("scale", scale, ("minmax", "zscore")),
                               ("rhythm", rhythm, ("none", "past", "both"))):  # fmt: skip
        if value not in known:
            raise SettingError(f"{name} is one of {', '.join(known)}, not {value!r}")
    if patient is not None and patient not in DS2:
        raise SettingError(f"patient is one of DS2's records, {' '.join(DS2)}, not {patient!r}")
    reader = _Reader(Path(path).expanduser(), keep_q, baseline, align, scale, rhythm)
    held_out: Beats | None = None
    if patient is None:
        train = reader.beats([r for r in DS1 if not (validation and r in VALIDATION)])
        held_out, test = reader.beats(VALIDATION) if validation else None, reader.beats(DS2)
    else:
        own, shared = reader.beats([patient]), reader.beats(DS1)
        early = torch.from_numpy(own.samples < MINUTES * 60 * reader.rate)
        train, test = own.chosen(early.nonzero()[:, 0]), own.chosen((~early).nonzero()[:, 0])
        train = _together([train, shared.chosen(_spaced(shared.labels, common))])
    classes = tuple(AAMI)[: 5 if keep_q else 4] if task == "classes" else ("normal", "abnormal")
    splits = []
    for beats, which in ((train, "training"), (test, "test"), (held_out, "validation")):
        if beats is None:
            continue
        labels = beats.labels if task == "classes" else (beats.labels > 0).long()
        split = Split(beats, labels, f"{which} beats of mitbih")
        splits.append(split if which == "test" or not balance else split.subset(balanced(labels, balance)))
    note = "MIT-BIH arrhythmia, " + ("DS1 and DS2" if patient is None else f"patient {patient}")
    return Dataset("mitbih", splits[0], splits[1], classes, Preprocessing(), note, validation=(*splits, None)[2])


@dataclass(frozen=True, eq=False)
class Beats:
    """Beats that become signals on demand: ``windows`` (N, 180) and ``rhythm`` (N, R), float32.

    ``labels`` (N) number AAMI's classes N, S, V, F, Q; ``records`` (N) name the patients, ``samples`` (N) the R-peaks.
    """

    windows: Tensor
    rhythm: Tensor
    labels: Tensor
    records: np.ndarray
    samples: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.windows), 1 + self.rhythm.shape[1], self.windows.shape[1]

    def __getitem__(self, indices: Tensor) -> Tensor:
        windows, rhythm = self.windows[indices, None], self.rhythm[indices, :, None]
        return torch.cat((windows, rhythm.expand(-1, -1, windows.shape[2])), 1)

    def chosen(self, indices: Tensor) -> "Beats":
        """The beats at these indices."""
        where = indices.numpy()
        return Beats(self.windows[indices], self.rhythm[indices], self.labels[indices], self.records[where],
                     self.samples[where])  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    """Extracts the beats of records."""

    path: Path
    keep_q: bool
    baseline: bool
    align: bool
    scale: Scale
    rhythm: Rhythm

    @property
    def rate(self) -> int:
        return 360

    def beats(self, records: Sequence[str]) -> Beats:
        """The beats of these records, whole windows only, in order of time."""
        changed = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        return _together([_read(self, record, changed) for record in records])

    def record(self, name: str) -> Beats:
        wanted = [f"{name}_{part}" for part in ("signal", "leads", "ann_sample", "ann_symbol")]
        found = _archive.read(self.path, lambda key: key in wanted or key == "fs")
        missing = [key for key in (*wanted, "fs") if key not in found]
        if missing:
            raise DataError(
                f"{self.path} lacks {', '.join(missing)}; it must be an archive of MIT-BIH records (arrays "
                "RECORD_signal, _leads, _ann_sample, _ann_symbol and fs), not wfdb's files"
            )
        if found["fs"].dtype.kind not in "iuf" or found["fs"].size != 1 or found["fs"].item() != self.rate:
            given = str(found["fs"])[:40]
            raise DataError(f"{self.path}: fs is {given}, but windows and filters need {self.rate} Hz")
        return self._record(name, *(found[key] for key in wanted))

    def _record(self, name: str, signal: np.ndarray, leads: np.ndarray, at: np.ndarray, codes: np.ndarray) -> Beats:
        place, names = f"{self.path}: record {name}", leads.tolist()
        if signal.ndim != 2 or len(signal) != len(names) or at.shape != codes.shape or at.ndim != 1:
            shapes = f"signal {list(signal.shape)}, leads {len(names)}, annotations {at.shape} and {codes.shape}"
            raise DataError(f"{place}: {shapes} have inconsistent sizes")
        if signal.dtype.kind not in "iuf" or at.dtype.kind not in "iu" or codes.dtype.kind != "U":
            raise DataError(
                f"{place}: signal {signal.dtype} and annotations {at.dtype} and {codes.dtype} are of other types"
            )
        lead = signal[names.index("MLII") if "MLII" in names else 0].astype(np.float32)
        beat = np.isin(codes, list(CODES))
        at, labels = at[beat].astype(np.int64), np.array([CODES[c] for c in codes[beat].tolist()], np.int64)
        if len(at) < 2 or at[0] < 0 or at[-1] >= len(lead) or np.any(np.diff(at) <= 0):
            raise DataError(f"{place}: needs at least two beats, in order of time, within {len(lead)} samples")
        if self.baseline:
            lead = lead - _baseline(lead)
        peaks = _aligned(lead, at) if self.align else at
        low, spread = (lead.mean(), lead.std()) if self.scale == "zscore" else (lead.min(), np.ptp(lead))
        if not spread > 0:
            raise DataError(f"{place}: the signal is constant")
        keep = (peaks >= BEFORE) & (peaks + AFTER <= len(lead)) & (self.keep_q | (labels < 4))
        windows = (lead[peaks[keep][:, None] + np.arange(-BEFORE, AFTER)] - low) / spread
        rhythm = _rhythm(at, self.rhythm)[keep]
        return Beats(torch.from_numpy(windows), torch.from_numpy(rhythm), torch.from_numpy(labels[keep]),
                     np.full(int(keep.sum()), name), at[keep])  # fmt: skip


@lru_cache(maxsize=48)
def _read(reader: _Reader, record: str, changed: int) -> Beats:
    """A record's beats, cached: each is used for two tasks, and DS1's for each patient of DS2."""
    return reader.record(record)


def _together(parts: list[Beats]) -> Beats:
    """The parts one after another."""
    return Beats(
        torch.cat([part.windows for part in parts]),
        torch.cat([part.rhythm for part in parts]),
        torch.cat([part.labels for part in parts]),
        np.concatenate([part.records for part in parts]),
        np.concatenate([part.samples for part in parts]),
    )


def _baseline(lead: np.ndarray) -> np.ndarray:
    """The median over 71 samples (0.2 s), and of that over 215 (0.6 s); zeros beyond the ends, as in medfilt."""
    try:
        from scipy.ndimage import median_filter
    except ImportError as error:
        raise MissingExtra(
            f"removing the baseline needs scipy: pip install 'transpike[ecg]', or baseline=False ({error})"
        ) from error
    return median_filter(median_filter(lead, 71, mode="constant"), 215, mode="constant")


def _aligned(lead: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Each peak moved to the largest value within 20 samples."""
    around = np.clip(at[:, None] + np.arange(-20, 21), 0, len(lead) - 1)
    return around[np.arange(len(at)), lead[around].argmax(1)]


def _rhythm(at: np.ndarray, kind: Rhythm) -> np.ndarray:
    """(beats, 0, 3 or 4) in [0, 1]: intervals by the mean of those before a beat, less ½; ½ where one is not known."""
    intervals = np.diff(at).astype(np.float64)
    total = np.concatenate(([0.0], np.cumsum(intervals)))
    beat = np.arange(len(at))  # intervals[i - 1] ends at beat i
    first = np.maximum(beat - MEAN_OF, 0)
    local, all_so_far = (total[beat] - total[first]) / np.maximum(beat - first, 1), total / np.maximum(beat, 1)
    before = np.concatenate(([np.nan], intervals))
    earlier, after = np.concatenate(([np.nan], before[:-1])), np.concatenate((intervals, [np.nan]))
    with np.errstate(divide="ignore", invalid="ignore"):
        past = [before / local, earlier / local, before / all_so_far]
        ratios = {"none": [], "past": past, "both": [*past, after / local]}[kind]
    known = [np.where(np.isfinite(ratio), ratio, 1.0) for ratio in ratios]
    columns = [np.clip(ratio - 0.5, 0, 1).astype(np.float32) for ratio in known]
    return np.stack(columns, 1) if columns else np.zeros((len(at), 0), np.float32)


def _spaced(labels: Tensor, count: int) -> Tensor:
    """Up to ``count`` indices of each class, evenly spaced, in order."""
    if count < 0:
        raise SettingError(f"common must be at least 0, not {count}")
    parts = []
    for label in labels.unique():
        where = (labels == label).nonzero()[:, 0]
        most = min(count, len(where))
        parts.append(where[torch.arange(most) * len(where) // max(most, 1)])
    return torch.cat(parts).sort().values
