"""Data in the forms in which people have them: taken where it is clear, else refused with the line to write."""

from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import transpike as ts
from stored import stored
from transpike.data import Split
from transpike.data.batches import inputs, pairs
from transpike.errors import DataError, TranspikeError
from transpike.recipes import ECC

X = torch.arange(40 * 1 * 3 * 3, dtype=torch.float32).reshape(40, 1, 3, 3) / 360
Y = torch.arange(40) % 5
A, B = X.numpy(), Y.numpy()
SHAPE = (1, 3, 3)


class Samples(Dataset):
    """A map-style data set whose samples have the given form."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        x, y = X[index], int(Y[index])
        forms = {
            "pair": (x, y), "dictionary": {"image": x, "label": y}, "hf": {"pixel_values": x, "labels": y, "id": "a"},
            "meta": (x, y, {"path": f"{index}.png"}), "array": (x.numpy(), np.int64(y)), "target (1,)": (x, Y[index : index + 1]),
            "text": (x, "cat" if y else "dog"), "label first": (y, x), "index first": (index, x, y), "two inputs": ((x, x), y),
            "no label": x,
        }  # fmt: skip
        return forms[self.form]


class Indexed:
    """What has a length and an index, and is not a torch Dataset."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return X[range(len(X))[index]], int(Y[index])


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((x, int(y)) for x, y in zip(X, Y, strict=True))


class BatchStream(IterableDataset):
    """As a pipeline of WebDataset: a torch Dataset that makes batches itself."""

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        return ((X[start : start + 9], Y[start : start + 9].tolist()) for start in range(0, len(X), 9))


class Batch(NamedTuple):
    image: Tensor
    target: Tensor


