"""Waiting for other processes: for what they have done, never for a time."""

import time
from collections.abc import Callable

HANGS = 1800.0
"""Seconds after which what should have happened never will. It ends a test that hangs, and decides nothing else."""


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGS
    while not happened():
        assert time.monotonic() < end, "this hangs"
        time.sleep(0.02)
