"""Input encoders, by their names in recipes and on the command line."""

from collections.abc import Mapping

from transpike.core.encoder import Encoder
from transpike.core.registry import family
from transpike.encoders.constant_current import ConstantCurrent
from transpike.encoders.deterministic_counts import DeterministicCounts
from transpike.encoders.event_frames import EventFrames, SignedEventFrames
from transpike.encoders.first_spikes import FirstSpikes
from transpike.encoders.phase_bits import PhaseBits
from transpike.encoders.poisson import Poisson

members: tuple[type[Encoder], ...] = family("encoder", Encoder, in_files=True).own(globals())
table: Mapping[str, type[Encoder]] = family("encoder").table