class Frame:
    """A data frame: an array that is no NumPy array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> "Frame":
        return Frame(self.values[rows])


LABELLED = {
    "tensors": (X, Y),
    "arrays": (A, B),
    "a tensor and an array": (X, B),
    "a tensor and a list": (X, Y.tolist()),
    "a list of two": [X, Y],
    "a list of two, targets (n, 1)": [X, Y[:, None]],
    "lists": (list(X), Y.tolist()),
    "lists of tensors": (list(X), list(Y)),
    "other byte order": (A.astype(">f4"), B.astype(">i8")),
    "a column order": (np.asfortranarray(A), B),
    "a frame": (Frame(A), Frame(B)),
    "a dictionary": {"images": X, "labels": Y},
    "a split": Split(X, Y),
    "batches of a split": Split(X, Y).batches(7),
    "a list of batches": [(X[:9], Y[:9]), (X[9:], Y[9:])],
    "a list of batches of arrays": [(A[:9], B[:9]), (A[9:], B[9:])],
    "a list of named tuples": [Batch(X[:9], Y[:9]), Batch(X[9:], Y[9:])],
    "a list of lists": [[X[:9], Y[:9].tolist()], [X[9:], Y[9:].tolist()]],
    "user dictionaries": [UserDict(pixel_values=X[:9], labels=Y[:9]), UserDict(pixel_values=X[9:], labels=Y[9:])],
    "a list of samples": [(x, int(y)) for x, y in zip(X, Y, strict=True)],
    "a list of samples of arrays": [(x, y) for x, y in zip(A, B, strict=True)],
    "batches of one": [(X[i : i + 1], Y[i : i + 1]) for i in range(40)],
    "a TensorDataset": TensorDataset(X, Y),
    "a loader": DataLoader(TensorDataset(X, Y), batch_size=9),
    "a stream": Stream(),
    "a stream of batches": BatchStream(),
    "an indexed object": Indexed(),
    **{form: Samples(form) for form in ("pair", "dictionary", "hf", "meta", "array", "target (1,)")},
    **{f"loader of {form}": DataLoader(Samples(form), 9) for form in ("dictionary", "hf", "array", "target (1,)")},
}


def joined(data: Any, shape: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    found = list(pairs(data, shape))
    return torch.cat([x for x, _ in found]), torch.cat([y.reshape(-1) for _, y in found])


@pytest.mark.parametrize("form", LABELLED)
@pytest.mark.parametrize("shape", [None, SHAPE], ids=["unknown shape", "known shape"])
def test_labelled_data_is_read_in_order(form: str, shape: tuple[int, ...] | None) -> None:
    x, y = joined(LABELLED[form], shape)
    assert torch.equal(x.float(), X) and torch.equal(y.long(), Y)


UNLABELLED = {
    "a tensor": X, "an array": A, "a frame": Frame(A), "a list of batches": [X[:9], X[9:]],
    "a generator": "generator", "samples": Samples("no label"), "text labels": Samples("text"),
    "loader with text labels": DataLoader(Samples("text"), 9), "labels of objects": [(X, [{"boxes": 1}] * 40)],
}  # fmt: skip


@pytest.mark.parametrize("form", UNLABELLED)
def test_inputs_are_read_without_their_labels(form: str) -> None:
    data = UNLABELLED[form] if form != "a generator" else (part for part in X.split(7))
    assert torch.equal(torch.cat(list(inputs(data))), X)


def test_lists_of_samples_are_told_from_batches_by_the_shape_of_the_network() -> None:
    samples = list(X)
    assert torch.equal(torch.cat([x for x, _ in pairs(samples, SHAPE)]), X)
    assert torch.equal(torch.cat([x for x, _ in pairs([X[:1], X[1:2]], SHAPE)]), X[:2])
    assert len(next(iter(pairs([(X[:1], 3)], SHAPE)))[0].shape) == 4  # a batch of one with one label
    with pytest.raises(DataError, match=r"\(1, 3, 3\) is ambiguous: write torch.stack\(data\).*torch.cat"):
        list(pairs(samples))


def test_only_one_part_of_an_array_is_copied_at_a_time(tmp_path: Path) -> None:
    """Arrays may be larger than the memory, like those that are mapped from a file; nobody writes into them."""
    np.save(tmp_path / "x.npy", np.zeros((1000, 2), np.float32))
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    parts = list(inputs(array))
    assert [len(part) for part in parts] == [256, 256, 256, 232] and parts[0].untyped_storage().nbytes() == 256 * 2 * 4
    parts[0].fill_(1)
    assert not array.any()


REFUSED = {
    "a path": ("data/images", "not text or a path"),
    "an object": (object(), "loader, a torch Dataset.*not an object"),
    "a data set of ours": (ts.data.load("digits"), r"use data.test.batches\(64\), or data.train"),
    "labels first": (Samples("label first"), r"begins with an int: write \(\(b\[1\], b\[0\]\) for b in data\)"),
    "a loader with labels first": (
        DataLoader(Samples("label first"), 9),
        r"write \(\(b\[1\], b\[0\]\) for b in data\)",
    ),
    "an index first": (DataLoader(Samples("index first"), 9), r"write \(\(b\[1\], b\[2\]\) for b in data\)"),
    "unknown keys": ([{"a": X, "b": Y}], r"keys 'a', 'b'.*write \(\(b\[KEY\], b\[LABEL\]\) for b in data\)"),
    "two inputs": (
        Samples("two inputs"),
        r"several inputs: pass batches of them, as of torch\.utils\.data\.DataLoader",
    ),
    "two inputs by key": ([{"image": X, "x": X}], "keys 'image', 'x'"),
    "an unknown dictionary": ({"a": X}, r"write \(data\[KEY\], data\[LABEL\]\)"),
    "numbers of different length": ((X, Y[:-1]), "40 inputs and 39 targets"),
    "an array of objects": (np.array([[{}]]), "real numbers, not object"),
    "an array of text": (np.array([["a"]]), "real numbers, not <U1"),
    "a batch of text": (["a", "b"], "not a str"),
    "an empty batch": ([()], "not a tuple"),
    "one axis": ([X[0, 0, 0]], r"first axis; got shape \(3,\)"),
    "no axis": (torch.tensor(1.0), "first axis"),
    "samples of different shapes": (TensorDataset, "different shapes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_data_is_refused_with_the_line_to_write(case: str) -> None:
    data, message = REFUSED[case]
    if data is TensorDataset:
        data = ([torch.zeros(2), torch.zeros(3)], [0, 1])
    with pytest.raises(DataError, match=message):
        list(inputs(data))


@pytest.mark.parametrize("data", [Samples("text"), DataLoader(Samples("text"), 9), (X, np.array(["cat"] * 40))])
def test_text_labels_are_refused_where_labels_are_needed(data: Any) -> None:
    with pytest.raises(DataError, match=r"text, like .*'(cat|dog)'.*classes.index\(t\) for t in y"):
        list(pairs(data))


def test_a_record_needs_no_labels_and_takes_the_names_of_classes(snn: ts.SNN) -> None:
    names = [f"digit {label}" for label in LABELS]
    classes = tuple(f"digit {label}" for label in range(10))
    found = ts.record(snn, [(IMAGES, names)], samples=3, classes=classes)
    assert [one.label for one in found.samples] == LABELS[:3].tolist()
    assert [one.label for one in ts.record(snn, [(IMAGES, names)], samples=2).samples] == [None, None]


def test_a_cost_refuses_what_is_no_data(snn: ts.SNN) -> None:
    with pytest.raises(DataError, match="not an int"):
        ts.cost(snn, 3)
    images = iter([(IMAGES, LABELS)])  # both networks need them
    assert ts.cost(snn, images).report.samples == 64


def test_labels_that_are_objects_are_refused() -> None:
    with pytest.raises(DataError, match="must be numbers, not a dict"):
        list(pairs([(X, [{"boxes": 1}] * 40)]))


DIGITS = ts.data.load("digits")
IMAGES, LABELS = DIGITS.preprocessing(DIGITS.test.batch(torch.arange(64))[0]), DIGITS.test.labels[:64]


class Digits(Dataset):
    """Samples as dictionaries of arrays, as Hugging Face data sets give them."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": IMAGES[index].numpy(), "labels": int(LABELS[index])}


