"""Units in this process, or in processes of this machine, each with one thread."""

import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import torch

from transpike.core.constraints import check_settings, setting
from transpike.core.task import Task
from transpike.errors import FileError, SettingError
from transpike.training.source.loop import using_threads
from transpike.workflow.compare.executors._base import DEATH, Executor, Finished, Told, reason_of, untold
from transpike.workflow.compare.inputs import open_inputs
from transpike.workflow.compare.kept import checkpoint_of
from transpike.workflow.compare.measure import measure, release
from transpike.workflow.compare.units import Unit, Work

POLL = 0.5
"""Seconds after which running processes are asked how far they are."""


@dataclass(frozen=True)
class Local(Executor):
    """Processes of this machine, ``jobs`` of them; of one job the process that calls."""

    name: ClassVar[str] = "local"
    jobs: int = setting(1, "Number of processes, of one thread each.", low=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, task: Task | None) -> None:
        """Raises SettingError for a task that cannot be sent to other processes, as one with a local function."""
        try:
            pickle.dumps(task) if self.jobs > 1 else None
        except Exception as error:
            raise SettingError(
                f"{task} cannot be sent to {self.jobs} processes ({error}): define its function at the top level of a "
                "module, or use jobs=1"
            ) from error

    def run(self, work: Work, units: Sequence[Unit], inputs: Path, told: Told = untold) -> Iterator[Finished]:
        if self.jobs == 1:
            try:
                for index, unit in enumerate(units):
                    yield _alone(work, unit, index, inputs, told)
            finally:
                release()
            return
        waiting = list(range(len(units)))
        while waiting:
            # a broken pool does not name the unit of the lost process, so all that were running are repeated alone
            for index in (yield from _pool(work, units, waiting, self.jobs, inputs, told)):
                if (yield from _pool(work, units, [index], 1, inputs, told)):
                    yield Finished(index, reason=DEATH)


def _alone(work: Work, unit: Unit, index: int, inputs: Path, told: Told) -> Finished:
    try:
        with using_threads(1):  # sums off the grid, as in calibration, depend on the number of threads
            tell = functools.partial(told, index)
            return Finished(index, measure(work, unit, open_inputs(inputs), tell, checkpoint_of(work, unit)))
    except FileError:
        raise
    except Exception as error:
        return Finished(index, reason=reason_of(error))


_evaluated: Any = None
"""In a process of a pool: the samples that each unit has evaluated so far, in shared memory."""


def _measured(work: Work, unit: Unit, inputs: Path, index: int) -> dict[str, Any]:
    def tell(samples: int) -> None:
        _evaluated[index] = samples

    return measure(work, unit, open_inputs(inputs), tell, checkpoint_of(work, unit))


def _pool(
    work: Work, units: Sequence[Unit], indices: list[int], jobs: int, inputs: Path, told: Told
) -> Generator[Finished, None, list[int]]:
    """Measure these units in ``jobs`` processes; returns those that were running when a process died.

    Started units are removed from ``indices``. The processes always end with this function: each watches a pipe that
    only this process holds open, so that it ends even if this process is killed.
    """
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    evaluated = context.RawArray("q", len(units))
    executor = ProcessPoolExecutor(min(jobs, len(indices)), context, _begin, (watched, evaluated))
    running: dict[Future[dict[str, Any]], int] = {}
    lost: list[int] = []
    try:
        while running or (indices and not lost):
            while indices and len(running) < jobs and not lost:
                index = indices.pop(0)
                try:
                    running[executor.submit(_measured, work, units[index], inputs, index)] = index
                except BrokenProcessPool:
                    lost.append(index)
            done = wait(running, POLL, FIRST_COMPLETED).done
            for index in running.values():
                told(index, evaluated[index])
            for future in done:
                index, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    lost.append(index)
                    continue
                if isinstance(error, FileError):
                    raise error
                if error is not None:
                    yield Finished(index, reason=reason_of(error))
                else:
                    yield Finished(index, future.result())
    except BaseException:
        held.close()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        held.close()
        watched.close()
    return lost


def _begin(watched: Connection, evaluated: Any) -> None:
    """Initialise a process: one thread, end with the parent, leave Ctrl-C to the parent."""
    global _evaluated
    _evaluated = evaluated
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: Connection) -> None:
    watched.poll(None)
    os._exit(1)
