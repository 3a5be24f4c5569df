"""Two processes on the same cores: the share of the machine that each gets, by how OpenMP's threads wait.

    python benchmarks/threads.py [--seconds 10] [--processes 2]

One process with as many threads as there are cores runs a converted network (ResNet-20, seeded weights, T=8, batch 16)
for some seconds and counts batches: first alone, then next to others that do the same. The goal is 80 % of its part of
the machine for each: batches together / (batches alone / processes). Seconds of CPU for a batch are given too: spinning
threads spend them. Writes benchmarks/threads.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import machine

from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
POLICIES = ("ACTIVE", "not set", "PASSIVE")
GOAL = 0.8


def work(seconds: float) -> None:
    """In a process of its own: run when a line arrives on stdin; print batches and seconds of CPU for one."""
    import torch

    import transpike as ts

    torch.manual_seed(0)
    model, _ = ts.models.build("zoo:resnet20-16-32-64")
    x = torch.rand((16, 3, 32, 32))
    snn = ts.convert(model.eval(), ts.recipes.ECC(timesteps=8), [x])
    ts.simulate(snn, x, engine="event", count=False)
    print("ready", flush=True)
    sys.stdin.readline()
    count, cpu, end = 0, time.process_time(), time.time() + seconds
    while time.time() < end:
        ts.simulate(snn, x, engine="event", count=False)
        count += 1
    print(json.dumps({"batches": count, "cpu_seconds": (time.process_time() - cpu) / count}))


def together(processes: int, policy: str, seconds: float, threads: int) -> list[dict]:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_NUM_THREADS": str(threads)} | ({} if policy == "not set" else {"OMP_WAIT_POLICY": policy})
    words = [sys.executable, __file__, "--work", "--seconds", str(seconds)]
    running = [
        subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for one in running:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in running:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return [json.loads(one.communicate()[0]) for one in running]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "threads.json")
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.seconds)
        return
    rows = []
    for policy in POLICIES:
        alone = together(1, policy, arguments.seconds, arguments.threads)[0]
        found = together(arguments.processes, policy, arguments.seconds, arguments.threads)
        half = alone["batches"] / arguments.processes
        row = {
            "policy": policy,
            "processes": arguments.processes,
            "threads": arguments.threads,
            "batches_alone": alone["batches"],
            "least_share": min(one["batches"] for one in found) / half,
            "cpu_seconds_alone": alone["cpu_seconds"],
            "cpu_seconds_together": max(one["cpu_seconds"] for one in found),
        }
        rows.append(row)
        print(f"OMP_WAIT_POLICY {policy:8} alone {alone['batches']:4} batches, each of {arguments.processes} at least "
              f"{row['least_share']:.0%} of its part; CPU seconds of a batch {row['cpu_seconds_alone']:.3f} alone, "
              f"{row['cpu_seconds_together']:.3f} together", flush=True)  # fmt: skip
    content = {"machine": machine.description(0), "goal": GOAL, "rows": rows}
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
