"""The behaviour of NIR importers with transpike's files, as measured by benchmarks/nir_importers.py."""

from dataclasses import dataclass

from transpike.lowering.whole import Layer, Whole

STEP = 1e-4
"""Seconds of one time step: snnTorch takes no other."""


@dataclass(frozen=True)
class Importer:
    """One importer, in the version that was measured.

    ``soft``: how a reset by subtraction is switched on; "" where it has none like ours. ``sums``: a population may have
    several sources. ``one_axis``: it knows Conv1d. ``several_thresholds``: neurons of a layer may have their own.
    ``float64``: it runs in it.
    """

    title: str
    version: str
    soft: str
    sums: bool
    one_axis: bool
    several_thresholds: bool
    float64: bool


IMPORTERS = {
    "spikingjelly": Importer("SpikingJelly", "2.0.0", "set v_reset = None in every neuron", True, True, False, True),
    "snntorch": Importer("snnTorch", "1.0.0", "", True, False, False, False),
    "norse": Importer("Norse", "1.1.0", "from_nir(..., reset_method=reset_subtract)", False, False, True, True),
}
"""Importers for which ``Nir(importer=...)`` writes."""


def sources(layer: Layer) -> list[str]:
    """The layers and entrances that a layer reads, each once."""
    return list(dict.fromkeys([*layer.currents, *(term.source for term in layer.terms), *filter(None, [layer.source])]))


def carries(importer: str, whole: Whole) -> str:
    """Why this importer would change the spikes of a network without a word, with the remedy; "" if it would not."""
    found = IMPORTERS[importer]
    here = f"{found.title} {found.version}"
    several = next((layer for layer in whole.layers if len(sources(layer)) > 1), None)
    if several is not None and not found.sums:
        return (
            f"{several.name} adds charge from {', '.join(sources(several))}, but {here} drops all of them except one "
            "without a message: use importer='spikingjelly' or 'snntorch', or a network without residual connections"
        )
    subtracting = next((layer for layer in whole.layers[:-1] if layer.reset == "subtract"), None)
    if subtracting is not None and not found.soft:
        return (
            f"{subtracting.name} subtracts its threshold when it fires (soft reset), but {here} subtracts it a step "
            "late: convert with reset='hard' and use profile='hard', or use importer='spikingjelly' or 'norse'"
        )
    return ""
