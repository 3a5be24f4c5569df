"""Engines by name. All run the lowered form and give the same spikes on the exact grid.

"sorted" supports only networks with exact spike times or first crossings.
"""

import os

import torch

from transpike.core.renamed import ENGINES, old_names
from transpike.core.spelling import unknown
from transpike.engines.auto import Auto
from transpike.engines.dense.engine import Dense
from transpike.engines.event.run import Event
from transpike.engines.native.library import load as event_status
from transpike.engines.reference import Reference
from transpike.engines.run import Run
from transpike.engines.sorted import Sorted
from transpike.errors import SettingError
from transpike.lowering.program import Program

Engine = Auto | Event | Dense | Reference | Sorted
table: dict[str, type[Engine]] = {
    "auto": Auto,
    "dense": Dense,
    "event": Event,
    "reference": Reference,
    "sorted": Sorted,
}
members: tuple[type[Engine], ...] = tuple(table.values())
__getattr__ = old_names(__name__)

if hasattr(os, "register_at_fork"):
    # OpenMP's threads do not exist in the child of a fork, and PyTorch or a kernel would wait for them forever
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def engine_named(name: str, memory: int | None = None) -> Engine:
    """The engine of this name; ``memory`` is its memory limit in bytes."""
    if name in ENGINES:
        raise SettingError(f"the engine {name!r} has been renamed to {ENGINES[name]!r}")
    if name not in table:
        raise SettingError(unknown("engine", name, table))
    if memory is None:
        return table[name]()
    engine = table[name]
    if issubclass(engine, (Reference, Sorted)):
        raise SettingError(f"the {name} engine has no memory limit")
    if memory < 1:
        raise SettingError(f"a memory limit must be positive, not {memory}")
    return engine(memory=memory)


def engine_given(engine: Engine | str | None) -> Engine:
    """``engine``, the one of this name, or ``Auto()`` for None. Raises SettingError for anything else."""
    return engine if isinstance(engine, members) else engine_named("auto" if engine is None else engine)  # type: ignore[arg-type]
