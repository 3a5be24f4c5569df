"""Comparisons on a Ray cluster of this machine: two nodes of one core each."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import transpike as ts
from compared import GATE, LOG, Noted, Often, Told, ToldForEach, Waiting
from transpike.errors import SettingError
from transpike.workflow.compare.executors import ray_cluster
from waiting import wait_until

ray = pytest.importorskip("ray", reason="the extra cluster is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
SIX = [ToldForEach(number=n) for n in range(6)]  # two units each, and those from the third recipe on wait for a file
MEMORY = 80 * 2**20


class Machines:
    """A cluster whose second node can be killed; its processes have the log and the gate of the tests."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.log, self.gate = folder / "log", folder / "gate"
        with self.told():
            head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": MEMORY}
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.second = self.added()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """What starts here has the environment of the tests, and so have its workers."""
        os.environ |= {LOG: str(self.log), GATE: str(self.gate)}
        try:
            yield
        finally:
            del os.environ[LOG], os.environ[GATE]

    def added(self) -> object:
        """A new second node."""
        with self.told():
            return self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY)

    @property
    def executor(self) -> str:
        return f"ray:{self.cluster.address};retries=1"

    def begun(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    found = Machines(tmp_path_factory.mktemp("ray"))
    yield found
    found.cluster.shutdown()


def compared(recipes: list, samples: int = 40, task: ts.tasks.Task | None = None, **given: object) -> ts.Comparison:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    x, y = torch.rand(samples, 6), torch.arange(samples) % 3
    settings = ts.ComparisonSettings(timesteps=(2, 4), task=task)
    halves = [(x[: samples // 2], y[: samples // 2]), (x[samples // 2 :], y[samples // 2 :])]
    return ts.compare(model, recipes, x[:40], settings, data=halves, **given)


def content(comparison: ts.Comparison) -> dict:
    """The JSON without what a clock decides, and without remarks."""
    found = comparison.to_json() | {"remarks": []}
    for row in found["rows"]:
        row.pop("seconds", None)
    return found


def test_a_node_that_is_killed_changes_nothing_but_a_remark(machines: Machines, tmp_path: Path) -> None:
    """Four of twelve units end; when the next two have begun, one on each node, the second node is killed."""
    expected = content(compared(SIX))

    def kill() -> None:
        wait_until(lambda: machines.begun() == 6)
        machines.cluster.remove_node(machines.second, allow_graceful=False)
        machines.gate.touch()

    killer, counted = threading.Thread(target=kill), []
    killer.start()
    found = compared(
        SIX, executor=machines.executor, store=tmp_path, progress=lambda done, total: counted.append((done, total))
    )
    killer.join()
    assert content(found) == expected and len(found.measured) == 12
    assert {total for _, total in counted} == {12 * 40} and {40 * ended for ended in range(13)} <= {
        d for d, _ in counted
    }
    assert [done for done, _ in counted] == sorted({done for done, _ in counted})
    (remark,) = found.remarks
    assert (
        remark.startswith("told-for-each(number=2) at T=")
        and "measured again, because its worker or node was lost" in remark
    )
    assert machines.begun() == 13 and content(compared(SIX, store=tmp_path)) == expected  # from the store
    machines.second = machines.added()


def test_progress_counts_the_samples_of_units_that_run(machines: Machines) -> None:
    """The second batch waits for a file, which is written when the samples of the first one have been counted."""
    machines.gate.unlink(missing_ok=True)
    counted: list[int] = []

    def progress(done: int, total: int | None) -> None:
        counted.append(done)
        if 0 < done < total:
            machines.gate.touch()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    x = torch.rand(40, 6)
    data = [(x[:24], torch.arange(24) % 3), (x[24:], torch.arange(16) % 3)]
    settings = ts.ComparisonSettings(timesteps=(2,), task=Waiting())
    try:
        ts.compare(model, ["ecc"], x, settings, data=data, executor=machines.executor, progress=progress)
    finally:
        machines.gate.touch()
    assert counted == [0, 24, 40]


def test_a_unit_whose_worker_is_killed_continues(machines: Machines) -> None:
    """The worker is killed in the second batch, and the next one does not run the first batch again."""
    for path in (machines.gate, machines.log):
        path.unlink(missing_ok=True)

    def kill() -> None:
        wait_until(lambda: machines.begun() == 2)
        os.kill(int(machines.log.read_text().split()[0]), signal.SIGKILL)
        machines.gate.touch()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    x = torch.rand(40, 6)
    data = [(x[:24], torch.arange(24) % 3), (x[24:], torch.arange(16) % 3)]
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        settings = ts.ComparisonSettings(timesteps=(2,), task=Noted())
        found = ts.compare(model, [Often()], x, settings, data=data, executor=machines.executor)
    finally:
        machines.gate.touch()
    killer.join()
    assert [line.split()[1] for line in machines.log.read_text().splitlines()] == ["24", "16", "16"]
    alone = ts.compare(model, [ts.recipes.ECC()], x, ts.ComparisonSettings(timesteps=(2,)), data=data)
    assert torch.equal(found.measured[0].outcomes, alone.measured[0].outcomes)
    assert any("measured again, because its worker or node was lost" in remark for remark in found.remarks)


def test_an_interrupted_comparison_leaves_no_task(machines: Machines) -> None:
    """Units from the third recipe on wait for a file that never comes: only the end of their comparison ends them."""
    machines.gate.unlink(missing_ok=True)
    machines.log.unlink(missing_ok=True)

    def interrupt(done: int, total: int | None) -> None:
        if done >= 4 * 40:
            wait_until(lambda: machines.begun() > 4)
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            compared(SIX, executor=machines.executor, progress=interrupt)
        workers = {int(line.split()[0]) for line in machines.log.read_text().splitlines()}
        assert not ray.is_initialized()
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    finally:
        machines.gate.touch()


def test_the_object_store_holds_the_inputs_and_few_results(machines: Machines) -> None:
    """A result has 1.28 MB: all twelve would be 15.4 MB, and those that other nodes made are there twice.

    At most two units run and two wait, so that there are the inputs (below 0.9 MB) and five results, one of them being
    read, in two places: 13.7 MB.
    """
    grpc = pytest.importorskip("grpc", reason="Ray tells what its store holds by grpc: pip install 'ray[default]'")
    from ray._private.internal_api import node_stats

    used: list[int] = []

    def held(node: dict[str, Any]) -> int:
        try:
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"]).store_stats
        except grpc.RpcError:  # killed by an earlier test, and Ray has not noticed it yet
            return 0
        return int(stats.object_store_bytes_used)

    def look(done: int, total: int | None) -> None:
        if done:
            used.append(sum(held(node) for node in ray.nodes() if node["Alive"]))

    task = ts.tasks.Fidelity()
    machines.gate.touch()
    found = compared(SIX, 20_000, task, executor=machines.executor, progress=look)
    assert len(found.measured) == 12 and len(used) >= 12
    assert 1e6 < max(used) <= 13.7e6, used


def test_a_worker_that_always_dies_is_a_row_and_the_others_go_on(machines: Machines) -> None:
    found = compared([Told(ending="die"), Told(), Told(ending="break")], executor=machines.executor)
    reasons = {row.recipe: row.reason for row in found.refused}
    assert "was lost 2 times" in reasons["told(ending='die')"] and all(row.failed for row in found.refused)
    assert reasons["told(ending='break')"] == "RuntimeError: told to break" and len(found.measured) == 2


def test_a_worker_with_another_transpike_is_named(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "versions", lambda: "transpike 9.8.7 (code 0), torch 0.0.1")
    with pytest.raises(
        SettingError, match=rf"has transpike {ts.__version__} \(code \w+\), torch .*has transpike 9.8.7"
    ):
        compared(SIX[:1], executor=machines.executor)
    assert not ray.is_initialized()


def test_what_no_node_has_is_named(machines: Machines) -> None:
    with pytest.raises(
        SettingError, match=r"no node of the Ray cluster has 1 CPU, 3 GPU,.*the largest has 1 CPU, 0 GPU"
    ):
        compared(SIX[:1], executor=f"{machines.executor};gpus=3;patience=0")


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_does_not_answer_is_no_cluster(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens; something else does; somebody listens and is silent."""
    assert ray_cluster.ANSWER < 10
    monkeypatch.setattr(ray_cluster, "ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answer is None:
            server.close()
        elif answer:
            threading.Thread(target=lambda: server.accept()[0].sendall(answer), daemon=True).start()
        with pytest.raises(SettingError, match=f"no Ray cluster answers at 127.0.0.1:{port}.*`ray status`"):
            compared(SIX, executor=f"ray:127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["head", "head:port", ":1", "host:99999999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match=r"HOST:PORT|no Ray cluster answers"):
        compared(SIX, executor=f"ray:address={address}")


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ts.TranspikeError, match=r"transpike\[cluster\]"):
        compared(SIX, executor="ray")
