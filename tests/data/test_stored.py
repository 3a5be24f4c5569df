"""Large arrays of archives remain in their files."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shards import noise
from transpike import data
from transpike.core.preprocessing import Preprocessing
from transpike.data import _archive, _stored, imagefolder, npz
from transpike.errors import DataError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array counts as a large one."""
    monkeypatch.setattr(_archive, "LARGE", 1)


def images(count: int, *shape: int, dtype: str = "u1") -> np.ndarray:
    found = np.random.default_rng(count).integers(0, 256, (count, *shape))
    return (found / 255 if dtype[-2] == "f" else found).astype(dtype)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 1)])
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "<f8"])
def test_the_same_images_as_in_memory(shape: tuple, dtype: str, tmp_path: Path, monkeypatch) -> None:
    parts = [images(7, *shape, dtype=dtype), images(4, *shape, dtype=dtype)]
    for number, part in enumerate(parts):
        np.savez(
            tmp_path / f"{number}.npz", train_images=part, train_labels=np.arange(len(part)) % 3, other=np.zeros(3)
        )
    files = sorted(tmp_path.glob("*.npz"))
    expected = npz.load(files)
    monkeypatch.setattr(_archive, "LARGE", 1)
    found = npz.load(files)
    assert isinstance(found.train.images, _stored.ArrayImages) and isinstance(expected.train.images, torch.Tensor)
    assert found.preprocessing == expected.preprocessing and repr(found.train) == repr(expected.train)
    for order in ([0], [10, 3, 3, 6, 7], range(11), []):
        ours, theirs = (one.train.batch(torch.tensor([*order], dtype=torch.int64)) for one in (found, expected))
        assert ours[0].dtype == theirs[0].dtype and torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_only_large_arrays_that_are_not_compressed_remain(tmp_path: Path, monkeypatch) -> None:
    part = images(8, 16, 16)
    np.savez(tmp_path / "a.npz", train_images=part, train_labels=np.zeros(8, int))
    np.savez_compressed(tmp_path / "b.npz", train_images=part, train_labels=np.zeros(8, int))
    np.savez(tmp_path / "c.npz", train_images=np.asfortranarray(part), train_labels=np.zeros(8, int))
    monkeypatch.setattr(_archive, "LARGE", part.nbytes)
    kinds = [type(data.load(tmp_path / f"{name}.npz").train.images) for name in "abc"]
    assert kinds == [_stored.ArrayImages, torch.Tensor, torch.Tensor]
    monkeypatch.setattr(_archive, "LARGE", part.nbytes + 1)
    assert isinstance(data.load(tmp_path / "a.npz").train.images, torch.Tensor)


def test_batches_are_all_that_is_in_memory(tmp_path: Path, small: None) -> None:
    """256 images of 16 kB: read through once for the checksum, a MiB at a time, and then 8 at a time."""
    np.savez(tmp_path / "a.npz", train_images=images(256, 128, 128), train_labels=np.zeros(256, int))
    data.load(tmp_path / "a.npz").train.batch([0])
    tracemalloc.start()
    try:
        split = npz.load(tmp_path / "a.npz", preprocessing=Preprocessing()).train
        for x, _ in split.batches(8):
            assert len(x) == 8
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2 * 2**20 + 4 * 8 * 128 * 128 < 256 * 128 * 128


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 3, 9, 9), np.uint8), "C up to 4"),
        (np.zeros((3, 4, 4), np.int32), "uint8"),
        (np.zeros((3, 4, 4), bool), "uint8"),
        (np.full((3, 4, 4), np.nan), "NaN"),
        (np.zeros((3, 0, 4), np.uint8), "one or more"),
        (np.zeros((2, 4, 4), np.uint8), "labels of shape"),
    ],
)
def test_what_is_refused_in_memory_is_refused_in_a_file(array: np.ndarray, says: str, tmp_path: Path, small) -> None:
    np.savez(tmp_path / "x.npz", train_images=array, train_labels=np.zeros(3, int))
    with pytest.raises(DataError, match=says):
        data.load(tmp_path / "x.npz")


