"""CPU threads of the command line: how many, and that they sleep while they wait. Imports no torch."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

POLICY = "OMP_WAIT_POLICY"
CGROUPS = Path("/sys/fs/cgroup")


def sleep_while_waiting() -> None:
    """Let the threads of OpenMP, in PyTorch and the native library, sleep between two tasks instead of spinning.

    A spinning thread takes its core from other processes: two on the same cores were up to twenty times slower. OpenMP
    reads the variable once, when torch loads it; a value that the user has set remains.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(POLICY, "PASSIVE")


def waiting() -> str:
    """What waiting threads do, for ``transpike doctor``."""
    policy = os.environ.get(POLICY, "")
    if policy.upper() == "PASSIVE":
        return f"sleep while they wait ({POLICY}=PASSIVE; in Python, set it before torch is imported)"
    return f"may spin while they wait ({POLICY}={policy or 'not set'}): other processes on these cores slow down"


def granted(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The number of CPUs that the container's quota is worth, rounded up; None where there is no quota.

    PyTorch looks at the processors that a process may use, but not at the share of their time: with a quota of two
    CPUs on a machine of 64 it starts 64 threads, which are all stopped when the quota is spent.
    """
    shares = [share for share in _shares(cgroups, own) if share > 0]
    return max(1, math.ceil(min(shares))) if shares else None


def _shares(cgroups: Path, own: Path) -> Iterator[float]:
    """The quotas of all groups that this process belongs to, in CPUs; versions 2 and 1 of the file system."""
    for line in _text(own).splitlines():
        _, controllers, place = line.split(":", 2)
        second = not controllers  # version 2
        if not second and "cpu" not in controllers.split(","):
            continue
        root = cgroups if second else cgroups / "cpu"
        group = root / place.lstrip("/")
        for folder in (group, *group.parents):  # a container often sees its own group as the root
            if second:
                words = _text(folder / "cpu.max").split()
            else:
                words = (_text(folder / "cpu.cfs_quota_us") + " " + _text(folder / "cpu.cfs_period_us")).split()
            if len(words) == 2 and words[0].lstrip("-").isdigit() and words[1].isdigit() and int(words[1]):
                yield int(words[0]) / int(words[1])  # -1: no quota
            if folder == root:
                break


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
