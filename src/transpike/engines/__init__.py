"""Engines by name; all run the lowered form and give the same spikes on the exact grid.

"sorted" takes only what has spike times without a clock, or first crossings.
"""

from transpike.engines._base import Program, Run
from transpike.engines._native import load as event_status
from transpike.engines.auto import Auto
from transpike.engines.event import Event
from transpike.engines.fused import Fused
from transpike.engines.reference import Reference
from transpike.engines.sorted import Sorted

Engine = Auto | Event | Fused | Reference | Sorted
table: dict[str, type[Engine]] = {
    "auto": Auto,
    "event": Event,
    "fused": Fused,
    "reference": Reference,
    "sorted": Sorted,
}
members: tuple[type[Engine], ...] = tuple(table.values())
