"""What importers of NIR files do with a file of ours: measured by benchmarks/nir_importers.py, listed in docs/nir.md."""

from dataclasses import dataclass

from transpike.lowering.whole import Whole

STEP = 1e-4
"""Seconds of one time step: snnTorch takes no other."""


@dataclass(frozen=True)
class Importer:
    """One importer: ``soft`` says how a reset by subtraction is switched on, "" where it has none like ours.

    ``sums``: a population may have several sources. ``one_axis``: it knows Conv1d. ``version``: the measured one.
    """

    title: str
    version: str
    soft: str
    sums: bool
    one_axis: bool


IMPORTERS = {
    "spikingjelly": Importer("SpikingJelly", "2.0.0", "set v_reset = None on every neuron node", True, True),
    "snntorch": Importer("snnTorch", "1.0.0", "", True, False),
    "norse": Importer("Norse", "1.1.0", "from_nir(..., reset_method=reset_subtract)", False, False),
}
"""Importers for which ``Nir(importer=...)`` writes."""


def sources(whole: Whole) -> dict[str, list[str]]:
    """Layer → the layers and entrances that it reads, each once."""
    return {
        layer.name: list(dict.fromkeys([*layer.currents, *(term.source for term in layer.terms), *filter(None, [layer.source])]))
        for layer in whole.layers
    }


def carries(importer: str, whole: Whole) -> str:
    """Why this importer changes the spikes of a network without a word, with the way out; "" if it does not."""
    found = IMPORTERS[importer]
    several = next((name for name, read in sources(whole).items() if len(read) > 1), "")
    if several and not found.sums:
        return (
            f"{several} adds charge from {', '.join(sources(whole)[several])}, and {found.title} {found.version} drops "
            "all of them but one without a word: use importer='spikingjelly' or 'snntorch', or a network without "
            "residual connections"
        )
    subtracting = next((layer.name for layer in whole.layers[:-1] if layer.reset == "subtract"), "")
    if subtracting and not found.soft:
        return (
            f"{subtracting} subtracts its threshold when it fires (soft reset), and the soft reset of {found.title} "
            f"{found.version} subtracts it a step later: convert with reset='hard' and use profile='hard', or "
            "use importer='spikingjelly' or 'norse'"
        )
    return ""
