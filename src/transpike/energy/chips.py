"""Published energies of a synaptic operation, chip by chip."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.energy._base import AnnActivity, EnergyModel, EnergyRow, products, row, spiking, state_reads
from transpike.results.quantity import Quantity


@dataclass(frozen=True)
class SynapticOperations(EnergyModel):
    """``E = synaptic operations · e``; e includes all activity of a chip for the published network.

    An analogue first layer is charged as one operation per product, and an operation at a product of two wires as one
    at a weight, although no such chip supports them.
    """

    excluded: ClassVar[tuple[str, ...]] = (
        "operations that the published network does not use",
        "neuron updates other than those of that network",
        "idle power",
    )
    operation: Quantity = Quantity(0.0, "pJ", "")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found = [
            row(name, "synaptic operation", events, self.operation.value) for name, events, *_ in spiking(activity)
        ]
        found += [row(name, "operation of a product", n, self.operation.value) for name, n in state_reads(activity)]
        found += [row(name, "analogue product", n, self.operation.value) for name, n in activity.macs.items()]
        return tuple(one for one in found if one.count)


@dataclass(frozen=True)
class TrueNorth(SynapticOperations):
    """26 pJ, measured, 28 nm (Merolla et al. 2014, Science 345:668)."""

    name: ClassVar[str] = "truenorth"
    operation: Quantity = Quantity(26.0, "pJ", "Merolla et al. 2014, Science 345:668, 28 nm: measured")


@dataclass(frozen=True)
class Loihi(SynapticOperations):
    """23.6 pJ, from simulation before silicon, 14 nm (Davies et al. 2018), though widely quoted as measured."""

    name: ClassVar[str] = "loihi"
    operation: Quantity = Quantity(
        23.6, "pJ", "Davies et al. 2018, IEEE Micro 38:82, table 2, 14 nm: simulated before silicon"
    )


@dataclass(frozen=True)
class Rolls(SynapticOperations):
    """77 fJ per operation of the ROLLS chip, against 12.5 pJ for each of the ANN's additions and multiplications.

    The pair of constants in Rueckauer's and ECC's tables, the second number **from memory**; it compares a small
    analogue circuit with an older processor, which favours spikes: for comparison with those tables only.
    """

    name: ClassVar[str] = "rolls-flop"
    judges: ClassVar[bool] = False
    operation: Quantity = Quantity(0.077, "pJ", "Indiveri et al. 2015 (ROLLS), as quoted in ECC's tables: unverified")
    flop: Quantity = Quantity(12.5, "pJ", "as used with it in ECC's tables: unverified, from memory")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found = [
            row(name, "synaptic operation", events, self.operation.value) for name, events, *_ in spiking(activity)
        ]
        found += [row(name, "operation of a product", n, self.operation.value) for name, n in state_reads(activity)]
        found += [row(name, "analogue product", 2 * n, self.flop.value) for name, n in activity.macs.items()]
        return tuple(one for one in found if one.count)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        return tuple(
            row(layer.name, "multiplication and addition", 2 * n, self.flop.value)
            for layer, n in products(ann, zero_skipping)
        )
