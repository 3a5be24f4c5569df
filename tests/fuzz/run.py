"""Mutates files of every kind that transpike reads, and shows that each is read or refused with a clear error.

    make fuzz                                         the whole campaign: 40,000 mutations, about half an hour
    python tests/fuzz/run.py                          the same
    python tests/fuzz/run.py --mutations 500          500 of each family
    python tests/fuzz/run.py --only chip --seed 7     one family, or subjects whose names begin so
    python tests/fuzz/run.py --only "npz images" --index 17     one mutation again, with its traceback

A failure is a traceback, a hang, more than 1 GiB of memory, code that runs, or a crash. The exit code is 1 if there is
one; the mutated files and the tracebacks are in the folder of --keep.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))  # its own folder is there already

import campaign
from rich.console import Console
from rich.progress import Progress
from subjects import families

COUNTS = {
    "transpike": 10_000,
    "data": 20_000,
    "checkpoint": 2_000,
    "store": 2_000,
    "chip": 2_000,
    "constants": 2_000,
    "onnx": 2_000,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", type=int, help="mutations of each family")
    parser.add_argument("--only", nargs="*", default=[], help="families or beginnings of subjects' names")
    parser.add_argument("--index", type=int, help="only the mutation with this number, in this process")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "transpike-fuzz")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {
        family: [s for s in members if not given.only or any(w == family or s.name.startswith(w) for w in given.only)]
        for family, members in families().items()
    }
    if given.index is not None:
        return _once(chosen, given)
    plan = []
    for family, members in chosen.items():
        total = COUNTS[family] if given.mutations is None else given.mutations
        plan += [(s, total // len(members) + (i < total % len(members))) for i, s in enumerate(members)]
    results, failed = {}, 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("mutations", total=sum(count for _, count in plan))
        for subject, count in plan:
            done = bar.tasks[0].completed
            result = campaign.run(
                subject, count, given.seed, notify=lambda n, bad, s=subject, d=done: bar.update(
                    task, completed=d + n, description=f"{s.name}: {bad} failures" if bad else s.name)
            )  # fmt: skip
            results[subject.name] = result
            failed += len(result.failures)
            counts = ", ".join(f"{number} {kind}" for kind, number in sorted(result.counts.items()))
            print(f"{subject.name}: {counts}; {result.memory >> 20} MiB, {result.seconds:.1f} s", flush=True)
            for line in campaign.report(result, given.seed, given.keep):
                print("   ", line, flush=True)
            if given.json:
                given.json.write_text(campaign.as_json(results, given.seed), "utf-8")
    print(f"{sum(count for _, count in plan):,} mutations, seed {given.seed}: {failed} failures")
    return int(failed > 0)


def _once(chosen: dict, given: argparse.Namespace) -> int:
    """One mutation in this process: what it loads, or its error."""
    for subject in (s for members in chosen.values() for s in members):
        with tempfile.TemporaryDirectory() as folder:
            mutate = subject.prepare(Path(folder))
            random = campaign.random_of(given.seed, subject.name, given.index)
            print(subject.name, *campaign.attempt(subject, Path(folder), mutate, random)[:2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
