"""Output readouts, by their names in recipes and on the command line."""

from collections.abc import Mapping

from transpike.core.readout import Readout
from transpike.core.registry import family
from transpike.core.renamed import old_names
from transpike.readouts.accumulated_membrane import AccumulatedMembrane
from transpike.readouts.after_pre_simulation import AfterPreSimulation
from transpike.readouts.delayed_window import DelayedWindow
from transpike.readouts.earliest_spike import EarliestSpike
from transpike.readouts.spike_count import SpikeCount

members: tuple[type[Readout], ...] = family("readout", Readout, in_files=True).own(globals())
table: Mapping[str, type[Readout]] = family("readout").table
__getattr__ = old_names(__name__)
