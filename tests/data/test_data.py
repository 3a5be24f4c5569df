"""Data sets: embedded, by name, archives, folders."""

import gzip
import io
import pkgutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transpike import data
from transpike.core.preprocessing import Preprocessing
from transpike.data import Split, _base
from transpike.errors import DataError, MissingExtra, SettingError


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def _jpeg_arrays(split: str, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    files = [_jpeg(image) for image in images]
    return {
        f"{split}_jpeg": np.frombuffer(b"".join(files), np.uint8),
        f"{split}_offsets": np.cumsum([0, *map(len, files)]),
        f"{split}_labels": np.arange(len(images)) % 3,
    }


def _grey(count: int, level: int, size: int = 16) -> list[np.ndarray]:
    return [np.full((size, size, 3), level + i, np.uint8) for i in range(count)]


def test_every_module_of_the_folder_is_in_the_table():
    files = {m.name for m in pkgutil.iter_modules(data.__path__) if not m.name.startswith("_")}
    assert files == {load.__module__.rpartition(".")[2] for load in data.sources.values()} | {"batches", "named"}


def test_digits():
    digits = data.load()
    assert (len(digits.train), len(digits.test), digits.image_shape) == (1257, 540, (1, 8, 8))
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.unique().tolist() == np.rint(np.arange(17) * 255 / 16).astype(int).tolist()
    assert digits.test.labels.bincount(minlength=10).min() > 40
    assert (Path(data.__file__).parent / "digits.npz").stat().st_size < 60_000
    x = digits.preprocessing(digits.train.images)
    assert abs(float(x.mean())) < 1e-4
    assert abs(float(x.std()) - 1) < 1e-4


def test_digits_equal_the_published_ones():
    sklearn = pytest.importorskip("sklearn.datasets")
    published = sklearn.load_digits()
    ours = data.load()
    images = torch.cat((ours.train.images, ours.test.images))[:, 0].double().flatten(1) * 16 / 255
    labels = torch.cat((ours.train.labels, ours.test.labels))
    rows = {tuple(row) for row in np.c_[published.data, published.target].astype(int).tolist()}
    found = torch.cat((images.round(), labels[:, None]), 1).long().tolist()
    assert {tuple(row) for row in found} == rows
    assert len(found) == 1797


@pytest.fixture
def split():
    return Split(torch.arange(10 * 3, dtype=torch.uint8).reshape(10, 3, 1, 1), torch.arange(10))


def test_batches(split):
    batches = split.batches(size=4)
    assert len(batches) == 3
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(list(batches)) == 3  # a second time
    assert [y.tolist() for _, y in split.batches(4, limit=5)] == [[0, 1, 2, 3], [4]]
    assert [y.tolist() for _, y in split.batches(2, indices=[7, 1, 3], limit=2)] == [[7, 1]]
    images, labels = split.batch([9, 2])
    assert images[:, 0, 0, 0].tolist() == [27, 6]
    assert labels.tolist() == [9, 2]
    assert split.subset([5, 4]).batch([1])[1].tolist() == [4]


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (torch.zeros(3, 4), torch.zeros(3).long(), "N, channels"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(2).long(), "labels of shape"),
        (torch.zeros(3, 1, 4, 4), torch.zeros(3), "integers"),
        (torch.zeros(3, 1, 4, 4), torch.tensor([0, -1, 2]), "of at least 0"),
        (torch.full((3, 1, 4, 4), torch.nan), torch.zeros(3).long(), "NaN"),
        (torch.zeros(3, 1, 4, 4).long(), torch.zeros(3).long(), "uint8"),
    ],
)
def test_splits_that_make_no_sense(images, labels, says):
    with pytest.raises(DataError, match=says):
        Split(images, labels)


