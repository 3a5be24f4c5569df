"""What energy models share: counts in, rows of cause and joule out, every constant with its source."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.core.quantity import Quantity

HOROWITZ = "Horowitz 2014, ISSCC, 45 nm, 0.9 V"
PICO = 1e-12


@dataclass(frozen=True)
class EnergyRow:
    """``count`` events a sample of one ``cause`` in one ``layer``, and what they cost together."""

    layer: str
    cause: str
    count: float
    joule: float


@dataclass(frozen=True)
class EnergyModel:
    """Counts of a run, whatever engine made them, to joules. Ratios between models mean more than any of them.

    ``excluded`` lists what a model leaves out.
    """

    name: ClassVar[str]
    excluded: ClassVar[tuple[str, ...]]

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        """What each cause cost in each layer, per sample."""
        raise TypeError(f"{type(self).__name__} must define rows()")

    def fits(self, activity: Activity) -> bool:
        """False where the model is of hardware that cannot run such a network."""
        return True

    def joule(self, activity: Activity) -> float | None:
        """The sum of all rows, per sample; None where the model does not fit."""
        return sum(row.joule for row in self.rows(activity)) if self.fits(activity) else None

    @property
    def constants(self) -> dict[str, Quantity]:
        """Every constant, by its name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Quantity)}


def horowitz(picojoule: float, what: str) -> Quantity:
    return Quantity(picojoule, "pJ", f"{HOROWITZ}: {what}")
