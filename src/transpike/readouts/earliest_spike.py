"""Readout of the first spike: the class whose neuron fires first."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.readout import Readout


@dataclass(frozen=True)
class EarliestSpike(Readout):
    """``argmax`` of the spike scales of the output neurons: an earlier spike has a larger scale, silence is 0.

    The output is available as soon as one neuron fires, before the last window ends. If several neurons fire in
    the same slot, the first in order is used, so wide slots reduce accuracy compared with the membrane.
    Source: Kheradpisheh and Masquelier 2020 (S4NN).
    """

    spiking_output: ClassVar[bool] = True
