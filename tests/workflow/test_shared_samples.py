"""Several processes, as torchrun starts them, share the samples of a call: the result is that of one process."""

import dataclasses
import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import transpike as ts
from commands import run
from stored import stored
from transpike import data
from transpike.core.graph import Graph
from transpike.errors import DataError, LostProcess, SettingError, TranspikeError
from transpike.training import checkpoint, ranks
from transpike.workflow.distributed import check_alike, processes
from transpike.workflow.shared_batches import Batch, dumped, loaded, numbered, shared
from two_processes import environment, finished, launched, needs_gloo, pair
from waiting import HANGS

SAMPLES, SIZE = 90, 20
"""Five batches, the last one of 10: three of them belong to the first process, two to the second."""


def images() -> data.Split:
    return data.load("digits").test


def results(folder: Path) -> dict[str, str]:
    """What each process, or one alone, finds, as text that shows every bit."""
    snn, split = ts.load(folder / "network.transpike"), images()
    counted: list[tuple[int, int | None]] = []
    found = {"evaluate": ts.evaluate(snn, split.batches(SIZE, limit=SAMPLES), progress=lambda *n: counted.append(n))}
    x, y = split.batch(range(SAMPLES))
    found["fidelity"] = ts.evaluate(snn, [x[:50], x[50:57], x[57:]], task=ts.tasks.Fidelity(), limit=70)
    targets = torch.nn.functional.one_hot(y, 10).float()
    found["regression"] = ts.evaluate(snn, (x, targets), task=ts.tasks.Regression(), timesteps=4)
    found["single"] = ts.evaluate(snn, split.batches(SIZE, limit=7), timesteps=3)  # one process has no batch
    found["cost"] = ts.cost(snn, split.batches(SIZE, limit=SAMPLES), activation_bits=(2,))
    found["cost without targets"] = ts.cost(snn, x)
    found["explain"] = ts.explain(snn, (x, y), samples=70)
    fitted = ts.fit_exit(snn, split.batches(SIZE, indices=range(90, 500)), drop=5, score="entropy", checkpoints=(2, 4))
    found["exit"] = ts.evaluate(fitted, split.batches(SIZE, limit=SAMPLES))
    texts = {name: json.dumps(one.to_json()) for name, one in found.items()}
    outcomes = [found["evaluate"].outcomes[t].int().tolist() for t in sorted(found["evaluate"].outcomes)]
    texts |= {"outcomes": str(outcomes), "policy": repr(fitted.exit), "progress": str(counted)}
    return texts | conversions(folder)


RECIPES = {
    "ecc": {},  # per layer
    "weight-normalisation": {"percentile": 99.0},  # per channel
    "dcgs": {},  # moments
    "few-steps": {"samples": 64},  # corrected on spikes
    "linear-ttfs": {},  # largest activations
}


