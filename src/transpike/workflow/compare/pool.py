"""Run the units of a comparison, in sequence or in processes, each with one thread."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

import torch

from transpike.errors import FileError, SettingError
from transpike.workflow.compare.units import Unit, Work, measure

DEATH = "its process died (out of memory, or killed)"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one CPU thread: sums off the grid, as in calibration, depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_jobs(task: object, jobs: int) -> None:
    """Raises SettingError for a task that cannot be sent to other processes, as one with a local function."""
    try:
        pickle.dumps(task) if jobs > 1 else None
    except Exception as error:
        raise SettingError(
            f"{task} cannot be sent to {jobs} processes ({error}): define its function at the top level of a module, "
            "or use jobs=1"
        ) from error


def run_units(work: Work, units: list[Unit], jobs: int, done: Callable[[], None]) -> dict[int, str]:
    """Measure every unit; returns failures as index → reason. Calls ``done()`` after each. FileError stops all."""
    failed: dict[int, str] = {}
    if jobs == 1:
        with one_thread():
            for index, unit in enumerate(units):
                try:
                    measure(work, unit)
                except FileError:
                    raise
                except Exception as error:
                    failed[index] = _reason(error)
                done()
        return failed
    waiting = list(range(len(units)))
    while waiting:
        # a broken pool does not name the unit of the lost process, so all that were running are repeated alone
        for index in _run(work, units, waiting, jobs, failed, done):
            if _run(work, units, [index], 1, failed, done):
                failed[index] = DEATH
                done()
    return failed


def _run(
    work: Work, units: list[Unit], indices: list[int], jobs: int, failed: dict[int, str], done: Callable[[], None]
) -> list[int]:
    """Measure these units in ``jobs`` processes; returns those that were running when a process died.

    Started units are removed from ``indices``. The processes always end with this function: each watches a pipe that
    only this process holds open, so that it ends even if this process is killed.
    """
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(min(jobs, len(indices)), context, _begin, (watched,))
    running: dict[Future[None], int] = {}
    lost: list[int] = []
    try:
        while running or (indices and not lost):
            while indices and len(running) < jobs and not lost:
                index = indices.pop(0)
                try:
                    running[executor.submit(measure, work, units[index])] = index
                except BrokenProcessPool:
                    lost.append(index)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    lost.append(index)
                    continue
                if isinstance(error, FileError):
                    raise error
                if error is not None:
                    failed[index] = _reason(error)
                done()
    except BaseException:
        held.close()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        held.close()
        watched.close()
    return lost


def _begin(watched: Connection) -> None:
    """Initialise a process: one thread, end with the parent, leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: Connection) -> None:
    watched.poll(None)
    os._exit(1)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
