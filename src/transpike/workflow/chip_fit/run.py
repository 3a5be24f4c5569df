"""Compare a converted network with the published limits of a chip."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike import chips
from transpike.chips import Chip
from transpike.snn import SNN
from transpike.workflow.chip_fit.checks import CHECKS, spiking_neurons


@dataclass(frozen=True)
class Misfit:
    """One thing that does not fit: ``has`` against what the chip ``allows``, and what to ``change``."""

    place: str
    limit: str
    has: str
    allows: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.place}: {self.limit} {self.has}, the chip takes {self.allows}: {self.change} [{self.source}]"


@dataclass(frozen=True)
class ChipFit:
    """What does not fit a target, what was looked at, and limits that no public document gives."""

    target: Chip
    misfits: tuple[Misfit, ...]
    checked: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """True where nothing that is known stands against it."""
        return not self.misfits

    def __str__(self) -> str:
        head = f"{self.target.title}: " + (
            f"fits, as far as {len(self.checked)} known limits say"
            if self.fits
            else f"does not fit, {len(self.misfits)} of {len(self.checked)} known limits are passed or not met"
        )
        lines = [head, *(f"  {misfit}" for misfit in self.misfits)]
        if self.unknown:
            lines.append(f"  not known from public documents: {', '.join(self.unknown)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The findings as plain data."""
        return {
            "target": self.target.name, "title": self.target.title, "fits": self.fits,
            "misfits": [dataclasses.asdict(misfit) for misfit in self.misfits],
            "checked": list(self.checked), "unknown": list(self.unknown),
        }  # fmt: skip


def chip_fit(snn: SNN, target: str | Path | Chip) -> ChipFit:
    """Compare ``snn`` with a chip: "akida", "loihi2", "speck", "spinnaker2", "xylo", or a TOML file of one's own.

    Sizes, operators, alphabets, resets, bits and memories, each against the limit that a public document gives; what no
    document gives is listed as unknown, never taken as fitting. A network that fits may still fail on a chip, whose
    compiler has the last word. Raises SettingError for a target that is not known.
    """
    chip = target if isinstance(target, Chip) else chips.load(target)
    anew = ("change for each input", "those that stay", "use a recipe that is calibrated once, such as few-steps")
    found = [Misfit(node.name, "neurons", *anew, "no chip") for node, cell in spiking_neurons(snn) if cell.per_input]
    checked, unknown = [], []
    for limit, check in CHECKS.items():
        if getattr(chip, limit) is None:
            unknown.append(limit)
            continue
        checked.append(limit)
        source = chip.source(limit)
        for place, has, allows, change in check(snn, chip):
            found.append(Misfit(place, limit, has, allows, change, source.kind if source is not None else "no source"))
    return ChipFit(chip, tuple(found), tuple(checked), tuple(unknown))