def conversions(folder: Path) -> dict[str, str]:
    """The bytes of the files of converted networks, by their checksum."""
    model, train, found = stored("small-cnn"), data.load("digits").train, {}
    for name, settings in RECIPES.items():
        recipe = ts.recipes.table[name](timesteps=4, **settings)
        file = folder / f"{name}-{os.environ.get('RANK', 'alone')}.transpike"
        ts.save(ts.convert(model, recipe, train.batches(32, limit=144)), file)
        found[f"file of {name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def runs_of_a_conversion() -> int:
    """How often this process runs the source network for the statistics of one conversion."""
    counted, original = [], Graph.run

    def count(self, x, observe=None):
        counted.append(observe is not None)
        return original(self, x, observe=observe)

    Graph.run = count
    try:
        ts.convert(stored("small-cnn"), "ecc", data.load("digits").train.batches(32, limit=144))
    finally:
        Graph.run = original
    return sum(counted)


def writes_of_a_reconstruction(folder: Path) -> int:
    """How often this process writes the checkpoint of a conversion."""
    written, original = [], checkpoint.save

    def save(path, *rest):
        written.append(path)
        original(path, *rest)

    checkpoint.save = save
    try:
        recipe = ts.recipes.FewSteps(timesteps=2, samples=16, reconstruct="network", iterations=3)
        train = data.load("digits").train.batches(32, limit=32)
        ts.convert(stored("two-layers"), recipe, train, checkpoint=folder / "reconstruction")
    finally:
        checkpoint.save = original
    return len(written)


def refusals(folder: Path, rank: int) -> list[str]:
    """Errors that one process alone meets, as every process reports them."""
    snn, (x, y) = ts.load(folder / "network.transpike"), images().batch(range(SAMPLES))
    batches = [(x[k : k + SIZE], y[k : k + SIZE]) for k in range(0, SAMPLES, SIZE)]
    broken = [*batches[:3], (batches[3][0], batches[3][1][:-1]), batches[4]]  # of the second process

    def unreadable():
        yield from batches[:2]
        raise TranspikeError("the third batch cannot be read")

    told = []
    own = batches[rank:]
    for given in (broken, unreadable(), own, batches[: len(batches) - rank]):
        try:
            ts.evaluate(snn, given, timesteps=2)
            told.append("nothing")
        except TranspikeError as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def unlike(folder: Path, group: ranks.Ranks) -> list[str]:
    """Errors about processes that were not started alike, as every process reports them."""
    snn, split, told, own = ts.load(folder / "network.transpike"), images(), [], group.rank
    x, y = split.batch(range(40))
    other = dataclasses.replace(snn, exit=None, recipe=dataclasses.replace(snn.recipe, timesteps=8 + own))
    train = data.load("digits").train.batches(32, limit=64 + 32 * own)
    for call in (
        lambda: ts.evaluate(snn, (x, y), timesteps=2 + own),
        lambda: ts.evaluate(other, (x, y)),
        lambda: ts.evaluate(snn, split.batches(SIZE, indices=range(own, 40 + own))),
        lambda: ts.explain(snn, (x + own, y), samples=10),
        lambda: ts.convert(stored("two-layers"), "ecc", train),
        lambda: ts.compare(stored("two-layers"), ["ecc"], x, data=(x, y)),
    ):
        try:
            call()
            told.append("nothing")
        except (SettingError, DataError) as error:
            told.append(str(error))
    file = folder / "network.transpike"
    told.append(run("evaluate", file, "--limit", 20 + own, code=2).output)
    told.append(run("evaluate", file, "--limit", 20, "--report", folder / "no" / "report.json", code=5).output)
    told.append(run("evaluate", file, "--limit", 20, "--max-drop=-101", code=4).output[-200:])
    true = ranks.versions
    ranks.versions = lambda: f"transpike 0.{own}"
    try:
        with ts.distributed_samples():
            told.append("nothing")
    except SettingError as error:
        told.append(str(error))
    ranks.versions = true
    return told


def work(folder: Path) -> None:
    with ts.distributed_samples() as group:
        runs, texts, refused = runs_of_a_conversion(), results(folder), refusals(folder, group.rank)
        found = {"runs": runs, "texts": texts, "refused": refused, "unlike": unlike(folder, group)}
        found["writes"] = writes_of_a_reconstruction(folder)
    assert processes().count == 1
    (folder / f"found-{group.rank}.json").write_text(json.dumps(found))


def lose(folder: Path) -> None:
    """The second process ends while it reads its second batch."""
    with ts.distributed_samples() as group:
        x, y = images().batch(range(SAMPLES))

        def batches():
            for k in range(0, SAMPLES, SIZE):
                if group.rank and k == 2 * SIZE:
                    os._exit(9)
                yield x[k : k + SIZE], y[k : k + SIZE]

        ts.evaluate(ts.load(folder / "network.transpike"), batches(), timesteps=2)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_gloo()
    folder = tmp_path_factory.mktemp("shared")
    snn = ts.convert(
        stored("fully-connected"),
        ts.recipes.WeightNormalisation(timesteps=8),
        data.load("digits").train.batches(64, limit=128),
    )
    ts.save(snn, folder / "network.transpike")
    return folder


@pytest.fixture(scope="module")
def found(network: Path) -> list[dict]:
    files = [network / f"found-{rank}.json" for rank in (0, 1)]
    finished(files, __file__, str(network))
    return [json.loads(file.read_text()) for file in files]


def test_two_processes_find_what_one_finds_bit_for_bit(network, found):
    alone = results(network)
    for rank in (0, 1):
        for name, text in alone.items():
            assert found[rank]["texts"][name] == text, (rank, name)
    assert alone["progress"] == str([(20, None), (40, None), (60, None), (80, None), (90, None)])


def test_processes_share_the_calibration_data(found):
    alone = runs_of_a_conversion()
    assert alone == 5  # batches of 32
    assert [one["runs"] for one in found] == [3, 2]


def test_the_first_process_writes_the_checkpoint_of_a_conversion(found, network):
    assert [one["writes"] for one in found] == [3, 0] and (network / "reconstruction").exists()


def test_processes_that_are_not_started_alike_say_so(found):
    assert found[0]["unlike"][:-4] == found[1]["unlike"][:-4] and found[0]["unlike"][-1] == found[1]["unlike"][-1]
    settings, network, samples, inputs, calibration, comparison, words, report, _, version = found[0]["unlike"]
    assert "timesteps is (2,) in process 0, but (3,) in process 1 of 2" in settings
    assert "the network is that with the checksum" in network and "received different samples" in samples
    assert "samples is that with the checksum" in inputs and "calibration is that with the checksum" in calibration
    assert "call compare() outside of distributed_samples()" in comparison
    assert "the version is transpike 0.0 in process 0, but transpike 0.1 in process 1 of 2" in version
    for one in found:
        words, report, gate = one["unlike"][6:9]
        assert "the command is" in words and "--limit 21' in process 1 of 2" in words
        assert "report.json" in report and "exceeds --max-drop" in gate


def test_every_process_raises_the_error_of_one(found):
    assert found[0]["refused"] == found[1]["refused"]
    targets, read, sampler, shorter = found[0]["refused"]
    assert targets.startswith("DataError") and "19" in targets
    assert read == "TranspikeError: the third batch cannot be read"
    assert "received different samples" in sampler and "received different samples" in shorter


def test_the_command_prints_once_what_one_process_prints(network):
    words = ("evaluate", str(network / "network.transpike"), "--limit", "50", "--batch-size", "16", "--json")
    alone = subprocess.run(
        (sys.executable, "-m", "transpike", *words), capture_output=True, text=True, timeout=HANGS, env=environment()
    )
    report = network / "report.json"
    answer = launched("-m", "transpike", *words, "--report", str(report))
    assert answer.returncode == 0 or "terminate called" in answer.stderr, answer.stderr[-5000:]
    assert answer.stdout == alone.stdout and json.loads(report.read_text())["samples"] == 50


def test_a_process_that_ends_is_an_error_in_the_others(network):
    started = pair(__file__, str(network), "lose")
    errors = [one.communicate(timeout=HANGS)[1] for one in started]
    assert started[1].returncode == 9
    assert "LostProcess: process 0 of 2 cannot continue, because another process ended" in errors[0]


def test_a_group_that_nobody_opens_is_an_error_in_time(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for name, value in {
            "WORLD_SIZE": "2",
            "RANK": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free.getsockname()[1]),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(ranks.PATIENCE, "0.5")
        with pytest.raises(SettingError, match=r"process group cannot be initialised.*unset WORLD_SIZE"):
            ranks.join("cpu")
        for wrong in ("soon", "0", "-1", "nan", "inf"):
            monkeypatch.setenv(ranks.PATIENCE, wrong)
            with pytest.raises(SettingError, match=f"TRANSPIKE_PATIENCE is the number of seconds.*'{wrong}'"):
                ranks.patience()
        monkeypatch.setenv(ranks.PATIENCE, "")
        assert ranks.patience() == ranks.USUAL


def test_only_errors_of_the_group_are_lost_processes():
    group = ranks.Ranks(0, 2, torch.device("cpu"))
    with pytest.raises(LostProcess, match=r"process 0 of 2 .*Connection closed by peer"), group.answering():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="out of memory"), group.answering():
        raise RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="Connection"), ranks.Ranks(0, 1, torch.device("cpu")).answering():
        raise RuntimeError("Connection closed by peer")


