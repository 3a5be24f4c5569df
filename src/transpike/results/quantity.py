"""A number with its unit and its source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """``value`` in ``unit``; ``source`` names the paper or table, or states that the value is an assumption."""

    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit} ({self.source})"
