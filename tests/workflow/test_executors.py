"""Where the units of a comparison run, in which parts, and where their results are kept."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

import transpike as ts
from compared import GATE, LOG, Told, ToldForEach, Waiting
from transpike.errors import DataError, FileError, MissingExtra, SettingError
from transpike.workflow.compare import measure
from transpike.workflow.compare import store as stores
from transpike.workflow.compare.executors import (
    Executor,
    Finished,
    Local,
    Ray,
    SlurmArray,
    executor_named,
    ranges,
    ray_cluster,
    untold,
)
from transpike.workflow.compare.store import MARK, Folder, Remote, store_at
from transpike.workflow.compare.units import Unit, Work
from transpike.workflow.evaluate.tally import Tally
from transpike.workflow.resumable import run
from transpike.workflow.resumable.file import packed, unpacked

RECIPES = [Told(), ToldForEach(), Told(number=1), Told(ending="refuse"), Told(multiple=4)]
T = (2, 4)
UNITS = 6


def compared(recipes: list | None = None, **given: object) -> ts.Comparison:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    x, y = torch.rand(40, 6), torch.arange(40) % 3
    settings = ts.ComparisonSettings(timesteps=T)
    return ts.compare(model, recipes or RECIPES, x, settings, data=[(x[:24], y[:24]), (x[24:], y[24:])], **given)


def content(comparison: ts.Comparison) -> dict:
    """The JSON without what a clock decides."""
    found = comparison.to_json()
    for row in found["rows"]:
        row.pop("seconds", None)
    return found


@pytest.fixture(scope="module")
def whole() -> ts.Comparison:
    return compared()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    (tmp_path / "log").touch()
    return tmp_path / "log"


# --- names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local", Local(1)),
        ("local:4", Local(4)),
        ("ray", Ray()),
        ("ray:10.0.0.1:6379", Ray("10.0.0.1:6379")),
        ("ray:ray://head:10001;cpus=2;gpus=0.5;memory=8GiB", Ray("ray://head:10001", 2.0, 0.5, 2**33)),
        ("ray:cpus=2;retries=5", Ray(cpus=2.0, retries=5)),
        ("ray;patience=5", Ray(patience=5.0)),
        ("slurm-array", SlurmArray()),
        ("slurm-array:100;time=02:00:00;partition=long", SlurmArray(100, time="02:00:00", partition="long")),
    ],
)
def test_an_executor_is_a_text(text: str, expected: object) -> None:
    assert executor_named(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rai", "did you mean 'ray'"),
        ("local:many", "jobs must be a number"),
        ("local:0", "jobs must be an integer"),
        ("ray:head:1;cpu=2", "did you mean 'cpus'"),
        ("ray:head:1;cpus=2;cpus=3", "given once"),
        ("ray:head:1;memory=much", "a size like 2GiB"),
        ("ray:head:1;retries=-1", "retries must be"),
        ("slurm-array:9;time=1 && rm", "time must be a word"),
    ],
)
def test_what_is_no_executor_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        executor_named(text)


def test_contradictions_are_refused() -> None:
    model, x = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), torch.rand(4, 2)
    jobs = ts.ComparisonSettings(timesteps=T, jobs=2)
    with pytest.raises(SettingError, match="local:2"):
        ts.compare(model, ["ecc"], x, jobs, data=(x, torch.zeros(4)), executor="local:4")
    with pytest.raises(SettingError, match="Executor"):
        compared(executor=4)
    with pytest.raises(SettingError, match="--executor slurm-array"):
        compared(executor="slurm-array")


def test_neither_ray_nor_fsspec_is_imported_for_other_executors(tmp_path: Path) -> None:
    code = f"""
import sys
before = {{*sys.modules}}
from test_executors import compared
if __name__ == "__main__":
    compared(store={str(tmp_path / "store")!r}, executor="local:1")
    print("ray" in sys.modules, any(name.startswith("transpike") for name in sys.modules))