def test_one_process_is_not_asked_for_its_settings():
    check_alike(ranks.Ranks(0, 1, torch.device("cpu")), None)  # computes nothing


class Apart(data.Split):
    """Remembers what is read."""

    def __init__(self, split: data.Split) -> None:
        super().__init__(split.images, split.labels)
        self.read: list[int] = []

    def batch(self, indices):
        self.read += torch.as_tensor(indices).tolist()
        return super().batch(indices)


def test_a_process_reads_only_its_own_batches_of_a_data_set():
    for rank, mine in ((0, [*range(4), 8, 9]), (1, [*range(4, 8)])):
        split = Apart(images())
        found = list(numbered(split.batches(4, limit=10), (1, 8, 8), ranks.Ranks(rank, 2, torch.device("cpu"))))
        assert split.read == mine
        assert [(one.first, one.size, one.content is None) for one in found] == [
            (0, 4, rank == 1), (4, 4, rank == 0), (8, 2, rank == 1)
        ]  # fmt: skip


class Scripted(ranks.Ranks):
    """The first of two processes; what the other one sends is given."""

    def gather(self, value):
        return [value, OTHER.pop(0)]


OTHER: list = []


def test_the_error_of_the_earliest_batch_is_raised():
    import pickle

    group = Scripted(0, 2, torch.device("cpu"))
    batches = [Batch(0, 1, (torch.zeros(1, 1), None)), Batch(1, 1, (torch.zeros(1, 1), None))]
    OTHER[:] = [([(1, 0), (1, 0)], b"", pickle.dumps(DataError("of the second batch")))]
    results = []
    with pytest.raises(DataError, match="of the second batch"):
        for result in shared(group, iter(batches), lambda batch: batch.first):
            results.append(result)
    assert results == [0]
    OTHER[:] = [([(1, 0), (1, 0)], b"", pickle.dumps(DataError("of the second batch")))]

    def fails(batch):
        raise DataError("of the first batch")

    with pytest.raises(DataError, match="of the first batch"):
        list(shared(group, iter(batches), fails))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        lose(Path(sys.argv[1]))
    else:
        work(Path(sys.argv[1]))
        torch.distributed.barrier()  # so that neither leaves while the other still speaks


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.int32])  # fmt: skip
def test_tensors_of_results_arrive_as_they_were(dtype: torch.dtype) -> None:
    numbers = torch.tensor([[0.0, -0.0, 1.5], [3.25, 100.0, -7.0]]).to(dtype)
    tensors = [numbers, numbers.t(), numbers[0, 0], numbers[:, :0], numbers.double(), torch.nn.Parameter(numbers.double())]  # fmt: skip
    arrived = loaded(dumped({"tensors": tensors, "more": (numbers, "text")}))
    for one, other in zip(arrived["tensors"], tensors, strict=True):
        assert type(one) is type(other) and one.dtype is other.dtype and one.requires_grad == other.requires_grad
        assert one.shape == other.shape
        assert one.detach().reshape(-1).view(torch.uint8).equal(other.detach().reshape(-1).view(torch.uint8))
    before = arrived["tensors"][1].clone()
    arrived["tensors"][0].fill_(1)  # it can be written to, and alone
    assert arrived["tensors"][1].equal(before)
    assert arrived["more"][0].equal(numbers) and arrived["more"][1] == "text"
