"""EEG with eyes open and closed: one recording of one person, 117 seconds, split by time.

UCI "EEG Eye State" (O. Roesler, 2013), from eeg_eye_state.npz: ``signals`` float64 [14980, 14] at 128 Hz, ``labels``.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transpike.data import _archive
from transpike.data._base import Dataset, Split, statistics
from transpike.errors import DataError, SettingError

SPIKES = (898, 10386, 11509, 13179)  # artefacts of the device: indices in the published order


def load(
    path: str | Path, window: int = 128, stride: int = 8, test_fraction: float = 0.3, gap: int | None = None
) -> Dataset:
    """Signals (14, window), float32: windows that begin every ``stride`` samples, minus their mean in each channel.

    Class 1, closed: the state at the window's last sample. The test is the last ``test_fraction`` of the recording;
    ``gap`` samples (default: a window) before it are left out, and no window crosses the border. With one person the
    accuracy does not generalise to other people. Raises DataError, SettingError.
    """
    path = Path(path).expanduser()
    found = _archive.read(path, lambda key: key in ("signals", "labels"))
    if len(found) < 2 or found["signals"].ndim != 2 or found["labels"].shape != found["signals"].shape[:1]:
        shapes = {key: array.shape for key, array in found.items()}
        raise DataError(f"{path}: expected signals [samples, channels] and labels [samples], found {shapes}")
    if found["signals"].dtype.kind not in "iuf" or found["labels"].dtype.kind not in "iub":
        kinds = ", ".join(f"{key} {array.dtype}" for key, array in found.items())
        raise DataError(f"{path}: signals must be numbers and labels 0 or 1, not {kinds}")
    gap = window if gap is None else gap
    if window < 2 or stride < 1 or gap < 0 or not 0 < test_fraction < 1:
        raise SettingError(
            "settings must be window >= 2, stride >= 1, gap >= 0 and a test_fraction between 0 and 1, not "
            f"{window}, {stride}, {gap}, {test_fraction}"
        )
    keep = np.setdiff1d(np.arange(len(found["labels"])), SPIKES)
    signals, labels = found["signals"][keep].astype(np.float32), found["labels"][keep].astype(np.int64)
    border = round(len(labels) * (1 - test_fraction))
    if border - gap < window or len(labels) - border < window:
        raise DataError(f"{path}: {len(labels)} samples are too few for windows of {window} and a gap of {gap}")
    train = _windows(signals, labels, 0, border - gap, window, stride, "training windows of eeg-eye-state")
    test = _windows(signals, labels, border, len(labels), window, stride, "test windows of eeg-eye-state")
    note = "UCI EEG Eye State, one person, 117 s, split by time"
    return Dataset("eeg-eye-state", train, test, ("open", "closed"), statistics(train), note)


def _windows(
    signals: np.ndarray, labels: np.ndarray, start: int, stop: int, window: int, stride: int, source: str
) -> Split:
    first = np.arange(start, stop - window + 1, stride)
    pieces = signals[first[:, None] + np.arange(window)].swapaxes(1, 2)
    images: Tensor = torch.from_numpy(np.ascontiguousarray(pieces - pieces.mean(2, keepdims=True)))
    return Split(images, torch.from_numpy(labels[first + window - 1]), source)