def test_archives_that_do_not_fit_together(tmp_path: Path, small: None) -> None:
    np.savez(tmp_path / "a.npz", train_images=images(3, 4, 4), train_labels=np.zeros(3, int))
    np.savez(tmp_path / "b.npz", train_images=images(3, 4, 5), train_labels=np.zeros(3, int))
    with pytest.raises(DataError, match="archives are inconsistent"):
        npz.load([tmp_path / "a.npz", tmp_path / "b.npz"])


def test_a_checksum_is_compared_although_nothing_is_kept(tmp_path: Path, small: None) -> None:
    np.savez(tmp_path / "a.npz", train_images=images(30, 16, 16), train_labels=np.zeros(30, int))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        at = archive.getinfo("train_images.npy").header_offset + 4000
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[at] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        data.load(tmp_path / "a.npz")


def test_a_file_that_changes_while_it_is_used(tmp_path: Path, small: None) -> None:
    np.savez(tmp_path / "a.npz", train_labels=np.zeros(3, int), train_images=images(3, 16, 16))
    split = data.load(tmp_path / "a.npz").train
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:600])
    with pytest.raises(DataError, match=r"a\.npz has become shorter"):
        split.batch([2])
    (tmp_path / "a.npz").unlink()
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        split.batch([0])


def test_jpeg_files_remain_too_and_few_decoded_images_are_kept(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("PIL", reason="the extra images is not installed")
    files = [noise(seed, size=(8, 6)) for seed in range(5)]
    arrays = {
        "train_jpeg": np.frombuffer(b"".join(files), np.uint8), "train_offsets": np.cumsum([0, *map(len, files)]),
        "train_labels": np.arange(5) % 2,
    }  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays)
    expected = data.load(tmp_path / "a.npz")
    monkeypatch.setattr(_archive, "LARGE", 1)
    monkeypatch.setattr(npz, "CACHED", 5 * 3 * 8 * 6 - 1)
    found = data.load(tmp_path / "a.npz")
    assert isinstance(found.train.images.files[0][0], _stored.StoredArray)
    for order in ([4, 0, 0], range(5), []):
        chosen = torch.tensor([*order], dtype=torch.int64)
        assert torch.equal(found.train.batch(chosen)[0], expected.train.batch(chosen)[0])
    assert not found.train.images.known.any() and expected.train.images.known.all()
    files[3] = noise(3, size=(6, 8))
    arrays |= {
        "train_jpeg": np.frombuffer(b"".join(files), np.uint8),
        "train_offsets": np.cumsum([0, *map(len, files)]),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="image 3 has a different size"):
        data.load(tmp_path / "a.npz").train.batch([3])


def test_networks_with_several_inputs_have_theirs_in_memory(tmp_path: Path, small: None) -> None:
    np.savez(
        tmp_path / "a.npz", train_input_images=images(4, 4, 4), train_input_other=np.zeros((4, 2), np.float32),
        train_labels=np.arange(4),
    )  # fmt: skip
    assert len(data.load(tmp_path / "a.npz").train) == 4


def test_image_folders_are_read_batch_by_batch(tmp_path: Path, monkeypatch) -> None:
    """Nothing is decoded before it is asked for, a batch decodes its own pictures only, and nothing is kept."""
    pytest.importorskip("PIL", reason="the extra images is not installed")
    (tmp_path / "train" / "a").mkdir(parents=True)
    for key in range(12):
        (tmp_path / "train" / "a" / f"{key}.png").write_bytes(noise(key, "PNG"))
    decoded: list[str] = []
    real = imagefolder.cropped
    monkeypatch.setattr(imagefolder, "cropped", lambda *given: decoded.append(given[1]) or real(*given))
    split = imagefolder.load(tmp_path, size=4, preprocessing=Preprocessing()).train
    for _ in range(2):
        assert not decoded
        for number, (x, _) in enumerate(split.batches(4)):
            assert len(x) == 4 and len(decoded) == 4 * (number + 1)
        decoded.clear()
