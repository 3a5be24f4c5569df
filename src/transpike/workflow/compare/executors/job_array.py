"""The script of a job array, for sites with a batch system."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transpike.core.constraints import check_settings, setting
from transpike.core.task import Task
from transpike.errors import SettingError
from transpike.workflow.compare.executors._base import Executor, Finished, Told, untold
from transpike.workflow.compare.units import Unit, Work

LARGEST = 1000
"""Jobs of an array: Slurm's default limit is 1001."""


@dataclass(frozen=True)
class SlurmArray(Executor):
    """A Slurm job array with at most ``jobs`` jobs; a job has one unit, or several where there are more units.

    ``memory`` in bytes, ``time`` and ``partition`` as sbatch takes them. Its jobs are command lines, so that
    only ``transpike compare`` can write it.
    """

    name: ClassVar[str] = "slurm-array"
    jobs: int = setting(LARGEST, "Largest number of jobs.", low=1)
    cpus: int = setting(1, "CPUs of a job.", low=1)
    gpus: int = setting(0, "GPUs of a job.")
    memory: int | None = setting(None, "Memory of a job.", low=1, unit="bytes")
    time: str = setting("", "Time limit of a job, like 02:00:00.")
    partition: str = setting("", "Partition.")

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("time", "partition"):
            if any(not (letter.isalnum() or letter in "-:._,") for letter in getattr(self, name)):
                raise SettingError(f"{name} must be a word as sbatch takes it, not {getattr(self, name)!r}")

    def check(self, task: Task | None) -> None:
        raise SettingError(
            "a job array consists of command lines: transpike compare … --executor slurm-array writes it. In Python, "
            "start compare(…, unit=(K, N)) in each job, and compare(…, collect=True) at the end"
        )

    def run(self, work: Work, units: Sequence[Unit], inputs: Path, told: Told = untold) -> Iterator[Finished]:
        self.check(work.task)
        yield from ()

    def script(self, words: Sequence[str], folder: Path, missing: Sequence[int], count: int, logs: Path) -> str:
        """A script for sbatch: ``words`` is the command line of the whole comparison, started in ``folder``.

        ``missing``: the units, from 0 to ``count`` - 1, that have no results yet.
        """
        jobs = min(self.jobs, count)
        asked = {
            "job-name": "transpike-compare",
            "array": ranges(sorted({index % jobs for index in missing})),
            "output": logs / "slurm-%A_%a.log",
            "cpus-per-task": self.cpus,
            "gpus-per-task": self.gpus or None,
            "mem": None if self.memory is None else f"{-(-self.memory // 2**20)}M",
            "time": self.time or None,
            "partition": self.partition or None,
        }
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH --{name}={shlex.quote(str(v))}" for name, v in asked.items() if v is not None),
        ]
        command = shlex.join([*words, "--executor", "local:1"])
        return "\n".join(
            (
                "#!/bin/bash",
                *lines,
                f"# at the end: {shlex.join([*words, '--executor', 'local:1', '--collect'])}",
                f"cd {shlex.quote(str(folder))} || exit 1",
                f'exec {command} --unit "$SLURM_ARRAY_TASK_ID/{jobs}"',
                "",
            )
        )


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers counted from 1, as 1-3,7: the form of job arrays."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number:
            parts[-1][-1] += 1
        else:
            parts.append([number + 1, number + 1])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
