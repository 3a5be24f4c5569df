"""Pictures in tar files: which shards, which samples, which split, and what is in memory."""

import random
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import transpike as ts
from commands import run
from shards import noise, picture, samples, tar
from transpike import data
from transpike.data import _shard_index, _shards, _tar
from transpike.errors import DataError, SettingError

pytest.importorskip("PIL", reason="the extra images is not installed")


def levels(split: data.Split) -> list[int]:
    return split.batch(range(len(split)))[0].float().mean((1, 2, 3)).round().int().tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        tar(tmp_path / f"train-{number:03d}.tar", samples(range(4 * number, 4 * number + 4)))
    tar(tmp_path / "val-0.tar", samples(range(20, 25), label="json", kind="jpg"))
    return tmp_path


def test_samples_are_read_where_they_are(folder: Path) -> None:
    found = data.load(f"webdataset:{folder}", size=6)
    assert (len(found.train), len(found.test), found.classes, found.image_shape) == (12, 5, ("0", "1", "2"), (3, 6, 6))
    assert levels(found.train) == [10 * key for key in range(12)]
    assert levels(found.test) == [200, 210, 220, 230, 240]
    assert found.train.labels.tolist() == [key % 3 for key in range(12)]
    assert found.test.labels.tolist() == [key % 3 for key in range(20, 25)]
    images, labels = found.train.batch([9, 2, 2])
    assert images.float().mean((1, 2, 3)).tolist() == [90, 20, 20] and labels.tolist() == [0, 2, 2]
    assert levels(found.train.subset([11, 0])) == [110, 0]
    assert found.preprocessing == data._base.statistics(found.train)


def test_pictures_are_those_of_an_image_folder(tmp_path: Path) -> None:
    """The same bytes of pictures, once in a folder and once in shards, give the same pixels and mean."""
    packed = {}
    for key in range(6):
        content = noise(key, size=(31 + key, 23))
        for split in ("train", "val"):
            (tmp_path / "folder" / split / str(key % 2)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / split / str(key % 2) / f"{key}.jpg").write_bytes(content)
        packed |= {f"{key}.jpg": content, f"{key}.cls": str(key % 2).encode()}
    tar(tmp_path / "shards/train.tar", packed)
    ours = data.load(f"webdataset:{tmp_path / 'shards'}", size=16, resize=20)
    other = data.load(f"imagefolder:{tmp_path / 'folder'}", size=16, resize=20)
    order = [0, 3, 1, 4, 2, 5]  # a folder is sorted by class
    assert torch.equal(ours.train.batch(range(6))[0][[0, 2, 4, 1, 3, 5]], other.train.batch(range(6))[0]), order
    assert ours.preprocessing == other.preprocessing


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_forms_of_tar_and_long_names(form: int, tmp_path: Path) -> None:
    folder = "a" * 70 + "/" + ("b" * 70 if form == tarfile.USTAR_FORMAT else "b" * 200 + "é")
    members = {f"{folder}/{key}": content for key, content in samples(range(3)).items()}
    found = data.load(str(tar(tmp_path / "train.tar", members, form)), size=4)
    assert levels(found.train) == [0, 10, 20]