def test_settings_and_empty_splits(split):
    with pytest.raises(SettingError):
        split.batches(size=0)
    with pytest.raises(DataError, match="there are no test images"):
        Split(torch.zeros(0, 1, 1, 1), torch.zeros(0).long(), "test images").batches()
    with pytest.raises(DataError, match="label 9 is out of range for 3 classes"):
        data.Dataset("x", split, split, ("a", "b", "c"), Preprocessing())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_statistics_equal_torch(dtype):
    images = torch.randint(0, 256, (2000, 3, 5, 5), dtype=torch.uint8)
    values = images.double() / 255
    images = images if dtype == torch.uint8 else values.float()
    found = _base.statistics(Split(images, torch.zeros(2000).long()))
    assert found.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert found.std == pytest.approx(values.std((0, 2, 3), correction=0).tolist(), abs=1e-6)
    constant = _base.statistics(Split(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8), torch.zeros(4).long()))
    assert constant.std == (1.0,)


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 3), (6, 5, 4, 1)])
def test_archives_of_arrays(tmp_path, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "x.npz"
    np.savez(path, train_images=images, train_labels=np.arange(6)[:, None], other=np.zeros(2))
    found = data.load(path)
    assert data.load(f"npz:{path}").name == f"npz:{path}"
    assert found.train.images.shape == (6, 1 if len(shape) == 3 else shape[3], 5, 4)
    assert torch.equal(found.train.images[:, 0], torch.from_numpy(images.reshape(6, 5, 4, -1)[..., 0]))
    assert (len(found.test), found.classes) == (0, tuple("012345"))
    assert found.preprocessing == _base.statistics(found.train)


def test_jpeg_archives_are_read_when_asked_and_put_together(tmp_path):
    np.savez(tmp_path / "tiny_imagenet_train-0.npz", **_jpeg_arrays("train", _grey(5, 10)))
    np.savez(tmp_path / "tiny_imagenet_train-1.npz", **_jpeg_arrays("train", _grey(4, 100)))
    np.savez(
        tmp_path / "tiny_imagenet_val.npz", **_jpeg_arrays("val", _grey(3, 200)), class_names=np.array(["a", "b", "c"])
    )
    found = data.load("tiny-imagenet", tmp_path)
    assert (len(found.train), len(found.test), found.classes) == (9, 3, ("a", "b", "c"))
    images, labels = found.train.batch([6, 1])
    assert images.shape == (2, 3, 16, 16)
    assert images.float().mean((1, 2, 3)).round().tolist() == [101, 11]
    assert labels.tolist() == [1, 1]
    assert int(found.train.images.known.sum()) == 2
    part = found.train.subset([6, 1])
    assert torch.equal(part.batch([0])[0], images[:1])
    assert len(part) == 2


def test_an_archive_with_test_and_validation_images_tests_on_the_former(tmp_path):
    np.savez(
        tmp_path / "x.npz",
        test_images=np.zeros((2, 4, 4), np.uint8),
        test_labels=np.zeros(2, int),
        val_images=np.zeros((3, 4, 4), np.uint8),
        val_labels=np.zeros(3, int),
    )
    assert len(data.load(tmp_path / "x.npz").test) == 2


LABELS = np.zeros(3, np.int64)
IMAGES = np.zeros((3, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"signals": IMAGES}, "no images found. Expected train_images"),
        ({"train_labels": LABELS}, "without train_images"),
        ({"train_labels": LABELS, "train_images": IMAGES[:2]}, "labels of shape"),
        ({"train_labels": LABELS, "train_images": np.zeros((3, 3, 9, 9), np.uint8)}, "C up to 4"),
        ({"train_labels": LABELS + 0.5, "train_images": IMAGES}, "not integers"),
        ({"train_labels": LABELS, "train_images": IMAGES.astype(object)}, "write the arrays as numbers"),
        ({"train_labels": LABELS, "train_images": IMAGES + np.nan}, "NaN"),
        (
            {"test_labels": LABELS + 5, "test_images": IMAGES, "class_names": np.array(["a"])},
            "label 5 is out of range for 1 classes",
        ),
        (
            {"train_labels": LABELS, "train_jpeg": np.zeros(9, np.uint8), "train_offsets": np.array([0, 5, 3, 9])},
            "offsets do not fit",
        ),
        (
            {"train_labels": LABELS, "train_jpeg": np.zeros(9, np.uint8), "train_offsets": np.array([0, 3, 6, 9])},
            "image 0 cannot be read as an image",
        ),
    ],
)
def test_archives_that_cannot_be_used(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=says):
        data.load(tmp_path / "x.npz")


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_truncated_archives(tmp_path, keep):
    path = tmp_path / "x.npz"
    np.savez(path, train_images=IMAGES, train_labels=LABELS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="not a readable"):
        data.load(path)


