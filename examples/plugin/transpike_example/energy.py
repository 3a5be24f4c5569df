"""An energy model: spikes that a router delivers."""

from dataclasses import dataclass
from typing import ClassVar

import transpike as ts
from transpike.core.activity import Activity
from transpike.energy import EnergyModel, EnergyRow
from transpike.results.quantity import Quantity

SOURCE = "assumption of this example"


@ts.register
@dataclass(frozen=True)
class EventRouter(EnergyModel):
    """``E = spikes · E_route + operations · E_add``: a spike is routed once and added at each of its targets."""

    name: ClassVar[str] = "event-router"
    excluded: ClassVar[tuple[str, ...]] = ("neuron updates", "multiplications", "memory", "leakage")
    route: Quantity = Quantity(2.0, "pJ", SOURCE)
    add: Quantity = Quantity(0.1, "pJ", SOURCE)

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found = []
        for layer in activity.layers:
            spikes = float(layer.spikes.sum()) / activity.samples
            operations = float(layer.synaptic_operations.sum()) / activity.samples
            found.append(EnergyRow(layer.name, "routing", spikes, spikes * self.route.value * 1e-12))
            found.append(EnergyRow(layer.name, "addition", operations, operations * self.add.value * 1e-12))
        return tuple(found)
