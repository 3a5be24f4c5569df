"""Two processes that torchrun starts, or that are started one by one, with this folder of helpers on their path."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed

from waiting import HANGS

LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def needs_gloo() -> None:
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no Gloo")


def environment(**more: str) -> dict[str, str]:
    helpers = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": helpers, "OMP_NUM_THREADS": "1", **more}


def launched(*words: str) -> subprocess.CompletedProcess:
    """The end of two processes of ``torchrun … words``."""
    return subprocess.run((*LAUNCH, *words), capture_output=True, text=True, timeout=HANGS, env=environment())


def finished(files: list[Path], *words: str) -> None:
    """Run two processes of ``torchrun … words`` to their end, of which ``files`` are the last that they write."""
    answer = launched(*words)
    # Gloo's threads may abort a process that is about to end, its work done
    aborted = "terminate called without an active exception" in answer.stderr
    assert answer.returncode == 0 or (aborted and all(map(Path.exists, files))), answer.stderr[-20000:]


def pair(*words: str) -> list[subprocess.Popen]:
    """Two processes of ``python words`` without torchrun, which would end the other one too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [
        subprocess.Popen(
            (sys.executable, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **group),
        )
        for rank in (0, 1)
    ]  # fmt: skip
