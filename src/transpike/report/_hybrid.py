"""The sides of a hybrid network, in sentences and as a table."""

from transpike.report._columns import Column, count
from transpike.report._numbers import short
from transpike.report._table import Table, rows
from transpike.workflow.evaluate.hybrid import Hybrid


def lines(found: Hybrid | None) -> list[str]:
    """Operations, traffic and energy of both sides, in sentences; none if all of the network spikes."""
    if found is None:
        return []
    macs = f" and {short(found.spiking_macs / 1e6)} M MACs" if found.spiking_macs else ""
    spikes = f"{short(found.events)} spikes, " if any(one.kind == "spikes" for one in found.boundaries) else ""
    said = [
        f"Hybrid, per sample at T={found.timesteps}: {short(found.synaptic_operations / 1e6)} M synaptic operations"
        f"{macs} in the spiking part ({', '.join(found.spiking)}), {short(found.analogue_macs / 1e6)} M MACs in the "
        f"analogue part, once for each answer; {spikes}{short(found.bits / 1e3)} kbit cross."
    ]
    for name, pair in found.energy_joule.items():
        if pair is not None:
            said.append(
                f"Hybrid, by {name}: {short(1e6 * pair[0])} µJ in the spiking part, {short(1e6 * pair[1])} µJ in the "
                "analogue part, without the transport between them."
            )
    return said


def table(found: Hybrid) -> Table:
    """What crosses between the parts, layer by layer."""
    columns = (
        Column("layer", name=True), Column("what crosses", name=True), Column("outputs", show=count),
        Column("number", show=count), Column("kbit", show=short),
    )  # fmt: skip
    values = [(one.layer, one.kind, one.elements, one.number, one.bits / 1e3) for one in found.boundaries]
    notes = (
        "spikes: address and payload of each; sums and values: numbers of 32 bits that cross once for each answer",
    )
    return Table("boundary", f"Boundary of the parts, per sample at T={found.timesteps}", columns, rows(values), notes)
