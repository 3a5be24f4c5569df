"""Readout of spike counts: the output layer fires."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.readout import Readout


@dataclass(frozen=True)
class SpikeCount(Readout):
    """``logits(t) = θ · count(t) / t`` of neurons after the last layer; negative logits are read as zero (SpKeras)."""

    spiking_output: ClassVar[bool] = True
