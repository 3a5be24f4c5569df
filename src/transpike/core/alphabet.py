"""What a wire may carry in one step."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "ternary", "levels", "graded"]


@dataclass(frozen=True)
class Alphabet:
    """The values a wire carries per step: {0, 1}, {−1, 0, 1}, integers up to ``levels``, or real numbers (graded)."""

    kind: Kind = "binary"
    levels: int = 1
    signed: bool = False

    @property
    def is_spiking(self) -> bool:
        return self.kind != "graded"

    def __str__(self) -> str:
        names = {"binary": "binary", "ternary": "ternary", "graded": "graded"}
        text = names.get(self.kind, f"{self.levels} levels")
        return f"{text} signed" if self.signed and self.kind in ("levels", "graded") else text


BINARY = Alphabet("binary")
TERNARY = Alphabet("ternary", signed=True)
GRADED = Alphabet("graded", levels=0, signed=True)
