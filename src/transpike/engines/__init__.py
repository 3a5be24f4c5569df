"""Engines by name; all run the lowered form and give the same spikes on the exact grid."""

from transpike.engines._base import Program, Run
from transpike.engines._native import load as event_status
from transpike.engines.auto import Auto
from transpike.engines.event import Event
from transpike.engines.fused import Fused
from transpike.engines.reference import Reference

Engine = Auto | Event | Fused | Reference
table: dict[str, type[Engine]] = {"auto": Auto, "event": Event, "fused": Fused, "reference": Reference}
members: tuple[type[Engine], ...] = tuple(table.values())