def test_other_members_are_of_no_matter(tmp_path: Path) -> None:
    members = [
        ("__note__", b"x"),
        ("__note__/0.jpg", b"x"),
        ("readme", b"x"),
        (".hidden.jpg", b"x"),
        ("a/._0.png", b"x"),
    ]
    members += [("a/0.seg.png", b"no picture"), ("a/0.PNG", picture(70)), ("a/0.txt", b"x"), ("a/0.cls", b" 1\n")]
    path = tar(tmp_path / "train.tar", members)
    with tarfile.open(path, "a") as archive:
        folder = tarfile.TarInfo("b.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    found = data.load(str(path), size=4)
    assert levels(found.train) == [70] and found.train.labels.tolist() == [1]


# --- which shards


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x.tar", ["x.tar"]),
        ("{000..003}", ["000", "001", "002", "003"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("a-{0..1}-{x,y}", ["a-0-x", "a-0-y", "a-1-x", "a-1-y"]),
        ("{train-{0..1},val-{00..01}}.tar", ["train-0.tar", "train-1.tar", "val-00.tar", "val-01.tar"]),
        ("a{b}c{1..2}", ["a{b}c1", "a{b}c2"]),
        ("a{b", ["a{b"]),
        ("{,x}", ["", "x"]),
        ("}{", ["}{"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert [*_shards._expanded(pattern)] == expected


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("imagenet1k-train-0001.tar", "train"), ("imagenet1k-validation-01.tar", "val"), ("TEST.tar", "test"),
        ("latest-0.tar", None), ("train/0.tar", "train"), ("val/part.tar", "val"), ("train/far/0.tar", None),
        ("validate.tar", None), ("train/val-0.tar", "val"), ("test_of_mine/0.tar", None), ("Train/0.tar", "train"),
    ],
)  # fmt: skip
def test_the_split_is_in_the_name(name: str, split: str | None) -> None:
    assert _shards.Local(Path("/data/sets") / name).split == split


def test_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    every = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110]
    for name in (
        "train-{000..002}.tar", "webdataset:train-*.tar", f"{folder}/train-{{000,001,002}}.tar",
        "train-000.tar::train-001.tar::train-002.tar", "webdataset:.",
    ):  # fmt: skip
        assert levels(data.load(name, size=4).train) == every
    assert levels(data.load("train-{002..001}.tar", size=4).train) == every[8:] + every[4:8]
    assert len(data.load("{train-{000..002},val-0}.tar", size=4).test) == 5


def test_of_validation_and_test_shards_the_latter_are_tested_on(folder: Path) -> None:
    tar(folder / "test-0.tar", samples(range(3)))
    assert levels(data.load(f"webdataset:{folder}", size=4).test) == [0, 10, 20]


def test_without_names_of_splits_a_part_of_each_class_is_held_out(tmp_path: Path) -> None:
    for number in range(4):
        tar(tmp_path / f"{number}.tar", samples(range(10 * number, 10 * number + 10), classes=2))
    found = data.load(f"webdataset:{tmp_path}", size=4, test_fraction=0.25)
    assert found.test.labels.bincount().tolist() == [5, 5] and found.train.labels.bincount().tolist() == [15, 15]
    assert sorted(levels(found.train) + levels(found.test)) == sorted(10 * key % 250 for key in range(40))
    again = data.load(f"webdataset:{tmp_path}", size=4, test_fraction=0.25)
    assert levels(again.test) == levels(found.test)
    other = data.load(f"webdataset:{tmp_path}", size=4, test_fraction=0.25, split_seed=1)
    assert levels(other.test) != levels(found.test) and "seed 1" in other.note


# --- the index


def test_an_index_spares_the_first_pass(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    index = folder / "places.npz"
    before = data.load(f"webdataset:{folder}", size=4, index=index)

    def never(shard: object) -> None:
        raise AssertionError("the shards are read again")

    with monkeypatch.context() as patched:
        patched.setattr(_tar, "samples", never)
        after = data.load(f"webdataset:{folder}", size=4, index=index)
        (folder / _shard_index.NAME).write_bytes(index.read_bytes())
        unasked = data.load(f"webdataset:{folder}", size=4)
    for found in (after, unasked):
        assert levels(found.train) == levels(before.train) and torch.equal(found.test.labels, before.test.labels)
    # another list of shards, and a shard that was written again with the same size
    assert len(data.load(f"webdataset:{folder}/train-{{000..001}}.tar", size=4).train) == 8
    assert len(data.load(f"webdataset:{folder}/val-0.tar", size=4, index=index).test) == 5
    tar(folder / "train-000.tar", samples(range(100, 104)))
    assert levels(data.load(f"webdataset:{folder}", size=4).train)[:4] == [0, 10, 20, 30]  # levels repeat after 250
    assert data.load(f"webdataset:{folder}", size=4).train.labels[:4].tolist() == [1, 2, 0, 1]


def test_an_index_is_not_written_unasked(folder: Path) -> None:
    before = sorted(folder.iterdir())
    data.load(f"webdataset:{folder}", size=4)
    assert sorted(folder.iterdir()) == before


# --- memory and commands


def test_a_data_set_is_not_in_memory(tmp_path: Path) -> None:
    """60 pictures of 27 kB each: the index of a sample has 32 bytes, and a batch holds its packed and decoded pictures."""
    packed = {}
    for key in range(60):
        packed |= {f"{key}.png": noise(key, "PNG", (96, 96)), f"{key}.cls": b"0"}
    path = tar(tmp_path / "train.tar", packed)
    size = path.stat().st_size
    assert size > 60 * 27_000
    data.load(str(path), size=8).train.batch([0])  # what is imported at the first call
    tracemalloc.start()
    try:
        found = data.load(str(path), size=8, preprocessing=ts.Preprocessing())
        for images, _ in found.train.batches(4):
            assert len(images) == 4
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < size / 4


def test_calibration_reads_what_the_seed_draws_and_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transpike.cli._base import calibration

    found = data.load(f"webdataset:{folder}", size=4, preprocessing=ts.Preprocessing())
    read: list[int] = []
    real = _shards.Local.read
    monkeypatch.setattr(_shards.Local, "read", lambda self, at, size: read.append(at) or real(self, at, size))
    drawn = torch.cat([x for x, _ in calibration(found, 5, seed=3)])
    assert len(drawn) == len(read) == 5
    again = torch.cat([x for x, _ in calibration(found, 5, seed=3)])
    assert torch.equal(drawn, again) and not torch.equal(
        drawn, torch.cat([x for x, _ in calibration(found, 5, seed=4)])
    )


def test_commands_take_shards(tmp_path: Path) -> None:
    for split, keys in (("train", range(24)), ("val", range(24, 40))):
        packed = {}
        for key in keys:
            packed |= {f"{key}.jpg": noise(key), f"{key}.cls": str(key % 2).encode()}
        tar(tmp_path / f"{split}-0.tar", packed)
    shards = f"webdataset:{tmp_path}"
    network = tmp_path / "net.transpike"
    model = "py:shard_models:tiny"
    (tmp_path / "shard_models.py").write_text(
        "import torch\ndef tiny(**_):\n    torch.manual_seed(0)\n    return torch.nn.Sequential("
        "torch.nn.Conv2d(3, 4, 3, 8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 28 * 28, 2))\n"
    )
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        words = ("--model", model, "--data", shards, "--calibration-samples", "16", "--preprocessing", "unit")
        run("convert", *words, "--recipe", "ecc", "--timesteps", "2", "--output", network)
    finally:
        sys.path.remove(str(tmp_path))
    report = tmp_path / "report.json"
    run("evaluate", network, "--data", f"{tmp_path}/{{train,val}}-0.tar", "--report", report)
    assert '"samples": 16' in report.read_text()


# --- with other libraries


def test_addresses_of_fsspec(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="the extra cluster is not installed")
    files = fsspec.filesystem("memory")
    for path in folder.glob("*.tar"):
        files.pipe_file(f"/shards/{path.name}", path.read_bytes())
    local = data.load(f"webdataset:{folder}", size=4)
    for pattern in ("memory://shards/{train-{000..002},val-0}.tar", "webdataset:memory://shards/*.tar"):
        found = data.load(pattern, size=4)
        assert levels(found.train) == levels(local.train) and levels(found.test) == levels(local.test)
    assert levels(data.load(f"webdataset:file://{folder}/val-0.tar", size=4).test) == levels(local.test)
    for pattern in ("memory://shards/none-0.tar", "memory://nowhere/*.tar", "webdataset:nothing://x/0.tar"):
        with pytest.raises(
            (DataError, SettingError), match=r"memory://shards/none-0.tar cannot be read|matches no|nothing"
        ):
            data.load(pattern, size=4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_shards_are_those_of_the_library(tmp_path: Path) -> None:
    """What WebDataset writes is read as it reads it: the same samples, labels and bytes in the same order."""
    library = pytest.importorskip("webdataset", reason="webdataset is not installed")
    with library.ShardWriter(str(tmp_path / "train-%03d.tar"), maxcount=4, verbose=0) as writer:
        for key in range(10):
            writer.write({"__key__": f"part/{key:04d}", "jpg": noise(key), "cls": key % 3, "json": {"label": 7}})
    pattern = str(tmp_path / "train-{000..002}.tar")
    theirs = [*library.WebDataset(pattern, shardshuffle=False)]
    ours = data.load(pattern, size=8)
    places = ours.train.images.places
    contents = [
        places.shards[n].read(int(a), int(b))
        for n, a, b in zip(places.numbers, places.offsets, places.sizes, strict=True)
    ]
    assert contents == [one["jpg"] for one in theirs] and len(contents) == 10
    assert ours.train.labels.tolist() == [int(one["cls"]) for one in theirs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_pipeline_of_the_library_is_data_too(tmp_path: Path) -> None:
    library = pytest.importorskip("webdataset", reason="webdataset is not installed")
    packed = {}
    for key in range(24):
        packed |= {f"{key}.png": noise(key, "PNG", (4, 4)), f"{key}.cls": str(key % 2).encode()}
    path = tar(tmp_path / "train.tar", packed)
    stream = library.WebDataset(str(path), shardshuffle=False).decode("torchrgb").to_tuple("png", "cls")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(48, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)
    ).eval()
    snn = ts.convert(model, ts.recipes.ECC(timesteps=2), stream)
    x = torch.cat([image[None] for image, _ in stream])
    labels = torch.tensor([label for _, label in stream])
    assert ts.evaluate(snn, stream).to_json() == ts.evaluate(snn, (x, labels)).to_json()
    batches = stream.batched(8)
    assert ts.evaluate(snn, batches).final == ts.evaluate(snn, (x, labels)).final


@pytest.mark.filterwarnings("ignore")
def test_a_stream_of_parquet_is_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    library = pytest.importorskip("datasets", reason="datasets is not installed")
    x, labels = torch.rand(24, 3, 4, 4), torch.arange(24) % 2
    path = str(tmp_path / "x.parquet")
    library.Dataset.from_dict({"image": x.tolist(), "label": labels.tolist()}).to_parquet(path)
    stream = library.load_dataset(
        "parquet", data_files=path, streaming=True, split="train", cache_dir=str(tmp_path)
    ).with_format("torch")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    snn = ts.convert(model.eval(), ts.recipes.ECC(timesteps=2), stream)
    expected = ts.evaluate(snn, (x, labels)).final
    assert ts.evaluate(snn, stream).final == expected and ts.evaluate(snn, stream.iter(8)).final == expected


# --- property: any order of sizes, any number of shards


@pytest.mark.parametrize("seed", range(4))
def test_any_members_are_found_again(seed: int, tmp_path: Path) -> None:
    """Random contents and sizes, in random shards: what is listed are the bytes that were written."""
    chosen = random.Random(seed)
    form = chosen.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    written: list[tuple[bytes, int]] = []
    for number in range(chosen.randint(1, 4)):
        members: list[tuple[str, bytes]] = []
        for key in range(chosen.randint(1, 12)):
            content, label = (
                chosen.randbytes(chosen.choice((1, 511, 512, 513, chosen.randint(1, 5000)))),
                chosen.randint(0, 99),
            )
            files = [("jpg", content), ("cls", str(label).encode()), ("txt", b"x" * chosen.randint(0, 600))]
            chosen.shuffle(files)
            members += [(f"{'n' * chosen.randint(1, 90)}/{key}.{extension}", part) for extension, part in files[:1]]
            folder = members[-1][0].rpartition("/")[0]
            members += [(f"{folder}/{key}.{extension}", part) for extension, part in files[1:]]
            written.append((content, label))
        tar(tmp_path / f"{number}.tar", members, form)
    found = []
    for shard in _shards.shards(str(tmp_path)):
        one = _tar.samples(shard)
        found += [
            (shard.read(int(a), int(b)), int(c)) for a, b, c in zip(one.offsets, one.sizes, one.labels, strict=True)
        ]
        assert all(_tar.name_at(shard, int(a)).endswith(".jpg") for a in one.offsets)
    assert found == written and np.array([len(content) for content, _ in found]).sum() > 0
