"""What energy models share: counts in, rows of cause and joule out, every constant with its source."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.core.quantity import Quantity
from transpike.errors import SettingError

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

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = type(field.default)
            if not isinstance(value, wanted) or isinstance(value, bool) is not issubclass(wanted, bool):
                raise SettingError(f"{field.name} of {self.name} must be a {wanted.__name__}, not {value!r}")
            number = value.value if isinstance(value, Quantity) else value
            if isinstance(number, (int, float)) and not 0 <= number < math.inf:
                raise SettingError(f"{field.name} of {self.name} must be a number from 0 on, not {value}")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        """What each cause cost in each layer, per sample."""
        raise TypeError(f"{type(self).__name__} must define rows()")

    def fits(self, activity: Activity) -> bool:
        """False where the model is of hardware that cannot run such a network."""
        return True

    def joule(self, activity: Activity) -> float | None:
        """The sum of all rows, per sample; None where the model does not fit."""
        return sum(row.joule for row in self.rows(activity)) if self.fits(activity) else None

    def __str__(self) -> str:
        """The name, and the settings that are not the default ones."""
        changed = [
            f"{field.name}={value.value:g}" if isinstance(value, Quantity) else f"{field.name}={value}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"{self.name} ({', '.join(changed)})" if changed else self.name

    @property
    def constants(self) -> dict[str, Quantity]:
        """Every constant, by its name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Quantity)}


def horowitz(picojoule: float, what: str) -> Quantity:
    return Quantity(picojoule, "pJ", f"{HOROWITZ}: {what}")


def checked(models: EnergyModel | Iterable[EnergyModel]) -> tuple[EnergyModel, ...]:
    """Models one by one; SettingError for what is none, and for two that could not be told apart."""
    found = (models,) if isinstance(models, (EnergyModel, str, type)) or models is None else tuple(models)
    for model in found:
        if not isinstance(model, EnergyModel):
            raise SettingError(f"energy takes models like transpike.energy.Operations(), not {model!r}")
    names = [str(model) for model in found]
    if len(set(names)) < len(names):
        raise SettingError(f"the same energy model twice: {', '.join(names)}")
    return found
