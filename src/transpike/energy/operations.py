"""Arithmetic alone: accumulates and multiplications."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.core.quantity import Quantity
from transpike.energy._base import PICO, EnergyModel, EnergyRow, horowitz


@dataclass(frozen=True)
class Operations(EnergyModel):
    """``E = operations · E_add + multiplications · (E_mul + E_add) + updates · E_compare``, 8-bit factors, 32-bit sums.

    An update is a comparison of every neuron with its threshold in every step. Nothing is charged for memory, which
    decides in most hardware: a comparison of arithmetic, not of chips. Source: Horowitz 2014 (ISSCC), table of 45 nm.
    """

    name: ClassVar[str] = "operations"
    excluded: ClassVar[tuple[str, ...]] = ("memory", "spike transport", "control", "leakage", "bias and reset")
    add: Quantity = horowitz(0.1, "32-bit addition")
    multiply: Quantity = horowitz(0.2, "8-bit multiplication")
    compare: Quantity = horowitz(0.1, "32-bit addition, as a comparison")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        n, found = activity.samples, []
        for layer in activity.layers:
            events = float(layer.synaptic_operations.sum()) / n
            updates = layer.updates / n if layer.role == "neuron" else 0
            found.append(EnergyRow(layer.name, "accumulate", events, events * self.add.value * PICO))
            found.append(EnergyRow(layer.name, "threshold comparison", updates, updates * self.compare.value * PICO))
        for name, macs in activity.macs.items():
            each = (self.multiply.value + self.add.value) * PICO
            found.append(EnergyRow(name, "analogue multiply-accumulate", macs, macs * each))
        return tuple(row for row in found if row.count)
