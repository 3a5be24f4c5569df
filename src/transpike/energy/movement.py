"""Arithmetic and transport of spikes and activations, with a cost per bit."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.energy._base import AnnActivity, EnergyModel, EnergyRow, products, row, spiking, state_reads
from transpike.results.quantity import Quantity

SOURCE = "Yan et al. 2025, arXiv 2409.08290 v2, 22 nm, as reported"


@dataclass(frozen=True)
class Movement(EnergyModel):
    """A spike moves 1 bit and its ``payload_bits`` over a sparse network, an activation its bits over a dense one.

    ``E_SNN = operations E_acc + updates (E_compare + E_subtract) + spikes (1 + payload) hops e_sparse``,
    ``E_ANN = products E_mac + activations · bits · hops e_dense``, ``E_mac = E_acc (1 + b w / 8)``: w additions of b
    bits, an assumption. Products, operations and updates are counted per sample. An **approximation**: the equations of
    the paper's second version are not published in usable form, and this one does not reproduce its break-even rates
    (transport alone gives ``rate = bits · 0.25 / (3 T)``: 0.083 at T = 2, whereas the paper has 0.104 and 0.123).
    """

    name: ClassVar[str] = "movement"
    excluded: ClassVar[tuple[str, ...]] = ("weight memory", "control", "leakage", "bias")
    add: Quantity = Quantity(0.05448, "pJ", f"{SOURCE}: addition, comparison or subtraction")
    sparse: Quantity = Quantity(3.0, "pJ a bit and hop", f"{SOURCE}: sparse transport")
    dense: Quantity = Quantity(0.25, "pJ a bit and hop", f"{SOURCE}: dense transport")
    hops: Quantity = Quantity(1.0, "hops", "assumption: neighbours; the paper varies it from 1 to 64")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found, payload = [], {layer.name: layer.payload_bits for layer in activity.layers}
        for name, events, spikes, updates in spiking(activity):
            found.append(row(name, "accumulate", events, self.add.value))
            found.append(row(name, "comparison and reset", updates, 2 * self.add.value))
            each = (1 + payload[name]) * self.hops.value * self.sparse.value
            found.append(row(name, "transport of spikes", spikes, each))
        found += [row(name, "accumulate of a state", reads, self.add.value) for name, reads in state_reads(activity)]
        for name, macs in activity.macs.items():
            found.append(row(name, "analogue multiply-accumulate", macs, self._product(8, activity.weight_bits)))
        return tuple(one for one in found if one.count)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        found = []
        for layer, n in products(ann, zero_skipping):
            each = self._product(layer.input_bits, ann.weight_bits)
            found.append(row(layer.name, "multiply-accumulate", n, each))
            found.append(
                row(
                    layer.name,
                    "transport of activations",
                    layer.outputs * layer.output_bits,
                    self.hops.value * self.dense.value,
                )
            )
        return tuple(found)

    def _product(self, a: int, b: int) -> float:
        return self.add.value * (1 + a * b / 8)
