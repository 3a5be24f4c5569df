"""Runs mutations in child processes with limits of memory and time, and reports each that is not refused clearly."""

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from transpike.errors import TranspikeError

CHUNK = 500
"""Mutations of one child process; the next one begins with fresh memory."""
MEMORY = 2**30
"""Bytes that reading a file of a few kilobytes may need in addition to the process's own."""
SECONDS = 30
"""Of processor time for one mutation: about a thousand times what one needs."""
STUCK = 600
"""Seconds without a word of a child after which it is killed; only a hang in C code lasts that long."""
RUNS = (
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "pickle.find_class",
    "ctypes.dlopen",
)


@dataclass(frozen=True)
class Subject:
    """One kind of file: ``mutate(random)`` writes a mutated file into the folder, ``read`` uses it like a user.

    ``read`` returns a text about what it found, or raises a TranspikeError.
    """

    name: str
    family: str
    prepare: Callable[[Path], Callable[[Random], bytes]]
    read: Callable[[Path], Any]


@dataclass
class Failure:
    """A mutation that ended badly: its ``subject``, number, the kind of end, and where."""

    subject: str
    index: int
    kind: str
    detail: str
    content: bytes = b""


@dataclass
class Result:
    """Numbers of mutations that loaded and that were refused, and the failures."""

    counts: Counter = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0


class Hang(BaseException):
    """A mutation needs more processor time than it may."""


def random_of(seed: int, subject: str, index: int) -> Random:
    """The random numbers of one mutation, the same on every machine."""
    return Random(f"{seed} {subject} {index}")


def used() -> int:
    """The largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(
    subject: Subject, folder: Path, mutate: Callable[[Random], bytes], random: Random
) -> tuple[str, str, bytes]:
    """("loaded" or "refused" or a kind of failure, detail, the mutated bytes) of one mutation."""
    content = mutate(random)
    start = used()
    try:
        subject.read(folder)
        end = ("loaded", "")
    except TranspikeError as error:
        end = ("refused", str(error)) if str(error).strip() else ("no message", "")
    except Hang:
        end = ("hang", _where())
    except MemoryError:
        end = ("memory", _where())
    except BaseException as error:
        end = (f"traceback {type(error).__name__}", _where())
    if used() - start > MEMORY:
        end = ("memory", f"{(used() - start) >> 20} MiB, {end}")
    return *end, content


def _where() -> str:
    return traceback.format_exc()[-2500:]


def run(
    subject: Subject, count: int, seed: int, first: int = 0, notify: Callable[[int, int], None] | None = None
) -> Result:
    """``count`` mutations from number ``first`` on."""
    result, index, end = Result(), first, first + count
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        while index < end:
            index = _child(subject, Path(place), seed, index, min(end, index + CHUNK), result, notify, first)
    return result


def _child(
    subject: Subject, place: Path, seed: int, start: int, end: int, result: Result, notify: Any, first: int
) -> int:
    """Run mutations in a child until ``end``, or until one kills it; returns the number of the next one."""
    here, there = multiprocessing.Pipe(duplex=False)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        here.close()
        code = 0
        try:
            _work(subject, place, seed, start, end, there)
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    there.close()
    current = start
    try:
        while True:
            if not here.poll(STUCK):
                os.kill(child, signal.SIGKILL)
                result.failures.append(Failure(subject.name, current, "hang", f"killed after {STUCK} seconds"))
                current += 1
                break
            kind, detail, content, seconds, memory = here.recv()
            result.counts[kind] += 1
            result.seconds, result.memory = max(result.seconds, seconds), max(result.memory, memory)
            if kind not in ("loaded", "refused"):
                result.failures.append(Failure(subject.name, current, kind, detail, content))
            current += 1
            if notify is not None:
                notify(current - first, len(result.failures))
    except EOFError:
        pass
    _, status = os.waitpid(child, 0)
    if current < end and os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        result.failures.append(Failure(subject.name, current, "crash", f"signal {os.WTERMSIG(status)}"))
        current += 1
    elif current < end and not os.WIFSIGNALED(status):
        result.failures.append(Failure(subject.name, current, "crash", f"the child ended with {status}"))
        current += 1
    return current


def _work(subject: Subject, place: Path, seed: int, start: int, end: int, pipe: Connection) -> None:
    folder = place / f"{subject.name.replace(' ', '-')}-{start}"
    folder.mkdir()
    mutate = subject.prepare(folder)
    warnings.simplefilter("ignore")
    with contextlib.suppress(TranspikeError):
        subject.read(folder)  # modules that are imported late are there before code counts as a file's
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 3 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    ran: list[str] = []
    sys.addaudithook(_watch(folder, ran))

    def alarm(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, alarm)
    for index in range(start, end):
        begin = time.process_time()
        before = used()
        ran.clear()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        kind, detail, content = attempt(subject, folder, mutate, random_of(seed, subject.name, index))
        signal.setitimer(signal.ITIMER_PROF, 0)
        if ran:
            kind, detail = "code", "; ".join(ran)
        kept = content if kind not in ("loaded", "refused") else b""
        pipe.send((kind, detail, kept, time.process_time() - begin, used() - before))
    shutil.rmtree(folder)


def _watch(folder: Path, ran: list[str]) -> Callable[[str, tuple], None]:
    """An audit hook that notes processes, connections, foreign pickles, and files written outside ``folder``."""

    def hook(event: str, arguments: tuple) -> None:
        if event in RUNS:
            ran.append(f"{event} {str(arguments)[:200]}")
        elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            path = str(arguments[0])
            if path.startswith("/") and not path.startswith((str(folder), tempfile.gettempdir())):
                ran.append(f"open {path[:200]} {arguments[1]}")

    return hook


def report(result: Result, seed: int, keep: Path | None) -> Iterator[str]:
    """The lines about the failures, one of each kind in full; their bytes go into the folder ``keep``."""
    seen: Counter = Counter()
    for failure in result.failures:
        last = [line for line in failure.detail.splitlines() if line.strip()]
        place = next((line.strip() for line in reversed(last) if "transpike" in line and "File" in line), "")
        key = (failure.kind, place, last[-1][:60] if last else "")
        seen[key] += 1
        name = f"{failure.subject.replace(' ', '-')}-{failure.index}"
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / name).write_bytes(failure.content)
            (keep / f"{name}.txt").write_text(f"{failure.kind}\n{failure.detail}", "utf-8", "replace")
        if seen[key] == 1:
            yield f"{failure.subject} {failure.index} (seed {seed}): {failure.kind}: {place} {last[-1][:200] if last else ''}"
    for (kind, place, text), number in seen.most_common():
        if number > 1:
            yield f"  {number} times {kind}: {place} {text}"


def as_json(results: dict[str, Result], seed: int) -> str:
    """Numbers only."""
    rows = {
        name: {
            "mutations": sum(r.counts.values()) + sum(f.kind in ("hang", "crash") for f in r.failures if not f.content),
            "loaded": r.counts["loaded"],
            "refused": r.counts["refused"],
            "failures": len(r.failures),
            "largest_memory_mib": r.memory >> 20,
            "longest_cpu_seconds": round(r.seconds, 1),
        }
        for name, r in results.items()
    }
    return json.dumps({"seed": seed, "subjects": rows}, indent=1)
