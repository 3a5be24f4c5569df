"""Schedules, which define when neurons fire, by their names in recipes and on the command line."""

from collections.abc import Mapping

from transpike.core.registry import family
from transpike.core.schedule import Schedule
from transpike.schedules.differences import Differences
from transpike.schedules.layer_synchronous import LayerSynchronous
from transpike.schedules.phase_cycles import PhaseCycles
from transpike.schedules.streaming import Streaming
from transpike.schedules.time_slots import TimeSlots

members: tuple[type[Schedule], ...] = family("schedule", Schedule, in_files=True).own(globals())
table: Mapping[str, type[Schedule]] = family("schedule").table
