"""The processes of torchrun that share the samples of a call."""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from transpike.core.digest import digest
from transpike.core.graph import Graph
from transpike.snn import SNN
from transpike.training.ranks import Ranks, join

ALONE = Ranks(0, 1, torch.device("cpu"))
_PROCESSES: ContextVar[Ranks] = ContextVar("processes", default=ALONE)


def processes() -> Ranks:
    """The processes that share the samples of a call: those of ``distributed_samples``, else this one alone."""
    return _PROCESSES.get()


@contextlib.contextmanager
def distributed_samples() -> Iterator[Ranks]:
    """Context in which the processes that torchrun has started share the samples of conversions and evaluations.

    Every process calls the same functions with the same network, data and settings, takes every n-th batch, and gets
    the same result, which is that of a single process bit for bit. ``first`` of the value is True in the process that
    should print and write. With one process nothing changes. The environment variable TRANSPIKE_PATIENCE has the
    seconds that a process waits for the others (default: 1800). Raises SettingError where the processes do not meet, or
    run different versions; functions inside of it raise LostProcess where another process ends or is silent.
    """
    with _as(join("cpu")) as group:
        yield group


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Context in which a call works by itself, as the part of a batch that belongs to one process."""
    with _as(ALONE):
        yield


@contextlib.contextmanager
def _as(ranks: Ranks) -> Iterator[Ranks]:
    token = _PROCESSES.set(ranks)
    try:
        yield ranks
    finally:
        _PROCESSES.reset(token)


def check_alike(ranks: Ranks, network: SNN | Graph, **settings: object) -> None:
    """Raise SettingError in all processes where one of them was given another network or setting.

    A setting may be a dictionary of tensors.
    """
    if ranks.count > 1:
        ranks.check_same(facts(network, **settings))


def facts(network: SNN | Graph, **settings: object) -> dict[str, str]:
    """What a call works on, as text by name: the network by a checksum, and each setting."""
    graphs = {"": network.graph, "source.": network.source} if isinstance(network, SNN) else {"": network}
    tensors = {f"{place}{name}": value for place, graph in graphs.items() for name, value in graph.parameters().items()}
    form = [str(network.graph), str(network.recipe), repr(network.exit)] if isinstance(network, SNN) else [str(network)]
    checksum = hashlib.sha256("\n".join((digest(tensors), *map(_text, form))).encode()).hexdigest()[:12]
    told = {"the network": f"that with the checksum {checksum}"}
    return told | {name: _text(value) for name, value in settings.items()}


def _text(value: object) -> str:
    """Tensors by their checksum; without addresses in memory, which the objects of some classes show."""
    if isinstance(value, dict):
        return f"that with the checksum {digest(value)[:12]}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", value if isinstance(value, str) else repr(value))
