"""Comparisons in parts: the units of a job array, and the script that starts it."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from transpike.errors import SettingError
from transpike.results.writing import write_atomically
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.compare.executors import SlurmArray
from transpike.workflow.compare.store import Folder
from transpike.workflow.compare.sweep import Sweep


def part_of(text: str) -> tuple[int, int]:
    """(K, N) of K/N."""
    first, slash, second = text.partition("/")
    if not slash or not first.isdecimal() or not second.isdecimal() or not 1 <= int(first) <= int(second):
        raise SettingError(f"must be K/N with 1 ≤ K ≤ N, like 3/12, not {text!r}")
    return int(first), int(second)


def told(found: Comparison, unit: tuple[int, int], store: str) -> None:
    """Print what a unit measured; reports and the selected row come with --collect."""
    click.echo(
        f"unit {unit[0]}/{unit[1]}: {len(found.measured)} rows measured and {len(found.refused)} refused, in {store}; "
        "the same command with --collect instead of --unit makes the table"
    )
    for row in found.refused:
        if row.failed:
            click.echo(f"failed: {row.recipe} at T={row.timesteps}: {row.reason}", err=True)


def write_array(executor: SlurmArray, sweep: Sweep) -> None:
    """Write the script of the units that are missing, and submit it where sbatch is."""
    missing, count = sweep.missing(), len(sweep.units)
    words = [sys.executable, "-m", "transpike", *click.get_current_context().meta.get("transpike.typed", ())]
    collect = shlex.join([*words, "--executor", "local:1", "--collect"])
    if not missing:
        click.echo(f"all {count} units have results; collect them:\n{collect}")
        return
    folder = sweep.store.path.absolute() if isinstance(sweep.store, Folder) else Path.cwd()
    path = folder / "transpike-compare.sbatch"
    write_atomically(path, executor.script(words, Path.cwd(), missing, count, folder).encode())
    click.echo(f"wrote {path}: {len(missing)} of {count} units")
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        click.echo(f"sbatch is not on this machine; on one that has it:\nsbatch {shlex.quote(str(path))}")
    else:
        done = subprocess.run([sbatch, str(path)], capture_output=True, text=True)
        if done.returncode:
            raise SettingError(f"sbatch refused {path}: {done.stderr.strip()[:500]}")
        click.echo(done.stdout.strip())
    click.echo(f"when its jobs have ended, collect the table:\n{collect}")
