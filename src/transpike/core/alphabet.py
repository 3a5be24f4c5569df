"""The values that a wire may carry in one step."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "ternary", "levels", "bits", "switch", "phase", "time", "graded"]


@dataclass(frozen=True)
class Alphabet:
    """The values a wire carries per step: {0, 1}, {−1, 0, 1}, integers up to ``levels``, or real numbers (graded).

    "bits": one spike for each 1 in the binary form of |level|; the spike's payload is its power of two.
    "switch": the level is the number of steps that a current stays on, sent as two spikes, on and off.
    "phase": at most one spike, weighted by a power of two according to its phase in the cycle, at most ``levels``.
    "time": at most one spike in a whole window, weighted by its slot, at most ``levels``.
    """

    kind: Kind = "binary"
    levels: int = 1
    signed: bool = False

    @property
    def is_spiking(self) -> bool:
        return self.kind != "graded"

    @property
    def payload_bits(self) -> int:
        """Bits of a spike in addition to its address: sign, level or power of two. Its time needs no bits."""
        if self.kind in ("binary", "phase", "time", "ternary"):
            return int(self.signed)
        if self.kind == "switch":
            return 1
        if self.kind == "bits":
            return math.ceil(math.log2(self.levels.bit_length())) + self.signed
        return (math.ceil(math.log2(self.levels)) if self.levels > 1 else 0) + self.signed

    def __str__(self) -> str:
        if self.kind in ("binary", "ternary"):
            return self.kind
        texts = {
            "graded": "graded",
            "phase": "phase-weighted",
            "time": "first spike",
            "levels": f"{self.levels} levels",
            "bits": f"{self.levels.bit_length()} powers of two",
            "switch": "on and off",
        }
        return f"{texts[self.kind]} signed" if self.signed else texts[self.kind]


BINARY = Alphabet("binary")
TERNARY = Alphabet("ternary", signed=True)
GRADED = Alphabet("graded", levels=0, signed=True)
