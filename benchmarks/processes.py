"""Conversion and evaluation on two processes of torchrun give the bits of one: docs/scale.md.

    python benchmarks/processes.py --weights resnet20-cifar10-jpeg.safetensors [--data-dir DATA] [--images 2000]

Runs the commands `convert` and `evaluate` once in one process and once in two (Gloo, one thread each), compares the files
and every number of the JSON, and writes a table into docs/scale.md.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transpike.results.writing import write_atomically

PAGE = Path(__file__).resolve().parents[1] / "docs/scale.md"
BEGIN, END = "<!-- benchmarks/processes.py -->\n", "<!-- end of processes -->\n"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ran:
    """What a command printed, its seconds and the CPU seconds of all of its processes."""

    printed: str
    seconds: float
    cpu: float


def run(processes: int, *words: str) -> Ran:
    launch = (*TORCHRUN,) if processes > 1 else ()
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    answer = subprocess.run(
        (sys.executable, *launch, "-m", "transpike", *words), capture_output=True, text=True, env=ENVIRONMENT
    )
    if answer.returncode:
        raise SystemExit(answer.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(answer.stdout, time.monotonic() - start, cpu)


def measured(arguments: argparse.Namespace) -> list[str]:
    """The lines of the table; SystemExit where two processes found something else than one."""
    data = ("--data", arguments.data, *(("--data-dir", str(arguments.data_dir)) if arguments.data_dir else ()))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{count}.transpike" for count in (1, 2)]
        convert = ("convert", "--model", "zoo:resnet20-16-32-64", "--weights", str(arguments.weights), *data)
        convert += ("--recipe", "few-steps", "--timesteps", str(arguments.timesteps), "--threads", "1", "--json")
        conversions = [run(k, *convert, "--output", str(file)) for k, file in enumerate(files, 1)]
        if files[0].read_bytes() != files[1].read_bytes():
            raise SystemExit("the file that two processes wrote is another one")
        evaluate = ("evaluate", str(files[0]), *data, "--limit", str(arguments.images), "--threads", "1", "--json")
        evaluations = [run(k, *evaluate, "--batch-size", str(arguments.batch_size)) for k in (1, 2)]
    if evaluations[0].printed != evaluations[1].printed:
        raise SystemExit("two processes found other numbers than one")
    checksum = hashlib.sha256(evaluations[0].printed.encode()).hexdigest()[:12]
    rows = (("`convert`", conversions), (f"`evaluate`, {arguments.images:,} images", evaluations))
    return [
        f"ResNet-20, few-steps, T = {arguments.timesteps}; the SHA-256 of the JSON of both evaluations begins with "
        f"{checksum}:\n\n",
        "| command | one process | two processes | the same bits |\n|---|---|---|---|\n",
        *(f"| {name} | {told(one)} | {told(two)} | yes |\n" for name, (one, two) in rows),
    ]


def told(ran: Ran) -> str:
    return f"{ran.seconds:.0f} s ({ran.cpu:.0f} s of CPU)"


def write_page(lines: Sequence[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    write_atomically(PAGE, (before + BEGIN + "".join(lines) + END + after).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--no-page", action="store_true", help="Print the table only.")
    arguments = parser.parse_args()
    lines = measured(arguments)
    print("".join(lines))
    if not arguments.no_page:
        write_page(lines)


if __name__ == "__main__":
    main()
