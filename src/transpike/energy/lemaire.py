"""Operations, memory and addressing: Lemaire et al. 2022."""

import math
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity, Connection
from transpike.energy._base import AnnActivity, EnergyModel, EnergyRow, horowitz, products, row, state_reads
from transpike.results.quantity import Quantity


@dataclass(frozen=True)
class Lemaire(EnergyModel):
    """Each layer of weights, with θ_in and θ_out spikes in and out, K the kernel, S the stride, T steps:

    ``ACC = θ_in ⌈K/S⌉² C_out + T outputs + θ_out`` (a linear layer: ``θ_in N_out + T N_out + θ_out``), weights read
    ``θ_in C_out K²``, potentials read and written ``θ_in C_out K² + T outputs`` each, biases read T outputs, events
    read and written θ_in and θ_out, addresses 2 θ_in products and θ_in K² sums. The ANN: MACs, as many reads of inputs
    and of weights, biases and results once per output, an addition for the address of every input and output.
    ``E = MAC (E_mul + E_add) + ACC E_add + accesses E_memory``, 32 bits. Borders are ignored, as in the paper;
    products with a zero are fetched too: an ANN that skips them saves only the multiplication.
    Source: Lemaire, Cordone, Castagnetti, Novac, Courtois, Miramond 2022 (arXiv 2210.13107); a linear layer's formula
    as in their code, which corrects the paper's; memory at 10 pJ per access, its newer form.
    """

    name: ClassVar[str] = "lemaire"
    excluded: ClassVar[tuple[str, ...]] = ("DRAM", "network on chip", "control", "leakage", "size of the memories")
    add: Quantity = horowitz(0.1, "32-bit addition")
    multiply: Quantity = horowitz(3.1, "32-bit multiplication")
    memory: Quantity = horowitz(10, "8 KB SRAM, 64 bits")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        spikes = {layer.name: float(layer.spikes.sum()) / activity.samples for layer in activity.layers}
        found: list[EnergyRow] = []
        for c in activity.connections:
            if c.analogue:
                reads = 2 * c.macs + 2 * c.outputs
                found += self._costs(c.name, c.macs * c.times, c.outputs, 0, reads * c.times)
                continue
            received, sent = sum(spikes.get(name, 0.0) for name in c.sources), spikes.get(c.target, 0.0)
            fan, taken = _fans(c)
            outputs = activity.timesteps * c.outputs
            accesses = received + sent + 3 * received * fan + 3 * outputs
            addresses = received * (math.prod(c.kernel) if c.kernel else fan)
            found += self._costs(c.name, 0, received * taken + outputs + sent, addresses, accesses)
            if c.kernel:
                found.append(row(c.name, "address product", 2 * received, self.multiply.value + self.add.value))
        for name, events in state_reads(activity):  # the state is read, the sum is read and written
            found += self._costs(name, 0, events, 0, 3 * events)
        layers = {c.name for c in activity.connections}
        for name, macs in activity.macs.items():
            if name not in layers:  # products of two wires: both factors are read
                found += self._costs(name, macs, 0, 0, 2 * macs)
        return tuple(found)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        found: list[EnergyRow] = []
        for layer, n in products(ann, zero_skipping):
            inputs = layer.macs if layer.kernel else layer.inputs
            addresses = layer.inputs + layer.outputs if layer.kernel else layer.macs
            accesses = inputs + layer.macs + 2 * layer.outputs
            found += self._costs(layer.name, n, layer.outputs, addresses, accesses)
        return tuple(found)

    def _costs(self, name: str, macs: float, sums: float, addresses: float, accesses: float) -> tuple[EnergyRow, ...]:
        found = (
            row(name, "multiply-accumulate", macs, self.multiply.value + self.add.value),
            row(name, "accumulate", sums, self.add.value),
            row(name, "address", addresses, self.add.value),
            row(name, "memory access", accesses, self.memory.value),
        )
        return tuple(one for one in found if one.count)


def _fans(c: Connection) -> tuple[float, float]:
    """(weights read, sums changed) per spike."""
    if not c.kernel:
        return c.macs / c.inputs, c.macs / c.inputs  # all outputs of a linear layer, one of a scale
    channels = c.channels / c.groups
    taken = math.prod(math.ceil(k / s) for k, s in zip(c.kernel, c.stride, strict=True))
    return channels * math.prod(c.kernel), channels * taken
