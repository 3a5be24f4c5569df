"""Any neuron in the place of integrate-and-fire ones."""

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch

from transpike.activations import ReLU
from transpike.core.cell import Neuron
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire
from transpike.passes._base import ReplaceNeurons

SHARED = ("source", "threshold", "initial", "spike_scale")


@dataclass(frozen=True)
class UseNeuron(ReplaceNeurons):
    """Integrate-and-fire neurons become neurons of the class ``kind``, with the same threshold and initial potential.

    ``kind`` has the fields ``source``, ``threshold`` and ``initial``, and ``spike_scale`` where it can differ from the
    threshold; ``settings`` are pairs of the name and the value of its other fields. A neuron whose threshold or initial
    potential follows another rule needs its own pass. Raises SettingError for a class or settings that do not fit.
    """

    kind: type[Neuron] = IntegrateAndFire
    settings: tuple[tuple[str, Hashable], ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.kind, type) and issubclass(self.kind, Neuron)):
            raise SettingError(f"kind must be a class derived from Neuron, not {self.kind!r}")
        fields = {field.name for field in dataclasses.fields(self.kind)}
        if missing := [name for name in SHARED[:3] if name not in fields]:
            raise SettingError(f"{self.kind.__name__} has no field {', '.join(missing)}: write a pass that creates it")
        known = sorted(fields - set(SHARED))
        if unknown := [name for name, _ in self.settings if name not in known]:
            raise SettingError(
                f"{self.kind.__name__} has no setting {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
            )
        try:
            self._sample()  # the neuron checks its settings
        except TypeError as error:
            raise SettingError(f"{self.kind.__name__} cannot be made with these settings: {error}") from error

    def _sample(self) -> Neuron:
        return self.neuron(IntegrateAndFire(ReLU(), torch.ones(()), torch.zeros(())))

    @property
    def forgets(self) -> bool:
        unit = self._sample().unit
        return unit is not None and (unit.reset == "hard" or unit.leak != 1)

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        values: dict[str, Any] = {name: getattr(old, name) for name in SHARED}
        if "spike_scale" not in {field.name for field in dataclasses.fields(self.kind)}:
            del values["spike_scale"]
            if old.spike_scale is not None:
                raise SettingError(
                    f"{self.kind.__name__} has no field spike_scale, but these thresholds were changed after the "
                    "weights after them: add the field, or use a recipe without that correction"
                )
        return self.kind(**values | dict(self.settings))

    def describe(self) -> str:
        return ""