"""
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert answer.stdout.split() == ["False", "True"], answer.stderr


# --- the same table


@dataclasses.dataclass(frozen=True)
class Backwards(Executor):
    """An executor of a user, which ends with the first unit."""

    name: ClassVar[str] = "backwards"

    def run(
        self, work: Work, units: Sequence[Unit], inputs: Path, told: Callable[[int, int], object] = untold
    ) -> Iterator[Finished]:
        for index in reversed(range(len(units))):
            (one,) = Local().run(work, [units[index]], inputs, lambda _, samples, index=index: told(index, samples))
            yield dataclasses.replace(one, index=index, remark="from the end" if index == 1 else "")


def test_the_order_in_which_units_end_is_of_no_matter(whole: ts.Comparison) -> None:
    found = compared(executor=Backwards())
    assert found.remarks == ("told-for-each() at T=2: from the end",)
    assert content(found) | {"remarks": []} == content(whole)


def test_processes_give_the_same_table(whole: ts.Comparison) -> None:
    assert content(compared(executor="local:2")) == content(whole) and len(whole.measured) == 7


class Progress:
    """What ``progress`` was called with."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, int | None]] = []

    def __call__(self, done: int, total: int | None) -> None:
        self.counted.append((done, total))

    @property
    def done(self) -> list[int]:
        return [done for done, _ in self.counted]


@pytest.mark.parametrize("executor", ["local:1", Backwards()], ids=str)
def test_progress_counts_the_samples_of_all_units(executor: object, tmp_path: Path) -> None:
    """Each of six units reads 40 samples in batches of 24 and 16; the one that refuses counts when it ends."""
    heard = Progress()
    compared(executor=executor, progress=heard)
    assert {total for _, total in heard.counted} == {UNITS * 40}
    assert heard.done == sorted(
        {*range(0, 241, 40), *range(24, 241, 40)} - {4 * 40 + 24 if executor == "local:1" else 64}
    )
    again = Progress()
    compared(store=tmp_path, unit=(1, 2))
    compared(store=tmp_path, progress=again)
    assert again.done[0] == 120 and again.done[-1] == 240  # what the store holds is done


