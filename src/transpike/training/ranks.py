"""Distributed training: several processes, started by torchrun, train one network."""

import atexit
import contextlib
import os
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from transpike.errors import LostProcess, SettingError


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
        distributed.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in their order, the same in each of them.

        Raises LostProcess where another process ended, or did not answer within the time of the process group.
        """
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        try:
            distributed.all_gather_object(found, value)
        except RuntimeError as error:
            raise LostProcess(
                f"process {self.rank} of {self.count} cannot go on, because another one ended or does not answer: see "
                f"its error, and start all of them again ({str(error).splitlines()[0]})"
            ) from error
        return found

    def agree(self, value: int) -> bool:
        """True if all processes have the same number."""
        return self.count == 1 or self.total([value, value * value]) == [self.count * value, self.count * value * value]

    def wait(self) -> None:
        """Wait until all processes reach this point."""
        if self.count > 1:
            distributed.barrier()

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
            for buffer in module.buffers():
                # Gloo does not support booleans, but their bytes
                distributed.broadcast(buffer.view(torch.uint8) if buffer.dtype == torch.bool else buffer, 0)


def join(device: str | torch.device) -> Ranks:
    """The rank of this process among those started by torchrun (RANK, WORLD_SIZE, LOCAL_RANK), else a single one.

    Uses NCCL on GPUs, one GPU per process, and Gloo on CPUs, or an existing process group. Raises SettingError if there
    is no GPU for this process, or the process group cannot be initialised.
    """
    ready = distributed.is_available() and distributed.is_initialized()
    if not ready and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks(0, 1, usable(device))
    device = torch.device(device)
    if not distributed.is_available():
        raise SettingError("torchrun has started several processes, but this PyTorch has no torch.distributed")
    if device.type == "cuda" and not ready:
        if device.index is not None:
            raise SettingError(f"each process uses a separate GPU: give device 'cuda', not '{device}'")
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise SettingError(
                f"no GPU for process {local} of this machine, which has {torch.cuda.device_count()}: start torchrun "
                "with --nproc-per-node set to the number of GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not ready:
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            raise SettingError(
                f"WORLD_SIZE asks for several processes, but the process group cannot be initialised: {error}. Start "
                "them with torchrun, or unset WORLD_SIZE to train in one process"
            ) from error
        # not at the end of a training: the same processes may train again, and the group is initialised once
        atexit.register(_leave)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), device)


ALONE = Ranks(0, 1, torch.device("cpu"))
_SHARING: ContextVar[Ranks] = ContextVar("sharing", default=ALONE)


def sharing() -> Ranks:
    """The processes that share the samples of an evaluation: those of ``distributed_samples``, else this one alone."""
    return _SHARING.get()


@contextlib.contextmanager
def distributed_samples() -> Iterator[Ranks]:
    """Context in which evaluations share their samples among the processes that torchrun has started.

    Every process calls the same functions with the same network, data and settings, takes every n-th batch, and gets
    the same result, which is that of a single process bit for bit. ``first`` of the value is True in the process that
    should print and write. With one process nothing changes. Raises SettingError where the processes do not meet.
    """
    token = _SHARING.set(join("cpu"))
    try:
        yield _SHARING.get()
    finally:
        _SHARING.reset(token)


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
        raise SettingError("sync_batchnorm needs GPUs; on CPUs leave it out, or train in one process")
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
