"""Distributed training: several processes, started by torchrun, train one network."""

import atexit
import contextlib
import math
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from transpike.core.installation import versions
from transpike.errors import LostProcess, SettingError

PATIENCE = "TRANSPIKE_PATIENCE"
"""The environment variable with the seconds that a process waits for the others."""
USUAL = 1800.0
MEETING = 300.0
"""Seconds in which all processes must have started, where the patience is not shorter."""
_SPEAKS = re.compile(r"gloo|nccl|connection|timed? ?out|socket|broken pipe|peer", re.IGNORECASE)
"""In the text of an error of a process group. PyTorch has no class for those of Gloo."""


@dataclass(frozen=True)
class Ranks:
    """One process, number ``rank`` of ``count``, and its device."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True for the process that writes files and reports progress."""
        return self.rank == 0

    def share(self, size: int) -> tuple[int, int]:
        """The part [start, end) of a batch of this size: equal parts, the first ones larger by one if needed."""
        base, more = divmod(size, self.count)
        start = self.rank * base + min(self.rank, more)
        return start, start + base + (self.rank < more)

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, the same in each of them."""
        if self.count == 1:
            return list(values)
        device = self.device if self.device.type == "cuda" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        with self.answering():
            distributed.all_reduce(tensor)
        return tensor.tolist()

    def added(self, total: Tensor | None, mine: Tensor, used: int) -> Tensor:
        """``total`` plus ``mine`` (n,) of the first ``used`` processes, one after another.

        The same bits in every process, and in a single one that adds them in this order. Each process adds up a part of
        the values and sends it to the others.
        """
        if self.count == 1:
            return mine if total is None else total + mine
        size = -(-len(mine) // self.count)
        own = slice(self.rank * size, (self.rank + 1) * size)

        def padded(values: Tensor) -> Tensor:
            return F.pad(values, (0, size * self.count - len(values)))

        sent = padded(mine)
        rows, whole = torch.empty_like(sent), torch.empty_like(sent)
        with self.answering():
            distributed.all_to_all_single(rows, sent)
            first, *others = rows.view(self.count, size)[:used]
            part = first.clone() if total is None else padded(total)[own] + first
            for row in others:
                part += row
            distributed.all_gather_into_tensor(whole, part)
        return whole[: len(mine)]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in their order, the same in each of them."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with self.answering():
            distributed.all_gather_object(found, value)
        return found

    def in_first(self, work: Callable[[], object]) -> None:
        """``work`` in the first process only; all wait for it, and all raise its error."""
        failed = b""
        if self.first:
            try:
                work()
            except Exception as error:
                if self.count == 1:
                    raise
                failed = packed(error)
        if told := self.gather(failed)[0]:
            raise pickle.loads(told)

    def check_same(self, what: Mapping[str, str]) -> None:
        """Raise SettingError in all processes where ``what``, text by its name, is not the same in all of them."""
        told = self.gather(dict(what))
        for name in dict.fromkeys(name for one in told for name in one):
            values = [one.get(name, "not there") for one in told]
            other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
            if other is not None:
                raise SettingError(
                    f"the processes do not agree: {name} is {values[0]} in process 0, but {values[other]} "
                    f"in process {other} of {self.count}. Start all of them with the same files, data and settings"
                )

    def agree(self, value: int) -> bool:
        """True if all processes have the same number."""
        return self.count == 1 or self.total([value, value * value]) == [self.count * value, self.count * value * value]

    def wait(self) -> None:
        """Wait until all processes reach this point."""
        if self.count > 1:
            with self.answering():
                distributed.barrier()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Context in which a process that has ended, or is silent for longer than the patience, is a LostProcess."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _SPEAKS.search(str(error)):
                raise
            raise LostProcess(
                f"process {self.rank} of {self.count} cannot continue, because another process ended or does not "
                f"respond ({PATIENCE} sets the number of seconds to wait): see its error, and restart all of them "
                f"({str(error).splitlines()[0]})"
            ) from error

    def wrap(self, module: nn.Module, unused: bool) -> nn.Module:
        """DistributedDataParallel, which averages the gradients; ``unused``: some parameters may get no gradient."""
        if self.count == 1:
            return module
        return DistributedDataParallel(
            module, [self.device] if self.device.type == "cuda" else None, find_unused_parameters=unused
        )

    def same_buffers(self, module: nn.Module) -> None:
        """Broadcast the buffers of the first process: each process has seen another part of the batches."""
        if self.count > 1:
            with self.answering():
                for buffer in module.buffers():
                    # Gloo does not support booleans, but their bytes
                    distributed.broadcast(buffer.view(torch.uint8) if buffer.dtype == torch.bool else buffer, 0)


def join(device: str | torch.device) -> Ranks:
    """The rank of this process among those started by torchrun (RANK, WORLD_SIZE, LOCAL_RANK), else a single one.

    Uses NCCL on GPUs, one GPU per process, and Gloo on CPUs, or an existing process group, with its time limit. Raises
    SettingError if there is no GPU for this process, the process group cannot be initialised, or another process runs
    another version of transpike or torch.
    """
    ready = distributed.is_available() and distributed.is_initialized()
    if not ready and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks(0, 1, usable(device))
    device = torch.device(device)
    if not distributed.is_available():
        raise SettingError("torchrun has started several processes, but this PyTorch has no torch.distributed")
    if device.type == "cuda" and not ready:
        if device.index is not None:
            raise SettingError(f"each process uses a separate GPU: use device 'cuda', not '{device}'")
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise SettingError(
                f"no GPU for process {local} of this machine, which has {torch.cuda.device_count()}: start torchrun "
                "with --nproc-per-node set to the number of GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not ready:
        limit = patience()
        try:
            # until all processes are there; the store of init_process_group would wait as long as its operations
            meeting = distributed.rendezvous("env://", timeout=timedelta(seconds=min(limit, MEETING)))
            store, rank, count = next(iter(meeting))
            distributed.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=store, rank=rank, world_size=count, timeout=timedelta(seconds=limit),
            )  # fmt: skip
        except (ValueError, RuntimeError) as error:
            raise SettingError(
                f"WORLD_SIZE asks for several processes, but the process group cannot be initialised: "
                f"{str(error).splitlines()[0]}. Start them with torchrun, or unset WORLD_SIZE to work in one process"
            ) from error
        # not at the end of a training: the same processes may train again, and the group is initialised once
        atexit.register(_leave)
    group = Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    group.check_same({"the version": versions()})
    return group


def patience() -> float:
    """Seconds that a process waits for the others; SettingError where the environment has no such number."""
    text = os.environ.get(PATIENCE, "")
    try:
        found = float(text) if text else USUAL
    except ValueError:
        found = math.nan
    if not 0 < found <= 1e7:
        raise SettingError(f"{PATIENCE} is the number of seconds to wait for other processes, not {text!r}")
    return found


def packed(error: Exception) -> bytes:
    """The error as bytes for other processes; as its text where it cannot be packed."""
    try:
        sent = pickle.dumps(error)
        pickle.loads(sent)
        return sent
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


def usable(device: str | torch.device) -> torch.device:
    """The device; raises SettingError if this machine or this PyTorch does not support it."""
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, TypeError) as error:  # unknown or absent, a build without it, no name at all
        reason = str(error).splitlines()[0]
        raise SettingError(f"no device {str(device)!r} here, use another, such as 'cpu': {reason}") from error


def is_first() -> bool:
    """True for the process that writes to the terminal, also before ``join``."""
    return int(os.environ.get("RANK", "0")) == 0


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def synchronised(module: nn.Module, ranks: Ranks, wanted: bool) -> Iterator[None]:
    """Context in which batch normalisations use the images of all processes.

    Raises SettingError on a CPU, which torch does not support.
    """
    if not wanted or ranks.count == 1:
        yield
        return
    if ranks.device.type != "cuda":
        raise SettingError("sync_batchnorm needs GPUs; on CPUs omit it, or train in one process")
    plain = dict(normalisations(module))
    nn.SyncBatchNorm.convert_sync_batchnorm(module)
    try:
        yield
    finally:
        for path, layer in plain.items():
            layer.train(module.training)
            module.set_submodule(path, layer)  # it holds the same tensors


def normalisations(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, layer) of the batch normalisations in ``module``."""
    for path, layer in module.named_modules(remove_duplicate=False):
        if path and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            yield path, layer