FORMS = {
    "dictionaries": Digits(),
    "arrays": (IMAGES.numpy(), LABELS.numpy()),
    "samples": list(zip(IMAGES, LABELS.tolist(), strict=True)),
    "a list of batches": [(IMAGES[:40], LABELS[:40]), (IMAGES[40:], LABELS[40:])],
}


@pytest.fixture(scope="module")
def snn() -> ts.SNN:
    return ts.convert(stored("two-layers"), ECC(4), IMAGES)


@pytest.mark.parametrize("form", FORMS)
def test_everything_that_takes_data_takes_all_forms(form: str, snn: ts.SNN) -> None:
    data = FORMS[form]
    assert torch.equal(ts.convert(stored("two-layers"), ECC(4), data)(IMAGES), snn(IMAGES))
    expected = ts.evaluate(snn, (IMAGES, LABELS)).final.accuracy
    assert ts.evaluate(snn, data).final.accuracy == ts.cost(snn, data).report.final.accuracy == expected
    assert ts.explain(snn, data, changes=False).samples == 64
    assert ts.record(snn, data, samples=3).samples[2].label == int(LABELS[2])
    assert ts.fit_exit(snn, data, drop=30.0).exit.samples == 64
    settings = ts.ComparisonSettings(timesteps=(4,))
    assert ts.compare(stored("two-layers"), [ECC()], data, settings, data=data).measured[0].accuracy == expected
    assert ts.finetune(snn, data, epochs=1, timesteps=4).provenance["fine_tuning"]


@pytest.mark.parametrize("form", FORMS)
def test_training_takes_all_forms(form: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    found = ts.train(model, FORMS[form], ts.Training(epochs=1, batch_size=16))
    assert found.test_accuracy is None and found.test_images == 0 and len(found.history) == 1
    assert found.settings["preprocessing"] == {"mean": [0.0], "std": [1.0]}


def test_training_takes_a_split_and_refuses_data_without_labels() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    split = DIGITS.train.subset(range(64))
    assert ts.train(model, split, ts.Training(epochs=1, batch_size=16)).history
    with pytest.raises(DataError, match="training needs labels"):
        ts.train(model, [IMAGES], ts.Training(epochs=1))
    with pytest.raises(DataError, match="no samples to train on"):
        ts.train(model, [], ts.Training(epochs=1))
    with pytest.raises(TranspikeError, match="text"):
        ts.train(model, [(IMAGES, ["cat"] * 64)], ts.Training(epochs=1))


def test_a_network_says_how_to_give_it_an_array_or_one_sample(snn: ts.SNN) -> None:
    with pytest.raises(DataError, match=r"write torch.from_numpy\(x\)"):
        snn(IMAGES.numpy())
    with pytest.raises(DataError, match=r"not \(1, 8, 8\); for one sample write x\[None\]"):
        snn(IMAGES[0])
