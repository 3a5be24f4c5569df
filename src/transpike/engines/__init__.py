"""Engines by name. All run the lowered form and give the same spikes on the exact grid.

"sorted" supports only networks with exact spike times or first crossings.
"""

from transpike.core.renamed import old_names
from transpike.engines.auto import Auto
from transpike.engines.dense.engine import Dense
from transpike.engines.event.run import Event
from transpike.engines.native.library import load as event_status
from transpike.engines.reference import Reference
from transpike.engines.run import Run
from transpike.engines.sorted import Sorted
from transpike.lowering.program import Program

Engine = Auto | Event | Dense | Reference | Sorted
table: dict[str, type[Engine]] = {
    "auto": Auto,
    "event": Event,
    "dense": Dense,
    "reference": Reference,
    "sorted": Sorted,
}
members: tuple[type[Engine], ...] = tuple(table.values())
__getattr__ = old_names(__name__)
