"""A processor for first spikes and logarithmic weights, with the overhead of each spike."""

import math
from dataclasses import dataclass
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.energy._base import PICO, AnnActivity, EnergyModel, EnergyRow, horowitz, products, row
from transpike.results.quantity import Quantity

ASSUMED = "assumption: as an 8-bit addition, Horowitz 2014, 45 nm"


@dataclass(frozen=True)
class TTFSProcessor(EnergyModel):
    """Each product of a spike and a weight is an exponent addition, a look-up, a shift and an accumulate.

    Each spike is sorted among its layer's (⌈log2 N⌉ comparisons of slots) and written to and read from a queue with its
    address and slot; each neuron's threshold is compared in every slot (its timer), each layer counts its window's
    slots; weights of ``weight_bits`` are fetched from SRAM for every product, an analogue first layer multiplies.
    A **model** of a processor such as CAT's (Lew et al. 2022), not its measured energy: that paper's tables were not
    available (its abstract states 486.7 µJ for VGG-16 on CIFAR-10, 28 nm). Constants: Horowitz 2014, 45 nm; the look-up
    and the shift are assumptions. Only for networks whose neurons fire once with kernels of base 2,
    and whose layers (after the first, if it is analogue) have at most 2^(``weight_bits`` − 1) − 1 weight magnitudes.
    """

    name: ClassVar[str] = "ttfs-processor"
    excluded: ClassVar[tuple[str, ...]] = ("potential memory", "DRAM", "network on chip", "control", "leakage")
    weight_bits: int = 5
    slot_bits: int = 8
    add_exponents: Quantity = horowitz(0.03, "8-bit addition")
    look_up: Quantity = Quantity(0.03, "pJ", ASSUMED)
    shift: Quantity = Quantity(0.03, "pJ", ASSUMED)
    accumulate: Quantity = horowitz(0.1, "32-bit addition")
    compare_slots: Quantity = horowitz(0.03, "8-bit addition, as a comparison")
    compare_potential: Quantity = horowitz(0.1, "32-bit addition, as a comparison")
    count_slots: Quantity = horowitz(0.03, "8-bit addition")
    multiply: Quantity = horowitz(0.2, "8-bit multiplication")
    weight_memory: Quantity = Quantity(
        20 / 64, "pJ a bit", "Horowitz 2014, ISSCC, 45 nm: 32 KB SRAM, 20 pJ for 64 bits"
    )
    queue_memory: Quantity = Quantity(10 / 64, "pJ a bit", "Horowitz 2014, ISSCC, 45 nm: 8 KB SRAM, 10 pJ for 64 bits")

    def fits(self, activity: Activity) -> bool:
        codes = [layer.code for layer in activity.layers if layer.role == "neuron"]
        shifts = all(
            code is not None and code.kernel == "exponential" and code.base == 2 and not code.delay for code in codes
        )
        few = 2 ** (self.weight_bits - 1)  # one bit is the sign
        coded = all(c.magnitudes < few for c in activity.connections if not c.analogue)
        return bool(codes) and shifts and coded

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        n, found = activity.samples, []
        for layer in activity.layers:
            products, spikes = float(layer.synaptic_operations.sum()) / n, float(layer.spikes.sum()) / n
            updates, address = layer.updates / n, max(1, math.ceil(math.log2(layer.neurons)))
            slots = updates / layer.neurons
            causes = {
                "exponent addition": (products, self.add_exponents.value),
                "kernel look-up": (products, self.look_up.value),
                "shift": (products, self.shift.value),
                "accumulate": (products, self.accumulate.value),
                "weight fetch": (products, self.weight_bits * self.weight_memory.value),
                "sorting": (spikes * address, self.compare_slots.value),
                "spike queue": (2 * spikes, (address + self.slot_bits) * self.queue_memory.value),
                "timer: threshold comparison": (updates if layer.role == "neuron" else 0, self.compare_potential.value),
                "window counter": (slots, self.count_slots.value),
            }
            found += [EnergyRow(layer.name, cause, c, c * each * PICO) for cause, (c, each) in causes.items() if c]
        for name, macs in activity.macs.items():
            each = (self.multiply.value + self.accumulate.value) * PICO
            found.append(EnergyRow(name, "analogue multiply-accumulate", macs, macs * each))
        return tuple(found)

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...]:
        """Rows of a multiply-accumulate and a weight fetch per product, and of the memory of activations."""
        found = []
        for layer, n in products(ann, zero_skipping):
            product = self.multiply.value * layer.input_bits * ann.weight_bits / 64
            fetch = ann.weight_bits * self.weight_memory.value
            found.append(row(layer.name, "multiply-accumulate", n, product + self.accumulate.value))
            found.append(row(layer.name, "weight fetch", n, fetch))
            bits = 2 * layer.outputs * layer.output_bits
            found.append(row(layer.name, "activation memory", bits, self.queue_memory.value))
        return tuple(found)
