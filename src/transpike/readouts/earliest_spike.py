"""The class whose neuron fires first."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.readout import Readout


@dataclass(frozen=True)
class EarliestSpike(Readout):
    """``argmax`` of what the spikes of neurons behind the last layer are worth: the earlier, the more; silence is 0.

    It can be read before the last window ends, as soon as one neuron has fired. Of several that fire in the same slot
    the first in order is taken, so that a wide slot costs accuracy where the membrane would tell them apart.
    Source: Kheradpisheh and Masquelier 2020 (S4NN).
    """

    spiking_output: ClassVar[bool] = True