def test_progress_counts_the_samples_of_units_that_run_in_other_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second batch waits for a file, which is written when the samples of the first one have been counted."""
    heard = Progress()
    x = torch.rand(40, 6)
    monkeypatch.setenv(GATE, str(tmp_path / "gate"))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()

    def progress(done: int, total: int | None) -> None:
        heard(done, total)
        if 0 < done < 40:
            (tmp_path / "gate").touch()

    settings = ts.ComparisonSettings(timesteps=T, task=Waiting(), jobs=2)
    data = [(x[:24], torch.arange(24) % 3), (x[24:], torch.arange(16) % 3)]
    ts.compare(model, [Told()], x, settings, data=data, progress=progress)
    assert heard.counted == [(0, 40), (24, 40), (40, 40)]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_parts_are_collected_into_the_same_table(count: int, whole: ts.Comparison, tmp_path: Path, log: Path) -> None:
    parts = [compared(store=tmp_path / "store", unit=(k, count)) for k in range(1, count + 1)]
    assert sum(len(part.measured) for part in parts) == len(whole.measured)
    log.write_text("")
    assert content(compared(store=tmp_path / "store", collect=True)) == content(whole)
    assert not log.read_text() and not list((tmp_path / "store").glob("inputs-*"))


def test_a_failure_belongs_to_the_table_of_parts_and_is_tried_again_without(tmp_path: Path, log: Path) -> None:
    recipes = [Told(), Told(ending="break")]
    expected = content(compared(recipes))
    for unit in ((1, 2), (2, 2)):
        compared(recipes, store=tmp_path / "store", unit=unit)
    assert content(compared(recipes, store=tmp_path / "store", collect=True)) == expected
    log.write_text("")
    assert content(compared(recipes, store=tmp_path / "store")) == expected
    assert len(log.read_text().splitlines()) == 1  # what failed may work now


def test_missing_units_are_named(tmp_path: Path) -> None:
    compared(store=tmp_path, unit=(2, 3))
    with pytest.raises(DataError) as refused:
        compared(store=tmp_path, collect=True)
    text = str(refused.value)
    assert f"4 of {UNITS} units are missing" in text
    assert ": 1,3-4,6 (1 is told() at T=2,4, 3 is told-for-each() at T=4, " in text
    assert f"--unit K/{UNITS}" in text
    for unit in (1, 3, 4, 6):
        compared(store=tmp_path, unit=(unit, UNITS))
    compared(store=tmp_path, collect=True)
    victim = next(tmp_path.glob("told-for-each-*"))
    victim.write_text(victim.read_text().replace('"drop": ', '"drop": 1', 1))
    with pytest.raises(DataError, match=f"1 of {UNITS} units.*{victim.name} is damaged"):
        compared(store=tmp_path, collect=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unit": (0, 3)}, "1 ≤ K ≤ N"),
        ({"unit": (4, 3)}, "1 ≤ K ≤ N"),
        ({"unit": (1, True)}, "1 ≤ K ≤ N"),
        ({"unit": (1, 2), "collect": True}, "not both"),
        ({"unit": (1, 2), "store": None}, "pass store="),
        ({"collect": True, "store": None}, "pass store="),
    ],
)
def test_parts_that_make_no_sense_are_refused(given: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message):
        compared(**{"store": tmp_path, **given})


def test_a_recipe_whose_code_cannot_be_read_is_not_measured_in_parts(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(Told):
        pass

    with pytest.raises(SettingError, match="cannot be measured in parts"):
        compared([Mine()], store=tmp_path, unit=(1, 1))


def test_ranges_are_those_of_job_arrays() -> None:
    assert [ranges(numbers) for numbers in ([], [0], [0, 1, 2, 6, 8, 9])] == ["", "1", "1-3,7,9-10"]


# --- stores


def test_a_store_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(compared(store=tmp_path))
    mark = json.loads((tmp_path / MARK).read_text())
    assert mark["transpike"] == ts.__version__
    for key, value in (("transpike", "9.8.7"), ("torch", "0.0.1"), ("format", 99)):
        (tmp_path / MARK).write_text(json.dumps(mark | {key: value}))
        with pytest.raises(FileError, match=rf"{value}.*but this is transpike {ts.__version__}.*another store"):
            compared(store=tmp_path)
    for text in ("", "[]", "{}"):
        (tmp_path / MARK).write_text(text)
        with pytest.raises(FileError, match="is damaged: delete it"):
            compared(store=tmp_path)
    # the same version with edited sources measures again, but is not part of what others measure together
    (tmp_path / MARK).write_text(json.dumps(mark | {"code": "0" * 64}))
    for given in ({"unit": (1, 2)}, {"collect": True}):
        with pytest.raises(FileError, match=r"code 000000000000"):
            compared(store=tmp_path, **given)
    assert content(compared(store=tmp_path)) == before and json.loads((tmp_path / MARK).read_text()) == mark


def test_an_empty_store_holds_nothing_to_collect(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="contains no results"):
        compared(store=tmp_path, collect=True)


def test_a_store_can_be_any_place_of_fsspec(whole: ts.Comparison, tmp_path: Path, log: Path) -> None:
    pytest.importorskip("fsspec", reason="the extra cluster is not installed")
    for url in ("memory://sweep/one", f"file://{tmp_path}/two"):
        log.write_text("")
        for unit in ((1, 2), (2, 2)):
            compared(store=url, unit=unit)
        count = len(log.read_text())
        assert count and content(compared(store=url, collect=True)) == content(whole)
        assert content(compared(store=url)) == content(whole) and len(log.read_text()) == count
    import fsspec

    names = [name.rpartition("/")[2] for name in fsspec.filesystem("memory").find("/sweep/one")]
    assert len(names) == UNITS + 1 and not [name for name in names if name.endswith(".part") or "inputs" in name]
    assert isinstance(store_at(f"file://{tmp_path}/two"), Folder) and (tmp_path / "two" / MARK).exists()


def test_a_place_without_whole_puts_gets_whole_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="the extra cluster is not installed")
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    store = Remote("dir://store", DirFileSystem(path=str(tmp_path), fs=LocalFileSystem()), "store")
    assert store.read("a.json") is None
    store.write("a.json", b"old")
    store.write("a.json", b"new")
    assert store.read("a.json") == b"new" and os.listdir(tmp_path / "store") == ["a.json"]  # noqa: PTH208

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(LocalFileSystem, "mv", full)
    with pytest.raises(FileError, match=r"a.json cannot be written in the store dir://store \(OSError: no space"):
        store.write("a.json", b"newer")
    assert store.read("a.json") == b"new" and os.listdir(tmp_path / "store") == ["a.json"]  # noqa: PTH208


def test_places_that_fsspec_does_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="the extra cluster is not installed")
    with pytest.raises(SettingError, match="ftpx://a is not an address that fsspec knows"):
        compared(store="ftpx://a")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"transpike\[cluster\]"):
        compared(store="memory://a")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of an S3 server in this process."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]' s3fs")
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'moto[server]' s3fs")
    import s3fs

    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("sweeps")
    yield "s3://sweeps"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_a_store_in_s3_is_resumed_and_collected(bucket: str, whole: ts.Comparison, log: Path) -> None:
    for unit in ((1, 3), (2, 3)):
        compared(store=f"{bucket}/a", unit=unit)
    with pytest.raises(DataError, match="2 of 6 units are missing"):
        compared(store=f"{bucket}/a", collect=True)
    compared(store=f"{bucket}/a", unit=(3, 3))
    count = len(log.read_text())
    assert content(compared(store=f"{bucket}/a", collect=True)) == content(whole) and len(log.read_text()) == count
    with pytest.raises(FileError, match=r"in the store s3://nowhere/a .*check the address and the credentials"):
        compared(store="s3://nowhere/a")


def test_writers_of_one_store_disturb_nobody(tmp_path: Path, whole: ts.Comparison) -> None:
    """Four processes measure everything into one store."""
    code = f"from test_executors import compared\ncompared(store={str(tmp_path / 'store')!r})"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    running = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    errors = [process.communicate()[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    assert content(compared(store=tmp_path / "store", collect=True)) == content(whole)
    assert not list((tmp_path / "store").glob(".*"))


def test_every_file_of_a_store_goes_through_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def write(self: Folder, name: str, data: bytes) -> None:
        written.append(name)

    monkeypatch.setattr(stores.Folder, "write", write)
    compared(store=tmp_path)
    assert len(written) == UNITS + 1 and not list(tmp_path.glob("*.json"))


class KilledError(BaseException):
    """What a kill is in this process."""


def test_a_unit_that_was_preempted_continues(
    tmp_path: Path, whole: ts.Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run of the comparison writes one batch of a unit and is killed; every batch of a unit is run once."""
    monkeypatch.setattr(measure, "EVERY", 0)
    monkeypatch.setattr(run, "SHARE", 0)
    ran, save, add = [], run.Checkpoint.save, Tally.add

    def killed(self: run.Checkpoint, group: object) -> None:
        save(self, group)
        raise KilledError

    def added(self: Tally, snn: ts.SNN, x: torch.Tensor, *rest: object) -> None:
        ran.append((str(snn.recipe), len(x)))
        add(self, snn, x, *rest)

    monkeypatch.setattr(run.Checkpoint, "save", killed)
    monkeypatch.setattr(Tally, "add", added)
    found, kept = None, set()
    for _ in range(30):
        try:
            found = compared(store=tmp_path)
            break
        except KilledError:
            kept |= {path.name for path in tmp_path.glob("*.checkpoint.safetensors")}
    assert found is not None and content(found) == content(whole)
    assert sorted(ran) == sorted(set(ran)) and {size for _, size in ran} == {24, 16}
    assert len(kept) == len(ran) // 2 and not list(tmp_path.glob("*.checkpoint.safetensors"))


