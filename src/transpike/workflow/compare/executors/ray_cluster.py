"""Units as tasks of a Ray cluster."""

import contextlib
import os
import socket
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.inputs import Inputs
from transpike.core.installation import versions
from transpike.core.task import Task
from transpike.errors import FileError, MissingExtra, SettingError
from transpike.training.source.loop import using_threads
from transpike.workflow.compare.executors._base import Executor, Finished, Told, reason_of, untold
from transpike.workflow.compare.inputs import open_inputs
from transpike.workflow.compare.measure import measure
from transpike.workflow.compare.units import Unit, Work

ANSWER = 8.0
"""Seconds in which a cluster answers; Ray itself would wait for minutes and then end the process."""
SPARE = 2
"""Tasks that wait per running one, so that no worker waits for this process."""
TELL = 1.0
"""Seconds after which a worker says again how far it is."""


@dataclass(frozen=True)
class Ray(Executor):
    """A Ray cluster: ``address`` HOST:PORT or ray://HOST:PORT, by default RAY_ADDRESS, a running one, or a new one.

    A unit asks for ``cpus``, ``gpus`` and ``memory`` (bytes). One whose worker or node is lost runs again, ``retries``
    times at most, and a remark says so. ``patience``: seconds to wait for a node with the requested resources.
    With a GPU the samples are evaluated there.
    """

    name: ClassVar[str] = "ray"
    address: str = setting("", "Address of the cluster.")
    cpus: float = setting(1.0, "CPUs of a unit; it computes with one thread.")
    gpus: float = setting(0.0, "GPUs of a unit.")
    memory: int | None = setting(None, "Memory of a unit.", low=1, unit="bytes")
    retries: int = setting(3, "Maximum number of retries of a unit whose worker was lost.")
    patience: float = setting(300.0, "Seconds to wait for a node with the requested resources.")

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, task: Task | None) -> None:
        """Raises MissingExtra without Ray, SettingError where nothing answers at the address within 10 seconds."""
        _library()
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        if address not in ("", "auto", "local"):
            _reach(address)

    def run(self, work: Work, units: Sequence[Unit], inputs: Path, told: Told = untold) -> Iterator[Finished]:
        ray = _library()
        with _connected(ray, self.address):
            shared = _put(ray, work, inputs)
            task = ray.remote(_task()).options(
                num_cpus=self.cpus, num_gpus=self.gpus, memory=self.memory, max_retries=0, name="transpike"
            )
            board = _Board(ray, told)
            given = (versions(), [*sys.path], [shared], board.actor)
            packed = ray.cloudpickle.dumps
            submit = lambda index: task.remote(*given, index, packed(units[index]), self.gpus > 0)  # noqa: E731
            yield from self._followed(ray, submit, len(units), board)

    def _followed(self, ray: Any, submit: Callable[[int], Any], count: int, board: "_Board") -> Iterator[Finished]:
        """Keep few tasks in flight, and read each result as it comes, which frees it in the object store."""
        waiting, running, lost = list(range(count)), dict[Any, int](), Counter[int]()
        able = time.monotonic()
        try:
            while waiting or running:
                slots = _slots(ray, self)
                able = time.monotonic() if slots else able
                if time.monotonic() - able > self.patience:
                    raise SettingError(_too_small(ray, self))
                while waiting and len(running) < SPARE * max(slots, 1):
                    index = waiting.pop(0)
                    running[submit(index)] = index
                board.read()
                for ref in ray.wait([*running], num_returns=1, timeout=1)[0]:
                    index = running.pop(ref)
                    try:
                        found = ray.get(ref)
                    except ray.exceptions.RayError as error:
                        lost[index] += 1
                        if lost[index] <= self.retries:
                            waiting.insert(0, index)
                            continue
                        found = {"failed": f"its worker was lost {lost[index]} times ({reason_of(error)[:300]})"}
                    yield _finished(index, found, lost[index])
        finally:
            for ref in running:
                with contextlib.suppress(Exception):
                    ray.cancel(ref, force=True)


