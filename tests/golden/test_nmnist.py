"""Recording 0 of the small N-MNIST, as its README counts it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from transpike import data
from transpike.data import Frames, event_archive


@pytest.fixture
def archive(data_directory: Path) -> Path:
    path = data_directory / "nmnist_small.npz"
    if not path.is_file():
        pytest.skip("no nmnist_small.npz in the data directory")
    return path


def test_the_first_recording(archive: Path) -> None:
    small = data.load(f"npz:{archive}", bins=10, span=300_000)
    assert (len(small.train), len(small.test), small.frames, small.image_shape) == (1000, 100, 10, (2, 34, 34))
    assert small.classes == tuple("0123456789") and small.encoder == "event-frames" and small.preprocessing.is_identity
    assert small.train.labels.bincount().tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    x, y = small.train.batch([0])
    with np.load(archive) as z:
        s = slice(*z["train_offsets"][:2])
        t = np.minimum(z["train_t"][s].astype(np.int64) * 10 // 300_000, 9)
        counts = np.zeros((10, 2, 34, 34), np.int64)
        np.add.at(counts, (t, z["train_p"][s], z["train_y"][s], z["train_x"][s]), 1)
    assert int(y) == 5 and counts.sum() == s.stop == 4681
    assert np.array_equal(x[0].numpy(), counts > 0)
    assert x.sum((0, 2, 3, 4)).int().tolist() == [183, 372, 194, 46, 283, 315, 89, 145, 244, 165]
    signed = data.load(f"npz:{archive}", bins=10, span=300_000, frames="signed")
    assert np.array_equal(signed.train.batch([0])[0][0, :, 0].numpy(), np.sign(counts[:, 1] - counts[:, 0]))
    assert isinstance(small.train.images, Frames) and event_archive.is_event_archive(archive)


def test_the_digit_is_seen_in_the_accumulated_frames(archive: Path) -> None:
    """The sum over polarities and frames of a 5, on half the pixels: dark where nothing moved."""
    small = data.load(f"npz:{archive}")
    image = small.train.accumulated().batch(torch.tensor([0]))[0][0].sum(0)
    assert image.shape == (34, 34) and float(image[:2].sum() + image[-1].sum()) < 0.05 * float(image.sum())
