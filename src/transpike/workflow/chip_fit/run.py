"""Compare a converted network with the published limits of a chip."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike import chips
from transpike.chips import Chip
from transpike.results.notebook import Shown
from transpike.snn import SNN, takes_snn
from transpike.workflow.chip_fit.checks import CHECKS, spiking_neurons
from transpike.workflow.hybrid import analogue_layers


@dataclass(frozen=True)
class Misfit:
    """A violated limit: the network's value ``has``, the limit ``allows``, and what to ``change``."""

    place: str
    limit: str
    has: str
    allows: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.place}: {self.limit} {self.has}, the chip supports {self.allows}: {self.change} [{self.source}]"


@dataclass(frozen=True)
class ChipFit(Shown):
    """Violated limits of a chip, all limits that were checked, and limits without a public source."""

    target: Chip
    misfits: tuple[Misfit, ...]
    checked: tuple[str, ...]
    unknown: tuple[str, ...]
    analogue: tuple[str, ...] = ()
    """The layers of a hybrid network that do not spike: they were not checked, and run elsewhere."""

    @property
    def fits(self) -> bool:
        """True where no known limit is violated."""
        return not self.misfits

    def __str__(self) -> str:
        head = f"{self.target.title}: " + (
            f"fits, {len(self.checked)} known limits are met"
            if self.fits
            else f"does not fit, {len(self.misfits)} of {len(self.checked)} known limits are violated"
        )
        lines = [head, *(f"  {misfit}" for misfit in self.misfits)]
        if self.unknown:
            lines.append(f"  limits without a public source: {', '.join(self.unknown)}")
        if self.analogue:
            lines.append(f"  not checked, because they do not spike and run elsewhere: {', '.join(self.analogue)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The findings as plain data."""
        return {
            "target": self.target.name, "title": self.target.title, "fits": self.fits,
            "misfits": [dataclasses.asdict(misfit) for misfit in self.misfits],
            "checked": list(self.checked), "unknown": list(self.unknown),
            **({"analogue": list(self.analogue)} if self.analogue else {}),
        }  # fmt: skip


@takes_snn
def chip_fit(snn: SNN, target: str | Path | Chip) -> ChipFit:
    """Compare ``snn`` with a chip: "akida", "loihi2", "speck", "spinnaker2", "xylo", or a custom TOML file.

    Sizes, operators, spike alphabets, resets, bits and memories are compared with published limits; a limit without a
    public source is listed as unknown, never taken as met. The compiler of a chip may still reject a network that
    fits. Raises SettingError for an unknown chip.
    """
    chip = target if isinstance(target, Chip) else chips.load(target)
    per_input = ("that change per input", "constant ones", "use a recipe with one calibration, as few-steps")
    found = [
        Misfit(node.name, "neurons", *per_input, "no chip") for node, cell in spiking_neurons(snn) if cell.per_input
    ]
    checked, unknown = [], []
    for limit, check in CHECKS.items():
        if getattr(chip, limit) is None:
            unknown.append(limit)
            continue
        checked.append(limit)
        source = chip.source(limit)
        for place, has, allows, change in check(snn, chip):
            found.append(Misfit(place, limit, has, allows, change, source.kind if source is not None else "no source"))
    return ChipFit(chip, tuple(found), tuple(checked), tuple(unknown), analogue_layers(snn))
