"""Is a memory limit kept, and does memory grow? Peaks of resident memory, in forks of this process.

``python tests/campaigns/memory.py``, or ``make memory``. For T of 8 to 512, batches of 1 to 256 and every schedule, every
engine with a limit adds at most the limit, what the run returns, and SLACK. 300 runs of each engine add at most GROWTH.
Ends with 1 otherwise. Linux only.
"""

import argparse
import ctypes
import gc
import itertools
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # forks of a process with other threads may hang

import torch
from torch import Tensor, nn

import transpike as ts

MIB = 2**20
SLACK = 8 * MIB  # what the allocator keeps, and code that is loaded by the first run
GROWTH = 2 * MIB
LIMITS = (16 * MIB, 64 * MIB)
WIDEST = 2**30  # shows that the network needs more than these limits
STEPS, BATCHES, RUNS = (8, 64, 512), (1, 16, 256), 300
ENGINES = ("dense", "event", "auto")
WINDOWS = ts.schedules.LayerSynchronous
SCHEDULES: dict[str, ts.core.recipe.Recipe] = {
    "Poisson": ts.recipes.ECC(timesteps=32, encoder=ts.encoders.Poisson()),
    "windows": ts.recipes.ECC(timesteps=32, schedule=WINDOWS()),
    "windows with wait steps": ts.recipes.ECC(timesteps=32, schedule=WINDOWS(3)),
    "cycles": ts.recipes.BSNN(timesteps=32),
    "differences": ts.recipes.DCGS(timesteps=32),
    "differences of unit gain": ts.recipes.StreamingSigmaDelta(timesteps=32),
    "slots": ts.recipes.T2FSNN(timesteps=32),
    "slots, in order of time": ts.recipes.S4NN(timesteps=32),
}


def network(recipe: ts.core.recipe.Recipe) -> ts.SNN:
    """Wires of 4,096 neurons: without a limit, 256 samples and 512 steps of one wire would take 2 GiB."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(),
        nn.Linear(256, 5),
    )  # fmt: skip
    return ts.convert(model.eval(), recipe, torch.rand(16, 2, 16, 16))


def trim() -> None:
    """Gives what is free back to the system, so that it counts when it is used again."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _memory(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field))


def forked(measure: Callable[[], int]) -> int:
    """What ``measure`` returns in a fork of this process; −1 if that ends badly."""
    shared = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        try:
            struct.pack_into("q", shared, 0, measure())
            os._exit(0)
        finally:
            os._exit(1)
    return struct.unpack_from("q", shared)[0] if os.waitpid(child, 0)[1] == 0 else -1


def added(snn: ts.SNN, x: Tensor, engine: str, memory: int) -> int:
    """Bytes that one run adds to the resident memory at its peak."""

    def measure() -> int:
        ts.simulate(snn, x[:1], engine=engine, memory=memory)  # what is prepared once
        trim()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident now
        before = _memory("VmRSS")
        ts.simulate(snn, x, engine=engine, memory=memory)
        return _memory("VmHWM") - before

    return forked(measure)


def grown(snn: ts.SNN, x: Tensor, engine: str, runs: int) -> int:
    """Bytes of resident memory that ``runs`` runs add, after some others."""

    def measure() -> int:
        before = 0
        names = [node.name for node in snn.graph.cells]
        for number in range(-48, runs):  # three times every length and batch, then the runs that are measured
            if number == 0:
                trim()
                before = _memory("VmRSS")
            ts.simulate(snn, x[: 1 + number % 4], 1 + number % 16, engine=engine, record=names)
        trim()
        return _memory("VmRSS") - before

    return forked(measure)


def cases(only: str) -> Iterator[tuple[str, ts.SNN, int, int]]:
    """What is run, the network, T and the batch, if its text begins with ``only``."""
    found = [(f"T={t} batch={n}", ts.recipes.FewSteps(timesteps=t), t, n) for t, n in itertools.product(STEPS, BATCHES)]
    found += [(f"{name}: T=32 batch=256", recipe, 32, 256) for name, recipe in SCHEDULES.items()]
    for text, recipe, steps, batch in found:
        if text.startswith(only):
            yield text, network(recipe), steps, batch


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--only", default="", help="cases that begin with this text")
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    wrong = 0
    for text, snn, steps, batch in cases(given.only):
        x = torch.rand(batch, 2, 16, 16)
        answer = 4 * steps * batch * 5 * 3  # logits, once more in float64 while they are read
        engines = given.engines.split(",") if snn.schedule.mode == "steps" else ["dense"]
        for engine in engines:
            found = [added(snn, x, engine, limit) for limit in (*LIMITS, WIDEST)]
            bad = [not 0 <= one <= limit + answer + SLACK for one, limit in zip(found, LIMITS, strict=False)]
            wrong += sum(bad)
            parts = [
                f"limit {limit / MIB:.0f} MiB {one / MIB:.1f}"
                for one, limit in zip(found, (*LIMITS, WIDEST), strict=True)
            ]
            print(f"{text} {engine}: {', '.join(parts)}" + (" TOO MUCH" if any(bad) else ""), flush=True)
    snn, x = network(ts.recipes.FewSteps(timesteps=16)), torch.rand(4, 2, 16, 16)
    for engine in given.engines.split(",") if given.runs else ():
        found = grown(snn, x, engine, given.runs)
        wrong += found > GROWTH
        print(f"{given.runs} runs of {engine}: {found / MIB:+.2f} MiB" + (" TOO MUCH" if found > GROWTH else ""))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
