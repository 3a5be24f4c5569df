"""DEAP's EEG in its preprocessed Python form, as images of power: channel by frequency.

Files s01.dat to s32.dat, one per subject: a pickled dict of ``data`` [40 trials, 40 channels, 8064 samples at 128 Hz],
the first 32 channels EEG, the first 384 samples before the video, and ``labels`` [40, 4] (valence, arousal, dominance,
liking, 1 to 9). Not tested on the real files, which need a signed agreement; tested on generated files of that form.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from transpike.core.preprocessing import Preprocessing
from transpike.data import _pickles
from transpike.data._base import Dataset, Split
from transpike.errors import DataError, MissingExtra, SettingError

Unit = Literal["segment", "trial", "subject"]

LABELS = ("valence", "arousal", "dominance", "liking")
UNITS = ("segment", "trial", "subject")
TRIALS, CHANNELS, SAMPLES = 40, 40, 8064
EEG, BASELINE, SEGMENT, WINDOW = 32, 384, 768, 63
GAIN = 3000.0


def load(
    paths: Sequence[Path],
    label: str = "valence",
    split: Unit = "trial",
    threshold: float = 5.0,
    equalise: bool = True,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Images (1, 32, 32), float32 in [0, 1]: power of each EEG channel in each of 32 frequencies, of 6 seconds.

    Each trial is scaled to [0, 1] as a whole and cut into 10 segments; ``welch`` (Hamming window of 63 samples) gives
    the power, times 3000 and clipped. Class 1, high: a rating above ``threshold``. ``split`` is the unit
    that is not divided: "subject" (no person in both splits), "trial" (no video of a person in both), or "segment": the
    published split, which puts segments of one trial in both splits, so that its accuracy does not apply to new trials.
    The split does not depend on ``label``, so that a network can be reused for another label. ``equalise``: in each
    split the larger class of each subject is reduced to the size of the smaller. Needs scipy.

    Source: Yan, Zhou, Wong 2022 (Smart Health), by its code. Raises DataError, SettingError, or MissingExtra.
    """
    if label not in LABELS or split not in UNITS:
        raise SettingError(
            f"label is one of {', '.join(LABELS)}, split one of {', '.join(UNITS)}; not {label}, {split}"
        )
    if not 0 < test_fraction < 1:
        raise SettingError(f"test_fraction must be between 0 and 1, not {test_fraction}")
    if split == "subject" and len(paths) < 2:
        raise DataError(f"a split by subject needs two files or more, not {len(paths)}; use split='trial'")
    images, labels, tested = [], [], []
    people = _tested(len(paths), test_fraction, np.random.default_rng((split_seed, len(paths))))
    for number, path in enumerate(paths):
        data, ratings = subject(path)
        images.append(pictures(data).reshape(-1, 1, EEG, WINDOW // 2 + 1))
        segments = len(images[-1]) // TRIALS
        high = (ratings[:, LABELS.index(label)] > threshold).astype(np.int64)
        labels.append(np.repeat(high, segments))
        random = np.random.default_rng((split_seed, number))
        if split == "subject":
            tested.append(np.full(TRIALS * segments, people[number]))
        elif split == "trial":
            tested.append(np.repeat(_tested(TRIALS, test_fraction, random), segments))
        else:
            tested.append(_tested(TRIALS * segments, test_fraction, random))
    splits = []
    for wanted in (False, True):
        keep = [_equalised(y, t == wanted, equalise) for y, t in zip(labels, tested, strict=True)]
        x = np.concatenate([part[chosen] for part, chosen in zip(images, keep, strict=True)])
        y = np.concatenate([part[chosen] for part, chosen in zip(labels, keep, strict=True)])
        if not len(y):
            raise DataError(f"deap: no {'test' if wanted else 'training'} segments; add more files, or equalise=False")
        splits.append(Split(torch.from_numpy(x), torch.from_numpy(y), f"{'test' if wanted else 'training'} segments"))
    note = f"DEAP, {len(paths)} subjects, {label}, split by {split}"
    return Dataset("deap", splits[0], splits[1], ("low", "high"), Preprocessing(), note)


def subject(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One file's EEG [40, 32, 7680] float32, from the start of the video, and ratings [40, 4]; raises DataError."""
    content = _pickles.read(Path(path))
    arrays = (content.get("data"), content.get("labels")) if isinstance(content, dict) else (None, None)
    wanted = ((TRIALS, CHANNELS, SAMPLES), (TRIALS, len(LABELS)))
    if tuple(getattr(array, "shape", None) for array in arrays) != wanted:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: expected data {wanted[0]} and labels {wanted[1]}, found {found}; is it DEAP's .dat?")
    data, ratings = (np.asarray(array, np.float32) for array in arrays)
    if not (np.isfinite(data).all() and np.isfinite(ratings).all()):
        raise DataError(f"{path}: contains NaN or infinite values")
    return data[:, :EEG, BASELINE:], ratings


def pictures(data: np.ndarray) -> np.ndarray:
    """Power [trials, segments, channels, 32] of data [trials, channels, samples]; see ``load``."""
    try:
        from scipy.signal import welch
    except ImportError as error:
        raise MissingExtra(f"spectra need scipy: pip install 'transpike[ecg]' ({error})") from error
    low, high = data.min((1, 2), keepdims=True), data.max((1, 2), keepdims=True)
    scaled = (data - low) / np.where(high > low, high - low, 1)
    segments = data.shape[2] // SEGMENT
    pieces = scaled[:, :, : segments * SEGMENT].reshape(len(data), -1, segments, SEGMENT).swapaxes(1, 2)
    power = welch(pieces, fs=1, window="hamming", nperseg=WINDOW)[1]
    return np.clip(power * GAIN, 0, 1).astype(np.float32)


def _tested(count: int, fraction: float, random: np.random.Generator) -> np.ndarray:
    """(count,) bool, at least one True and one False."""
    held_out = min(count - 1, max(1, round(count * fraction)))
    return random.permutation(count) < held_out


def _equalised(labels: np.ndarray, chosen: np.ndarray, equalise: bool) -> np.ndarray:
    """The chosen indices; with ``equalise`` the same number of both classes, evenly spaced."""
    classes = [np.flatnonzero(chosen & (labels == kind)) for kind in (0, 1)]
    most = min(map(len, classes))
    if equalise:
        classes = [where[np.arange(most) * len(where) // max(most, 1)] for where in classes]
    return np.sort(np.concatenate(classes))
