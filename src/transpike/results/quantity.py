"""A number with its unit and where it comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """``value`` in ``unit``; ``source`` names the paper or table, or says that it is an assumption."""

    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit} ({self.source})"
