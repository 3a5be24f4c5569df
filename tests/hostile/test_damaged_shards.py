"""Tar files of pictures that are damaged, or not what they say: refused by name, and nothing is written."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_sizes import png

import transpike as ts
from shards import noise, picture, samples, tar
from transpike import data
from transpike.data import _shard_index, _tar
from transpike.errors import DataError, FileError, SettingError

pytest.importorskip("PIL", reason="the extra images is not installed")


def loaded(path: Path, **options: object) -> data.Dataset:
    return data.load(f"webdataset:{path}", size=4, **options)


def changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1024, 1500, 2048, 3 * 1024])
def test_a_truncated_shard_is_named(keep: int, tmp_path: Path) -> None:
    """Wherever it is cut, between files too: four files have 1,024 bytes each, and what follows are zeros."""
    path = changed(tar(tmp_path / "train-7.tar", samples(range(2))), lambda old: old[:keep])
    with pytest.raises(DataError, match=r"train-7\.tar (is truncated|is not a readable tar file)"):
        loaded(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "train.tar", samples(range(3)))
    with tarfile.open(path) as archive:
        second = archive.getmember("0001.png").offset
    changed(path, lambda old: old[:second] + b"\xff" + old[second + 1 :])
    with tarfile.open(path) as archive:
        assert len(archive.getmembers()) == 2  # the library says nothing
    with pytest.raises(DataError, match=rf"train\.tar is damaged at byte {second:,}"):
        loaded(path)


def test_joined_archives_are_not_read_in_part(tmp_path: Path) -> None:
    path, other = tar(tmp_path / "train.tar", samples(range(3))), tar(tmp_path / "b" / "x.tar", samples(range(3, 6)))
    changed(path, lambda old: old + other.read_bytes())
    with pytest.raises(DataError, match="data after the end of its archive"):
        loaded(path)
    changed(path, lambda old: old[: -len(other.read_bytes())] + bytes(20_000))
    assert len(loaded(path).train) == 3  # zeros are no more than a longer end


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"hello" * 300, b"PK\x03\x04" + bytes(2000)])
def test_what_is_no_tar_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tar (is not a readable|contains no samples)"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("pack", "tool"), [(gzip.compress, "gunzip"), (bz2.compress, "bunzip2"), (lzma.compress, "unxz")]
)
def test_a_packed_shard_says_what_unpacks_it(pack: Callable, tool: str, tmp_path: Path) -> None:
    path = changed(tar(tmp_path / "train.tar", samples(range(2))), pack)
    with pytest.raises(DataError, match=f"compressed as a whole.*{tool}"):
        loaded(path)


def test_a_name_that_begins_as_a_packed_file_does(tmp_path: Path) -> None:
    path = tar(tmp_path / "train.tar", {"BZh91.png": picture(3), "BZh91.cls": b"0"})
    assert len(loaded(path).train) == 1


BAD: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "no label": ([("a.jpg", b"x"), ("a.txt", b"x")], r"sample a has no label: expected a\.cls .* it has \.jpg, \.txt"),
    "no picture": ([("a.cls", b"0"), ("a.mp4", b"x")], "sample a has no image"),
    "two pictures": ([("a.jpg", b"x"), ("a.png", b"x"), ("a.cls", b"0")], "sample a has several images"),
    "an empty picture": ([("a.jpg", b""), ("a.cls", b"0")], "has 0 bytes"),
    "a word as label": ([("a.jpg", b"x"), ("a.cls", b"cat")], r"a\.cls is 'cat', not a class index"),
    "a negative label": ([("a.jpg", b"x"), ("a.cls", b"-1")], r"a\.cls is '-1'"),
    "a foreign digit": ([("a.jpg", b"x"), ("a.cls", "²".encode())], r"a\.cls is "),
    "a long number": ([("a.jpg", b"x"), ("a.cls", b"9" * 5000)], r"a\.cls is '999"),
    "a large class": ([("a.jpg", b"x"), ("a.cls", b"99999999999")], "there is a label 99,999,999,999"),
    "a pickle": ([("a.jpg", b"x"), ("a.cls", b"\x80\x04K\x01.")], r"a\.cls is "),
    "damaged JSON": ([("a.jpg", b"x"), ("a.json", b"{")], r"a\.json is not valid JSON"),
    "deep JSON": ([("a.jpg", b"x"), ("a.json", b"[" * 100_000)], r"a\.json is not valid JSON"),
    "JSON without label": ([("a.jpg", b"x"), ("a.json", b'{"url": 1}')], "there is none of cls, labels"),
    "JSON with a name": ([("a.jpg", b"x"), ("a.json", b'{"label": "cat"}')], "label is 'cat'"),
    "JSON with a fraction": ([("a.jpg", b"x"), ("a.json", b'{"label": 1.0}')], r"label is 1\.0"),
    "JSON with true": ([("a.jpg", b"x"), ("a.json", b'{"label": true}')], "label is True"),
    "a large label file": ([("a.jpg", b"x"), ("a.cls", b"1" * (2**20 + 1))], r"a\.cls is not a label: it has 1,048,577"),
    "a file twice": ([("a.jpg", b"x"), ("a.jpg", b"x"), ("a.cls", b"0")], r"a\.jpg appears twice"),
    "a sample twice": (
        [("a.jpg", b"x"), ("a.cls", b"0"), ("b.jpg", b"x"), ("b.cls", b"0"), ("a.jpg", b"x"), ("a.cls", b"0")],
        "sample a appears twice",
    ),
    "apart": ([("a.jpg", b"x"), ("b.jpg", b"x"), ("a.cls", b"0"), ("b.cls", b"0")], "sample a has no label"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_samples_that_are_none(case: str, tmp_path: Path) -> None:
    members, says = BAD[case]
    tar(tmp_path / "train.tar", members)
    with pytest.raises(DataError, match=says):
        loaded(tmp_path)


def header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """A header with any size, also one below zero, which tarfile does not write."""
    number = f"{size:011o}\0".encode() if 0 <= size < 8**11 else b"\xff" + (size % 2**88).to_bytes(11, "big")
    number = b"\x80" + size.to_bytes(11, "big") if size >= 8**11 else number
    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s", name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", number,
        b"00000000000\0", b" " * 8, kind, link.encode(), b"ustar\x0000",
    ).ljust(512, b"\0")  # fmt: skip
    return block[:148] + f"{sum(block):06o}\0 ".encode() + block[156:]


@pytest.mark.parametrize("size", [2**62, 10**9, -512, -1, -(2**40)])
def test_a_size_that_the_file_cannot_hold(size: int, tmp_path: Path) -> None:
    good = tar(tmp_path / "good.tar", samples(range(1))).read_bytes()[:2048]
    (tmp_path / "train.tar").write_bytes(good + header("1.jpg", size) + bytes(2048))
    with pytest.raises(DataError, match=r"train\.tar is (truncated|damaged|not a readable)"):
        loaded(tmp_path / "train.tar")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [10**12, -512])
def test_an_extended_header_that_claims_any_size(kind: bytes, size: int, tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(header("x", size, kind) + bytes(2048))
    with pytest.raises(DataError, match=r"train\.tar"):
        loaded(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("name", ["0.jpg", "0.cls"])
def test_links_and_devices_are_not_followed(kind: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    with tarfile.open(path, "w") as archive:
        for one in ("0.jpg", "0.cls"):
            info = tarfile.TarInfo(one)
            info.size = 4
            if one == name:
                info.type, info.linkname, info.size = kind, "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(b"1234"[: info.size]))
    with pytest.raises(DataError, match=rf"{name} is (a link, which is not followed|not a regular file)"):
        loaded(path)


@pytest.mark.parametrize("name", ["../../out/0", "/tmp/0", "a/../../0", "~/0"])
def test_names_that_lead_elsewhere_are_only_names(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    tar(folder / "train.tar", {f"{name}.png": picture(30), f"{name}.cls": b"0"})
    before = sorted(tmp_path.rglob("*"))
    assert loaded(folder).train.batch([0])[0].unique().tolist() == [30]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_picture_in_the_middle_is_named_and_ends_an_evaluation(tmp_path: Path) -> None:
    packed = {}
    for key in range(24):
        packed |= {f"x/{key}.jpg": noise(key), f"x/{key}.cls": str(key % 2).encode()}
    packed["x/13.jpg"] = packed["x/13.jpg"][:40]
    tar(tmp_path / "train.tar", packed)
    found = loaded(tmp_path, preprocessing=ts.Preprocessing())
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(48, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)
    ).eval()
    snn = ts.convert(model, ts.recipes.ECC(timesteps=2), found.train.batches(limit=8), preprocessing=ts.Preprocessing())
    with pytest.raises(DataError, match=r"train\.tar: x/13\.jpg cannot be read as an image"):
        ts.evaluate(snn, found.train.batches(8))


@pytest.mark.filterwarnings("ignore:Image size")
def test_pictures_have_the_limits_of_others(tmp_path: Path) -> None:
    tar(tmp_path / "train.tar", {"0.png": png(60000, 60000), "0.cls": b"0"})
    with pytest.raises(DataError, match=r"train\.tar: 0\.png (declares|cannot be read)"):
        loaded(tmp_path)


def test_a_picture_that_is_too_large_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tar, "LARGEST_PICTURE", 50)
    tar(tmp_path / "train.tar", samples(range(1)))
    with pytest.raises(DataError, match=r"0000\.png has \d+ bytes; images have 1 to 50"):
        loaded(tmp_path)


def test_a_shard_that_changes_while_it_is_used(tmp_path: Path) -> None:
    path = tar(tmp_path / "train.tar", samples(range(4)))
    found = loaded(path)
    changed(path, lambda old: old[:1200])
    with pytest.raises(DataError, match=r"train\.tar ends before byte .* has changed"):
        found.train.batch([3])
    path.unlink()
    with pytest.raises(DataError, match=r"train\.tar cannot be read"):
        found.train.batch([3])


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("none-{0..9}.tar", DataError, "no shard .*none-0.tar, .*none-1.tar, .*none-2.tar and 7 more"),
        ("none-*.tar", DataError, "matches no file"),
        ("empty", DataError, "folder without .tar files"),
        ("train.tar::", SettingError, "pattern of shards is empty"),
        ("train.tar::train.tar", SettingError, "names the shard .*train.tar twice"),
        ("{train,*}.tar", SettingError, "twice"),
        ("{0..999999999999}.tar", SettingError, "more than 65,536 shards"),
        ("{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar", SettingError, "more than 65,536 shards"),
        ("{" * 40, SettingError, "at most 32 braces"),
    ],
)
def test_patterns_that_name_no_shards(pattern: str, error: type, says: str, tmp_path: Path, monkeypatch) -> None:
    tar(tmp_path / "train.tar", samples(range(2)))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        data.load(f"webdataset:{pattern}")


def test_shards_of_different_splits_and_classes(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar", samples(range(4)))
    tar(tmp_path / "more.tar", samples(range(4)))
    with pytest.raises(DataError, match=r"train-0\.tar has the name of a split, but .*more\.tar does not"):
        loaded(tmp_path)
    (tmp_path / "more.tar").rename(tmp_path / "val-0.tar")
    tar(tmp_path / "val-0.tar", samples(range(4), classes=9))
    found = loaded(tmp_path)  # classes are numbers, so that a shard may have some of them, or others
    assert found.classes == ("0", "1", "2", "3") and found.train.labels.max() == 2


def test_settings(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", samples(range(4)))
    for options in ({"size": 0}, {"size": 8, "resize": 4}, {"test_fraction": 0.0}, {"test_fraction": 1.0}):
        with pytest.raises(SettingError):
            data.load(f"webdataset:{tmp_path}", **options)
    with pytest.raises(SettingError, match="has no option paths"):
        data.load("webdataset:x", paths="y")


# --- an index


def indexed(folder: Path, **changes: object) -> Path:
    """An index with other values under its checksums; None removes one."""
    tar(folder / "train.tar", samples(range(4)))
    index = folder / _shard_index.NAME
    loaded(folder, index=index)
    with np.load(index) as found:
        content = {**found, **changes}
    np.savez(index, **{name: value for name, value in content.items() if value is not None})
    return index


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.array([-1, 0, 0, 0])}, {"offsets": np.array([2**62] * 4)}, {"sizes": np.array([0] * 4)},
        {"sizes": np.array([2**62] * 4)}, {"labels": np.array([-1] * 4)}, {"labels": np.zeros(3, int)},
        {"labels": np.zeros(4)}, {"counts": np.array([5])}, {"counts": np.array([-4])}, {"counts": np.array([[4]])},
        {"format": np.array(2)}, {"format": np.array([1])}, {"shards": np.array(3)}, {"labels": None},
        {"offsets": np.zeros((4, 1), int)}, {"counts": np.array([2**62])},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_that_says_what_cannot_be(changes: dict, tmp_path: Path) -> None:
    indexed(tmp_path, **changes)
    with pytest.raises(DataError, match="not a shard index"):
        loaded(tmp_path)


def test_an_index_that_points_elsewhere_finds_no_picture(tmp_path: Path) -> None:
    indexed(tmp_path, offsets=np.zeros(4, int))
    with pytest.raises(DataError, match=r"train\.tar: the file at byte 0 cannot be read as an image"):
        loaded(tmp_path)


def test_an_index_that_is_none(tmp_path: Path) -> None:
    tar(tmp_path / "train.tar", samples(range(4)))
    (tmp_path / "file").write_bytes(b"hello")
    with pytest.raises(DataError, match="file is not a readable"):
        loaded(tmp_path, index=tmp_path / "file")
    with pytest.raises(FileError, match="there is no folder"):
        loaded(tmp_path, index=tmp_path / "missing" / "index.npz")
    assert (tmp_path / "file").read_bytes() == b"hello"
