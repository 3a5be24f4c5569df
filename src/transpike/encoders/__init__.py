"""How inputs enter, by the name that recipes and the command line use."""

from transpike.core.encoder import Encoder
from transpike.encoders.constant_current import ConstantCurrent
from transpike.encoders.deterministic_counts import DeterministicCounts
from transpike.encoders.event_frames import EventFrames, SignedEventFrames
from transpike.encoders.first_spikes import FirstSpikes
from transpike.encoders.phase_bits import PhaseBits
from transpike.encoders.poisson import Poisson

table: dict[str, type[Encoder]] = {
    "constant": ConstantCurrent,
    "counts": DeterministicCounts,
    "event-frames": EventFrames,
    "first-spikes": FirstSpikes,
    "phase-bits": PhaseBits,
    "poisson": Poisson,
    "signed-event-frames": SignedEventFrames,
}
members: tuple[type[Encoder], ...] = tuple(table.values())
