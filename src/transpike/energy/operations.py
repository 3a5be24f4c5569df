"""Arithmetic only: accumulates and multiplications, at several precisions."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.energy._base import AnnActivity, EnergyModel, EnergyRow, horowitz, products, row, spiking, state_reads
from transpike.results.quantity import Quantity


@dataclass(frozen=True)
class Operations(EnergyModel):
    """``E = operations · E_add + multiplications · (E_mul + E_add) + updates · E_compare``, 8-bit factors, 32-bit sums.

    An update is a comparison of every neuron with its threshold in every step. The ANN: ``products · (E_mul + E_add)``.
    A product of b and w bits costs b w / 64 of an 8-bit product, an assumption (an array of b w cells); an analogue
    first layer multiplies 8-bit inputs by the weights. Memory, which dominates in most hardware, is not included: the
    model compares arithmetic, not chips. Source: Horowitz 2014 (ISSCC), table of 45 nm.
    """

    name: ClassVar[str] = "operations"
    excluded: ClassVar[tuple[str, ...]] = (
        "memory",
        "transport of spikes and activations",
        "control",
        "leakage",
        "bias and reset",
    )
    scales: ClassVar[bool] = True
    """True where a product costs in proportion to the widths of its factors."""
    add: Quantity = horowitz(0.1, "32-bit addition")
    multiply: Quantity = horowitz(0.2, "8-bit multiplication")
    compare: Quantity = horowitz(0.1, "32-bit addition, as a comparison")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found = []
        for name, events, _, updates in spiking(activity):
            found.append(row(name, "accumulate", events, self.add.value))
            found.append(row(name, "threshold comparison", updates, self.compare.value))
        found += [row(name, "accumulate of a state", reads, self.add.value) for name, reads in state_reads(activity)]
        for name, macs in activity.macs.items():
            each = self._product(8, activity.weight_bits) + self.add.value
            found.append(row(name, "analogue multiply-accumulate", macs, each))
        return tuple(one for one in found if one.count)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        return tuple(
            row(layer.name, "multiply-accumulate", n, self._product(layer.input_bits, ann.weight_bits) + self.add.value)
            for layer, n in products(ann, zero_skipping)
        )

    def _product(self, a: int, b: int) -> float:
        return self.multiply.value * (a * b / 64 if self.scales else 1)


@dataclass(frozen=True)
class Operations32(Operations):
    """``Operations`` with 32-bit integers: a multiply-accumulate costs 3.2 pJ, an accumulate 0.1."""

    name: ClassVar[str] = "operations-int32"
    judges: ClassVar[bool] = False
    scales: ClassVar[bool] = False
    multiply: Quantity = horowitz(3.1, "32-bit multiplication")


@dataclass(frozen=True)
class Operations16Float(Operations):
    """``Operations`` in 16-bit floating point: a multiply-accumulate costs 1.5 pJ, an accumulate 0.4."""

    name: ClassVar[str] = "operations-fp16"
    judges: ClassVar[bool] = False
    scales: ClassVar[bool] = False
    add: Quantity = horowitz(0.4, "16-bit floating-point addition")
    multiply: Quantity = horowitz(1.1, "16-bit floating-point multiplication")
    compare: Quantity = horowitz(0.4, "16-bit floating-point addition, as a comparison")


@dataclass(frozen=True)
class Operations32Float(Operations):
    """``Operations`` in 32-bit floating point: 4.6 and 0.9 pJ, the pair that most papers quote.

    Neither spiking chips nor quantised ANNs use this precision: for comparison with published numbers only.
    """

    name: ClassVar[str] = "operations-fp32"
    judges: ClassVar[bool] = False
    scales: ClassVar[bool] = False
    add: Quantity = horowitz(0.9, "32-bit floating-point addition")
    multiply: Quantity = horowitz(3.7, "32-bit floating-point multiplication")
    compare: Quantity = horowitz(0.9, "32-bit floating-point addition, as a comparison")
