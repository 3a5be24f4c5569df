"""Timing on a machine that others use too: which samples count, interleaved repeats, memory, what machine it is."""

import argparse
import contextlib
import ctypes
import datetime
import importlib.metadata
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from transpike.engines import event_status

TICKS = os.sysconf("SC_CLK_TCK")
QUIET = 0.12  # cores of other processes, above which a sample is dropped
SMOKE = "a smoke test: samples that other processes disturbed count"
LEAST, MOST = 3, 15  # samples of one function
BETWEEN = 2  # the reference is timed once before this many functions of a round, and at its end
LEAST_SPEED = 0.8  # of the reference's best: samples next to a slower one are dropped: the whole machine was slow then
PACKAGES = ("numpy", "spikingjelly", "snntorch", "sinabs", "norse")

Function = Callable[[], object]


def busy_of_others() -> float:
    """CPU seconds that other processes have used so far."""
    fields = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    own = resource.getrusage(resource.RUSAGE_SELF)
    return (sum(fields[:3]) + sum(fields[5:7])) / TICKS - own.ru_utime - own.ru_stime


@dataclass
class Timing:
    """Seconds of the samples that count. A sample is the mean of ``calls`` calls: /proc/stat ticks every 10 ms."""

    calls: int = 1
    seconds: list[float] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    """How many samples of the reference came before each of these."""
    dropped: int = 0
    spent: float = 0.0

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    def warm_up(self, function: Function, at_least: float) -> None:
        elapsed = _seconds(function)
        if elapsed < at_least:  # the first call also makes what is made once
            elapsed = _seconds(function)
            self.calls = max(1, math.ceil(at_least / elapsed))

    def sample(self, function: Function, mark: int = 0) -> None:
        others, start = busy_of_others(), time.perf_counter()
        for _ in range(self.calls):
            function()
        elapsed = time.perf_counter() - start
        self.spent += elapsed
        if (busy_of_others() - others) / elapsed < QUIET:
            self.seconds.append(elapsed / self.calls)
            self.marks.append(mark)
        else:
            self.dropped += 1

    def keep(self, undisturbed: Callable[[int], bool]) -> None:
        """Drop the samples whose mark says that they were disturbed."""
        kept = [s for s, mark in zip(self.seconds, self.marks, strict=True) if undisturbed(mark)]
        self.dropped += len(self.seconds) - len(kept)
        self.seconds = kept

    def wants(self, budget: float, most: int) -> bool:
        kept, tries = len(self.seconds), len(self.seconds) + self.dropped
        if self.spent >= budget:
            return kept < LEAST and tries < 3 * LEAST
        return kept < most and tries < 2 * most


def smoke(arguments: argparse.Namespace) -> str:
    """What ``--smoke`` asks for: short samples, all of which count. Returns why nothing of it must be quoted, or ""."""
    global QUIET, LEAST_SPEED
    if not arguments.smoke:
        return ""
    QUIET, LEAST_SPEED = math.inf, 0.0
    arguments.budget, arguments.sample_seconds = 0.1, 0.01
    return SMOKE


def _seconds(function: Function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(
    functions: Mapping[str, Function], budget: float, at_least: float, reference: str = "", most: int = MOST
) -> dict[str, Timing]:
    """Round robin after a warm-up that does not count; the ``reference`` is timed several times a round.

    Samples next to a slow one of the reference are dropped: a shared machine has slow phases that no process shows.
    ``budget`` is in seconds per function; a sample lasts at least ``at_least`` seconds.
    """
    timings = {name: Timing() for name in functions}
    for name, function in functions.items():
        timings[name].warm_up(function, at_least)
    while wanted := [n for n in functions if n != reference and timings[n].wants(budget, most)]:
        for index, name in enumerate(wanted):
            if reference and index % BETWEEN == 0:
                timings[reference].sample(functions[reference])
            timings[name].sample(functions[name], len(timings[reference].seconds) if reference else 0)
        if reference:
            timings[reference].sample(functions[reference])
    nearby = list(timings[reference].seconds) if reference else []
    if nearby and LEAST_SPEED:
        slowest = min(nearby) / LEAST_SPEED
        timings[reference].marks = list(range(len(nearby)))
        timings[reference].keep(lambda mark: nearby[mark] <= slowest)
        for name in functions:
            if name != reference:
                timings[name].keep(lambda mark: max(nearby[max(0, mark - 1) : mark + 1]) <= slowest)
    return timings


def added_memory(function: Function) -> float:
    """MiB that a call adds to this process at its peak; call it where everything made once has been made."""
    with contextlib.suppress(AttributeError):  # what was freed is not there to be used again
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far no longer counts
    except OSError:
        print("the peak before the call cannot be forgotten here", file=sys.stderr)
    before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if name in line).split()[1]) / 1024


def description(seed: int) -> dict[str, object]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "native_library": event_status()[1],
        "seed": seed,
        "command": " ".join(Path(part).name if "/" in part else part for part in sys.argv),
    }
