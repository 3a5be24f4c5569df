"""Inputs of a comparison are written and read in parts: not all samples are in memory at once."""

import json
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.core.inputs import Inputs
from transpike.errors import DataError, FileError
from transpike.workflow.compare import inputs
from transpike.workflow.compare.inputs import inputs_path, open_inputs, write_inputs

BATCH, SIZE, BATCHES = 16, 64, 24
NBYTES = BATCH * SIZE * 4


@pytest.fixture(autouse=True)
def fresh() -> None:
    inputs._opened.cache_clear()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(SIZE, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> ts.Graph:
    return ts.capture(model, torch.rand(4, SIZE))


class Stream:
    """Batches that are made when they are asked for; ``most`` of them were alive at once."""

    def __init__(self, batches: int = BATCHES, ending: Exception | None = None) -> None:
        self.batches, self.ending = batches, ending
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(self.batches):
            yield self._made(number)
        if self.ending is not None:
            raise self.ending

    def _made(self, number: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(BATCH, SIZE, generator=torch.Generator().manual_seed(number))
        self.alive.add(x)
        self.most = max(self.most, len(self.alive))
        return x, torch.arange(BATCH) % 3


def compared(model: nn.Module, data: object, store: Path, **given: object) -> ts.Comparison:
    settings = ts.ComparisonSettings(timesteps=(2,))
    calibration = torch.rand(32, SIZE, generator=torch.Generator().manual_seed(0))
    return ts.compare(model, ["ecc"], calibration, settings, data=data, store=store, **given)


def rows(comparison: ts.Comparison) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in comparison.to_json()["rows"]]


@pytest.mark.parametrize("part", [1, 2 * NBYTES, 2**26])
def test_parts_hold_the_same_batches(part: int, graph: ts.Graph, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "PART", part)
    given = [*Stream(5)]
    digest = write_inputs(tmp_path, graph, [given[0][0]], iter(given), iter(given[:2]))
    assert digest == write_inputs(tmp_path, graph, [given[0][0]], given, given[:2])
    # a batch a part, or two, the targets counted too; the same parts fit exits
    count = {1: 5, 2 * NBYTES: 3, 2**26: 2}[part]
    assert len([*tmp_path.iterdir()]) == count + 1
    _, (calibration,), data, fitting = open_inputs(inputs_path(tmp_path, digest))
    assert torch.equal(calibration, given[0][0])
    for _ in range(2):  # they are read again
        for found, expected in ((data, given), (fitting, given[:2])):
            assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(found, expected, strict=True))


def test_several_inputs_are_kept_in_parts(graph: ts.Graph, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "PART", 1)
    x = Inputs({("a",): torch.rand(3, 2), ("b",): torch.rand(3, 4)})
    digest = write_inputs(tmp_path, graph, [x], [(x, torch.zeros(3)), (x, torch.ones(3))])
    found = [*open_inputs(inputs_path(tmp_path, digest))[2]]
    assert [float(y[0]) for _, y in found] == [0, 1]
    assert all(torch.equal(one.values[place], x.values[place]) for one, _ in found for place in x.values)


def test_a_comparison_holds_few_batches_at_once(model: nn.Module, tmp_path: Path, monkeypatch) -> None:
    """In memory are the batch that is read, the one before it, which its reader still names, and a part of two."""
    monkeypatch.setattr(inputs, "PART", 2 * NBYTES)
    stream = Stream()
    expected = rows(compared(model, [*Stream()], tmp_path / "list"))
    assert rows(compared(model, stream, tmp_path / "stream")) == expected
    assert stream.most <= 3
    assert len([*(tmp_path / "stream").glob("inputs-*")]) > BATCHES // 2


def test_the_bytes_that_are_written_are_those_of_a_part(graph: ts.Graph, tmp_path: Path, monkeypatch) -> None:
    """A part is in memory as bytes of safetensors and once more with its sorted header, and as what a file buffers."""
    monkeypatch.setattr(inputs, "PART", 4 * NBYTES)
    first = torch.rand(BATCH, SIZE)
    write_inputs(tmp_path, graph, [first], Stream(1))  # what is imported and cached at the first call

    def peak() -> int:
        tracemalloc.start()
        try:
            write_inputs(tmp_path, graph, [first], Stream(200))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most = min(peak() for _ in range(5))  # threads that other tests left behind allocate now and then
    assert most < 4 * (4 * NBYTES) + 2**18 < 200 * NBYTES / 2


@pytest.mark.parametrize("ending", [DataError("the disk of the data is gone"), KeyboardInterrupt()])
def test_data_that_end_in_an_error_leave_nothing(ending, model: nn.Module, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "PART", NBYTES)
    compared(model, Stream(3), tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(type(ending)):
        compared(model, Stream(6, ending), tmp_path)
    assert sorted(tmp_path.iterdir()) == before  # also the parts that both have


def test_data_that_are_clearly_different_are_refused_and_leave_nothing(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"raw 0\.\.255"):
        compared(model, [(255 * x, y) for x, y in Stream(2)], tmp_path)
    assert not [*tmp_path.glob("inputs-*")]


@pytest.mark.parametrize("digest", ["../outside", "A" * 64, "0" * 63, "", 3, None])
def test_a_head_names_no_other_files(digest: object, graph: ts.Graph, tmp_path: Path) -> None:
    path = inputs_path(tmp_path, write_inputs(tmp_path, graph, [torch.rand(2, SIZE)], Stream(1)))
    packed = path.read_bytes()
    header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])
    content = json.loads(header["__metadata__"]["content"]) | {"data": [[digest, 1]]}
    path.write_bytes(safetensors.torch.save(safetensors.torch.load(packed), {"content": json.dumps(content)}))
    with pytest.raises(FileError, match="lists no parts"):
        open_inputs(path)


def test_a_part_that_is_gone_or_damaged_is_named(graph: ts.Graph, tmp_path: Path) -> None:
    path = inputs_path(tmp_path, write_inputs(tmp_path, graph, [torch.rand(2, SIZE)], Stream(1)))
    (part,) = {*tmp_path.iterdir()} - {path}
    data = open_inputs(path)[2]
    for damage in (lambda: part.write_bytes(part.read_bytes()[:-9]), part.unlink):
        damage()
        with pytest.raises(FileError, match=f"{part.name} is damaged"):
            list(data)


def test_an_evaluation_holds_few_batches_at_once(model: nn.Module) -> None:
    snn = ts.convert(model, ts.recipes.ECC(timesteps=2), torch.rand(32, SIZE))
    stream = Stream(12)
    assert ts.evaluate(snn, stream).samples == 12 * BATCH and stream.most <= 2
