"""Contract of recipes: one conversion method as data."""

import dataclasses
import re
from typing import Any, ClassVar, Literal

from transpike.core.encoder import Encoder
from transpike.core.naming import dashed, is_ours
from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.renamed import CurrentSettings
from transpike.core.schedule import Schedule

ThresholdScale = float | Literal["unit", "balanced"]
"""The threshold of each layer: 1, λ_n/λ_{n−1}, or one number for all layers (lowering.scaling)."""


class Recipe(CurrentSettings):
    """Settings only: printable, hashable, JSON-able; every field is a command-line flag of the same name.

    ``passes`` turn the source graph into a spiking one; ``encoder``, ``schedule`` and ``readout`` define how it runs.
    """

    name: ClassVar[str]
    threshold_scale: ClassVar[ThresholdScale] = "unit"
    """How the method's paper scales weights and thresholds; spike trains do not depend on it."""
    keeps_operators: ClassVar[bool] = False
    """True if operators that no neuron represents are a part of the method: they are kept analogue without asking."""
    timesteps: int
    encoder: Encoder
    schedule: Schedule
    readout: Readout

    def __init_subclass__(cls, **options: Any) -> None:
        """A user's class without a name gets one from its class name, so that no table shows it as its parent."""
        super().__init_subclass__(**options)
        if "name" not in vars(cls) and not is_ours(cls.__module__):
            cls.name = dashed(cls.__name__)

    @property
    def passes(self) -> tuple[Pass, ...]:
        raise TypeError(f"{type(self).__name__} must define passes")

    @property
    def depends_on_timesteps(self) -> bool:
        """True if the converted network depends on the number of steps, so that one run does not cover every t."""
        return False

    @property
    def training_free(self) -> bool:
        """False if the method needs a network that was trained for it."""
        return True

    def __str__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        changed = [(f.name, getattr(self, f.name)) for f in fields if getattr(self, f.name) != f.default]
        return f"{self.name}({', '.join(f'{name}={_short(value)}' for name, value in changed)})"


def source_of(kind: type[Recipe]) -> str:
    """First author and year, as the docstring has them, or the program that has no paper; "" if it names no source."""
    text = " ".join((kind.__doc__ or "").split())
    found = re.search(
        r"Source: (?:\*\*reconstructed\*\* after )?(transpike's own|[^,;]+(?=, from its code;)|.*?\b\d{4}\b)", text
    )
    if found is None:
        return ""
    *authors, year = re.split(r",? and |, | (?=\d{4}$)", found[1])
    if not authors:
        return year
    name = authors[0].removesuffix(" et al.")
    few = len(authors) <= 2 and name == authors[0]
    return f"{' and '.join(authors)} {year}" if few else f"{name} et al. {year}"


def _short(value: Any) -> str:
    """A value as text; for a dataclass only the settings that differ from their defaults."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    changed = [
        (f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if getattr(value, f.name) != f.default
    ]
    settings = ", ".join(f"{name}={setting!r}" for name, setting in changed)
    return type(value).__name__ + (f"({settings})" if settings else "")
