"""What a wire may carry in one step."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "ternary", "levels", "bits", "switch", "phase", "time", "graded"]


@dataclass(frozen=True)
class Alphabet:
    """The values a wire carries per step: {0, 1}, {−1, 0, 1}, integers up to ``levels``, or real numbers (graded).

    "bits": a spike for each one in the binary form of |level|, which names its power of two.
    "switch": a level is how long a current stays on, two spikes: on and off.
    "phase": one spike or none, whose phase in the cycle weighs it by a power of two, at most ``levels``.
    "time": one spike or none in a whole window, whose slot weighs it, at most ``levels``.
    """

    kind: Kind = "binary"
    levels: int = 1
    signed: bool = False

    @property
    def is_spiking(self) -> bool:
        return self.kind != "graded"

    @property
    def payload_bits(self) -> int:
        """Bits of a spike beside its address: a sign, a number of levels, a power. When it comes costs nothing."""
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
