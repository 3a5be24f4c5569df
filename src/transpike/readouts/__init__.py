"""How answers are read, by the name that recipes and the command line use."""

from transpike.core.readout import Readout
from transpike.readouts.accumulated_membrane import AccumulatedMembrane
from transpike.readouts.after_rehearsal import AfterRehearsal
from transpike.readouts.delayed_window import DelayedWindow
from transpike.readouts.earliest_spike import EarliestSpike
from transpike.readouts.spike_count import SpikeCount

table: dict[str, type[Readout]] = {
    "after-rehearsal": AfterRehearsal,
    "delayed-window": DelayedWindow,
    "earliest-spike": EarliestSpike,
    "membrane": AccumulatedMembrane,
    "spike-count": SpikeCount,
}
members: tuple[type[Readout], ...] = tuple(table.values())
