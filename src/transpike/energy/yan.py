"""Two architectures of Yan, Bai, Wong 2024, from the formulas in their plotting code."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.energy._base import AnnActivity, EnergyModel, EnergyRow, products, row, spiking, state_reads
from transpike.results.quantity import Quantity

SOURCE = "Yan, Bai, Wong 2024, arXiv 2409.08290 v1, their plotting code"


def _yan(picojoule: float, what: str) -> Quantity:
    return Quantity(picojoule, "pJ", f"{SOURCE}: {what}")


@dataclass(frozen=True)
class SpatialDataflow(EnergyModel):
    """Weights are stored next to the arithmetic units: each event reads one weight from SRAM.

    Per synapse, with ANN density d, T steps, sparsity s (1 − spike rate) and N inputs per neuron:
    ``E_ANN = d (20 + 0.23)``, ``E_SNN = T (1−s) (20 + 0.03) + T (2 · 20 + 0.06) / N`` pJ; here with measured
    counts: d the share of products without a zero (1 where the ANN does not skip), T (1−s) synaptic operations,
    T / N membrane updates (potential read and written, compared, reset). The multiplications of an analogue first
    layer, which the paper leaves out, cost as much as the ANN's. Source: arXiv 2409.08290 v1.
    """

    name: ClassVar[str] = "spatial-dataflow"
    excluded: ClassVar[tuple[str, ...]] = ("DRAM", "network on chip", "control", "leakage", "bias")
    memory: Quantity = _yan(20, "an access to SRAM")
    add: Quantity = _yan(0.03, "8-bit addition")
    multiply_accumulate: Quantity = _yan(0.23, "8-bit multiplication and addition")
    fire: Quantity = _yan(0.06, "comparison and subtraction")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found = []
        for name, events, _, updates in spiking(activity):
            found.append(row(name, "weight read and added", events, self.memory.value + self.add.value))
            found.append(row(name, "potential read and written", updates, 2 * self.memory.value + self.fire.value))
        each = self.memory.value + self.add.value
        found += [row(name, "state read and added", reads, each) for name, reads in state_reads(activity)]
        for name, macs in activity.macs.items():
            found.append(row(name, "analogue multiply-accumulate", macs, self._product))
        return tuple(one for one in found if one.count)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        return tuple(
            row(layer.name, "weight read, multiplied and added", n, self._product)
            for layer, n in products(ann, zero_skipping)
        )

    @property
    def _product(self) -> float:
        return self.memory.value + self.multiply_accumulate.value


@dataclass(frozen=True)
class MemoryHierarchy(EnergyModel):
    """A classical accelerator: registers, SRAM and DRAM, whose reads are shared by R = 216 products.

    Per synapse: ``E_ANN = d (4 · 20 + 0.23) + 2020 / R``,
    ``E_SNN = T (1−s) (64.32 + 0.03 / N) + T 64.35 / N + 2 · 2020 T / ((1 + T) R)`` pJ; d, N and the counts as for
    ``SpatialDataflow``. The composition of 64.32 pJ is not known: **as decoded** from the authors' code. An operation
    that reads the state of a product of two wires is charged as one that reads a weight, an assumption.
    Source: arXiv 2409.08290 v1.
    """

    name: ClassVar[str] = "memory-hierarchy"
    excluded: ClassVar[tuple[str, ...]] = ("network on chip", "control", "leakage", "bias")
    product: Quantity = _yan(80.23, "four accesses to SRAM, an 8-bit multiplication and addition")
    event: Quantity = _yan(64.32, "cost of a spike at a synapse; its breakdown is unknown")
    update: Quantity = _yan(64.35, "cost of a step of a neuron; its breakdown is unknown")
    add: Quantity = _yan(0.03, "8-bit addition")
    fetch: Quantity = _yan(2020, "an access to DRAM and one to SRAM")
    reuse: Quantity = Quantity(216, "products", f"{SOURCE}: that share an access to DRAM")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        found, steps = [], activity.timesteps
        inputs = activity.synapses / activity.neurons if activity.neurons else 1.0
        for name, events, _, updates in spiking(activity):
            found.append(row(name, "spikes at synapses", events, self.event.value + self.add.value / inputs))
            found.append(row(name, "neuron steps", updates, self.update.value))
        each = self.event.value + self.add.value / inputs
        found += [row(name, "spikes at products", reads, each) for name, reads in state_reads(activity)]
        share = 2 * self.fetch.value * steps / ((1 + steps) * self.reuse.value)
        for layer in activity.layers:
            found.append(row(layer.name, "DRAM, shared", layer.synapses, share))
        for name, macs in activity.macs.items():
            each = self.product.value + self.fetch.value / self.reuse.value
            found.append(row(name, "analogue multiply-accumulate", macs, each))
        return tuple(one for one in found if one.count)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        share = self.fetch.value / self.reuse.value
        found = []
        for layer, n in products(ann, zero_skipping):
            found.append(row(layer.name, "SRAM and multiply-accumulate", n, self.product.value))
            found.append(row(layer.name, "DRAM, shared", layer.macs, share))
        return tuple(found)