def test_files_that_are_no_archives(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(DataError, match="single array"):
        data.load(tmp_path / "x.npz")
    with pytest.raises(DataError, match="no data at"):
        data.load(f"npz:{tmp_path / 'nothing.npz'}")


def test_without_pillow(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", **_jpeg_arrays("train", _grey(2, 0)))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"transpike\[images\]"):
        data.load(tmp_path / "x.npz")


def test_unknown_names_and_options():
    with pytest.raises(SettingError, match=r"did you mean 'cifar10'.*known: digits, mnist"):
        data.load("cifar-10")
    with pytest.raises(SettingError, match="digits has no option size"):
        data.load("digits", size=3)


def test_missing_sets_say_where_they_were_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("TRANSPIKE_DATA", str(tmp_path))
    with pytest.raises(DataError) as error:
        data.load("mnist")
    for words in (str(tmp_path), "mnist.npz", "train-images-idx3-ubyte", "TRANSPIKE_DATA", "--data-dir"):
        assert words in str(error.value)
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingExtra, match="read by torchvision"):
        data.load("cifar10")


def test_several_processes_do_not_download_into_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSPIKE_DATA", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match=r"every process of torchrun would download it .* load it once in one process"):
        data.load("cifar10")
    assert not [*tmp_path.iterdir()]


def _idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx_files(tmp_path, monkeypatch):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(_idx(np.array([3, 9], np.uint8)))
    found = data.load("fashion-mnist", tmp_path)
    assert torch.equal(found.test.images[:, 0], torch.from_numpy(images))
    assert [found.classes[i] for i in found.train.labels] == ["Dress", "Ankle boot"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="MNIST is not in"):
        data.load("mnist", tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(_idx(np.array([3, 9], np.uint8))[:-1])
    with pytest.raises(DataError, match="truncated"):
        data.load("fashion-mnist", tmp_path)


@pytest.fixture
def folder(tmp_path):
    for part, names in (("train", ("b", "a")), ("val", ("a", "b"))):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            picture = np.full((40, 60, 3), 50 if name == "a" else 150, np.uint8)
            picture[:, :5] = picture[:, -5:] = 255  # falls outside the centre
            Image.fromarray(picture).save(tmp_path / part / name / "1.png")
    return tmp_path


def test_image_folders(folder):
    found = data.load(f"imagefolder:{folder}", size=32, resize=32)
    assert (found.classes, found.test.image_shape) == (("a", "b"), (3, 32, 32))
    images, labels = found.test.batch([1, 0])
    assert labels.tolist() == [1, 0]
    assert images.float().mean((1, 2, 3)).tolist() == [150, 50]
    assert found.test.subset([1]).batch([0])[1].tolist() == [1]
    assert data.load(f"imagefolder:{folder}").image_shape == (3, 224, 224)
    assert data.load("imagenet", folder, size=24).preprocessing.mean == (0.485, 0.456, 0.406)


def test_image_folders_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(DataError, match="no class folders"):
        data.load(f"imagefolder:{tmp_path / 'nothing'}")
    with pytest.raises(SettingError, match="resize at least size"):
        data.load(f"imagefolder:{folder}", size=32, resize=16)
    (folder / "val" / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        data.load(f"imagefolder:{folder}", size=8).test.batch([0])
    (folder / "val" / "b").rename(folder / "val" / "c")
    with pytest.raises(DataError, match=r"classes that .* does not have: c"):
        data.load(f"imagefolder:{folder}")


def test_layout_of_tiny_imagenet(folder):
    root = folder / "tiny-imagenet"
    root.mkdir()
    (folder / "train").rename(root / "train")
    (root / "val" / "images").mkdir(parents=True)
    (folder / "val" / "b" / "1.png").rename(root / "val" / "images" / "v0.png")
    (root / "val" / "val_annotations.txt").write_text("v0.png\tb\t0\t0\t1\t1\n")
    found = data.load("tiny-imagenet", folder)
    assert found.test.labels.tolist() == [1]
    assert found.image_shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [
        ("mnist", (1, 28, 28), (60000, 10000)),
        ("fashion-mnist", (1, 28, 28), (60000, 10000)),
        ("cifar10", (3, 32, 32), (50000, 10000)),
        ("tiny-imagenet", (3, 64, 64), (20000, 10000)),
    ],
)
def test_shared_sets(data_directory, name, shape, counts):
    found = data.load(name, data_directory)
    assert (found.image_shape, (len(found.train), len(found.test))) == (shape, counts)
    part = _base.statistics(found.train, 300)
    assert part.mean == pytest.approx(found.preprocessing.mean, abs=0.04)
    assert part.std == pytest.approx(found.preprocessing.std, abs=0.04)


def test_the_jpeg_copy_says_so(data_directory):
    jpeg = data.load("cifar10", data_directory)
    exact = data.load(f"npz:{data_directory / 'cifar10_lossless_5k.npz'}")
    assert "JPEG copy" in jpeg.note
    assert jpeg.classes == exact.classes
    assert torch.equal(jpeg.test.labels[:1000], exact.test.labels)
    difference = jpeg.test.batch(range(50))[0].double() - exact.test.batch(range(50))[0].double()
    assert difference.square().mean().sqrt() < 12  # 30.5 dB on average are 7.6 grey levels
