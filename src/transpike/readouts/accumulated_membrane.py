"""Readout of the accumulated output current: the output layer does not fire."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.readout import Readout


@dataclass(frozen=True)
class AccumulatedMembrane(Readout):
    """``logits(t) = Σ_{τ≤t} I(τ) / t``: the output membrane over time, comparable with the ANN's logits at every t."""

    name: ClassVar[str] = "membrane"
