"""Engines by name. All run the lowered form and give the same spikes on the exact grid.

"sorted" supports only networks with exact spike times or first crossings.
"""

from transpike.core.renamed import ENGINES
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


def engine_named(name: str, memory: int | None = None) -> Engine:
    """The engine of this name; ``memory`` is its memory limit in bytes."""
    if name in ENGINES:
        raise SettingError(f"the engine {name!r} is now called {ENGINES[name]!r}")
    if name not in table:
        raise SettingError(f"no engine is called {name!r}; choose from {', '.join(table)}")
    if memory is None:
        return table[name]()
    engine = table[name]
    if issubclass(engine, (Reference, Sorted)):
        raise SettingError(f"the {name} engine has no memory limit")
    if memory < 1:
        raise SettingError(f"a memory limit must be positive, not {memory}")
    return engine(memory=memory)
