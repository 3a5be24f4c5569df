"""When neurons fire, by the name that recipes and the command line use."""

from transpike.core.schedule import Schedule
from transpike.schedules.differences import Differences
from transpike.schedules.layer_synchronous import LayerSynchronous
from transpike.schedules.phase_cycles import PhaseCycles
from transpike.schedules.streaming import Streaming
from transpike.schedules.time_slots import TimeSlots

table: dict[str, type[Schedule]] = {
    "differences": Differences,
    "layer-synchronous": LayerSynchronous,
    "phase-cycles": PhaseCycles,
    "streaming": Streaming,
    "time-slots": TimeSlots,
}
members: tuple[type[Schedule], ...] = tuple(table.values())