def test_a_unit_whose_checkpoint_does_not_fit_begins_anew(
    tmp_path: Path, whole: ts.Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another kind of processor, which converts to a network with other bits; and a damaged file."""
    monkeypatch.setattr(measure, "EVERY", 0)
    save = run.Checkpoint.save

    def killed(self: run.Checkpoint, group: object) -> None:
        save(self, group)
        raise KilledError

    for spoil in (lambda path: path.write_bytes(path.read_bytes()[:-9]), other_network):
        with monkeypatch.context() as patch:
            patch.setattr(run.Checkpoint, "save", killed)
            with pytest.raises(KilledError):
                compared(store=tmp_path)
        (path,) = tmp_path.glob("*.checkpoint.safetensors")
        spoil(path)
        assert content(compared(store=tmp_path)) == content(whole)
        assert not path.exists()
        for path in tmp_path.glob("*.json"):
            path.unlink()


def other_network(path: Path) -> None:
    """A checkpoint of the same call on another network."""
    (one,) = unpacked(path.read_bytes(), "it")
    path.write_bytes(packed([dataclasses.replace(one, facts=one.facts | {"the network": "another"})]))


def test_a_worker_of_ray_leaves_its_batches_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor keeps them by the number of the unit; without it a unit begins anew."""
    files: dict[int, bytes] = {}

    class Method:
        def __init__(self, work: Callable) -> None:
            self.remote = work

    class Board:
        keep = Method(lambda index, data: files.update({index: data}) if data is not None else files.pop(index, None))
        kept = Method(lambda index: files.get(index))

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value, timeout: value))
    first, other = ray_cluster._OnBoard(Board, 3), ray_cluster._OnBoard(Board, 4)
    first.write(b"content")
    assert first.read() == b"content" and other.read() is None
    first.remove()
    assert first.read() is None and not files
    gone = ray_cluster._OnBoard(None, 3)
    gone.write(b"content")
    assert gone.read() is None