class _Board:
    """How far the units are: an ``actor`` that workers tell and this process asks, without waiting for it.

    It also keeps what finished batches of running units have added up to, for the next worker of a lost unit.
    """

    def __init__(self, ray: Any, told: Told) -> None:
        class Board:
            """Travels as code, like the task: it needs no transpike on its node, which is this one."""

            def __init__(self) -> None:
                self.samples: dict[int, int] = {}
                self.files: dict[int, bytes] = {}

            def keep(self, index: int, data: bytes | None) -> None:
                if data is None:
                    self.files.pop(index, None)
                else:
                    self.files[index] = data

            def kept(self, index: int) -> bytes | None:
                return self.files.get(index)

            def tell(self, index: int, samples: int) -> None:
                self.samples[index] = samples

            def read(self) -> dict[int, int]:
                return self.samples

        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.actor = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self.ray, self.told = ray, told
        self.answer: Any = None

    def read(self) -> None:
        """Pass on what the actor has answered, and ask again; a lost actor tells nothing more."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            if self.answer is not None and self.ray.wait([self.answer], timeout=0)[0]:
                answer, self.answer = self.answer, None
                for index, samples in self.ray.get(answer).items():
                    self.told(index, samples)
            if self.answer is None:
                self.answer = self.actor.read.remote()


@dataclass(frozen=True)
class _OnBoard:
    """Where a worker keeps the finished batches of its unit. Without the actor a lost unit restarts."""

    board: Any
    index: int

    def read(self) -> bytes | None:
        import ray

        try:
            return ray.get(self.board.kept.remote(self.index), timeout=ANSWER)
        except Exception:
            return None

    def write(self, data: bytes | None) -> None:
        import ray

        with contextlib.suppress(Exception):
            ray.get(self.board.keep.remote(self.index, data), timeout=ANSWER)

    def remove(self) -> None:
        self.write(None)


@dataclass(frozen=True)
class _Objects:
    """Labelled batches in the object store, fetched one at a time; ``device`` is where they are evaluated."""

    refs: tuple[Any, ...]
    device: str = "cpu"

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        import ray

        for ref in self.refs:
            x, y = ray.get(ref)
            yield _on(x, self.device), y.to(self.device)


def _put(ray: Any, work: Work, inputs: Path) -> Any:
    """Put everything that units share into the object store, each batch as one object; returns what finds it."""
    source, calibration, data, fitting = open_inputs(inputs)
    network = ray.put((work, source, calibration))
    return ray.put((network, *(tuple(ray.put(batch) for batch in batches) for batches in (data, fitting))))


def _task() -> Callable[..., dict[str, Any]]:
    """The function that runs on a worker. It is sent as code, because another transpike may not have it."""

    def transpike_unit(
        expected: str, folders: list[str], shared: list[Any], board: Any, index: int, unit: bytes, gpu: bool
    ) -> dict[str, Any]:
        import importlib
        import sys

        # modules next to a script, as other processes of one machine find them; what is installed here comes first
        sys.path += [folder for folder in folders if folder not in sys.path]
        try:
            found = importlib.import_module("transpike.core.installation").versions()
        except Exception as error:
            try:
                found = f"transpike {importlib.import_module('transpike').__version__}"
            except Exception:
                found = f"none ({type(error).__name__}: {error})"
        if found != expected:
            import socket

            return {"versions": found, "node": socket.gethostname()}
        module = importlib.import_module("transpike.workflow.compare.executors.ray_cluster")
        return module.on_worker(shared, unit, gpu, board, index)

    return transpike_unit


def on_worker(shared: Sequence[Any], packed: bytes, gpu: bool, board: Any, index: int) -> dict[str, Any]:
    """Measure a unit on a worker; a failure is a result, so that an exception means a lost worker.

    ``board`` is told how far unit ``index`` is.
    """
    import ray

    last = 0.0

    def tell(samples: int) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL:
            last = time.monotonic()
            with contextlib.suppress(Exception):  # only a display waits for it
                board.tell.remote(index, samples)

    try:
        network, data, fitting = ray.get(shared[0])
        work, source, calibration = ray.get(network)
        device = "cuda" if gpu else "cpu"
        opened = (source, calibration, _Objects(data, device), _Objects(fitting, device))
        with using_threads(1):  # sums off the grid, as in calibration, depend on the number of threads
            return {"content": measure(work, ray.cloudpickle.loads(packed), opened, tell, _OnBoard(board, index))}
    except ray.exceptions.RayError:
        raise
    except FileError as error:
        return {"damaged": str(error)}
    except Exception as error:
        return {"failed": reason_of(error)}


def _finished(index: int, found: dict[str, Any], lost: int) -> Finished:
    if "versions" in found:
        raise SettingError(
            f"a worker on {found['node']} has {found['versions']}, but this process has {versions()}: install the same "
            "versions on every node"
        )
    if "damaged" in found:
        raise FileError(found["damaged"])
    remark = f"measured again, because its worker or node was lost ({lost} of its runs)" if lost else ""
    return Finished(index, found.get("content"), found.get("failed", ""), remark)


def _on(x: Any, device: str) -> Any:
    return Inputs({place: one.to(device) for place, one in x.values.items()}) if isinstance(x, Inputs) else x.to(device)


def _asked(ray: Ray) -> dict[str, float]:
    asked = {"CPU": ray.cpus, "GPU": ray.gpus, "memory": float(ray.memory or 0)}
    return {name: amount for name, amount in asked.items() if amount}


def _slots(ray: Any, settings: Ray) -> int:
    """Units that run at once on the living nodes."""
    asked = _asked(settings)
    nodes: Iterable[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min([int(node.get(name, 0) / amount) for name, amount in asked.items()] or [1]) for node in nodes)


def _too_small(ray: Any, settings: Ray) -> str:
    asked = ", ".join(f"{amount:g} {name}" for name, amount in _asked(settings).items())
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = ", ".join(
        f"{max((node.get(name, 0) for node in nodes), default=0):g} {name}" for name in _asked(settings)
    )
    return (
        f"no node of the Ray cluster has {asked}, as requested for a unit; the largest has {largest}. Request less, or "
        "add nodes"
    )


def _library() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtra("the executor ray needs the package ray: pip install 'transpike[cluster]'") from error
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Connected to the cluster; one that this process is connected to already stays connected."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about settings of Ray that are its defaults
            ray.init(address or None, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise SettingError(
            f"Ray cannot be used ({reason_of(error)[:500]}): check the address and that Ray and Python have the same "
            "versions as on the cluster"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises SettingError unless a gRPC server, as those of Ray are, answers at HOST:PORT."""
    host, colon, port = address.removeprefix("ray://").partition("?")[0].rpartition(":")
    if not colon or not port.isdigit():
        raise SettingError(f"the address of a Ray cluster is HOST:PORT or ray://HOST:PORT, not {address!r}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                # the beginning of HTTP/2 and an empty SETTINGS frame, which a server answers with its own (RFC 9113)
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
                connection.settimeout(ANSWER)
                header = connection.recv(9, socket.MSG_WAITALL)
                if len(header) < 9 or header[3] != 4:
                    raise OSError("the server at this address is not Ray")
    except (OSError, OverflowError) as error:
        raise SettingError(
            f"no Ray cluster answers at {address} ({error}): check the address, and `ray status` on its head node"
        ) from error
