"""Both sides of a hybrid network, and what crosses between them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from transpike.core.activity import Activity
from transpike.energy import EnergyModel
from transpike.snn import SNN


@dataclass(frozen=True)
class Boundary:
    """Data that crosses at one layer, per sample: ``number`` events or numbers (``kind``), ``bits`` in all."""

    layer: str
    kind: str
    elements: int
    number: float
    bits: float


@dataclass(frozen=True)
class Hybrid:
    """Counts per sample until T = ``timesteps``: the spiking part, the analogue ones, and the ``boundaries``.

    ``spiking``: the patterns that select the spiking part. ``synaptic_operations`` are additions, ``spiking_macs`` the
    remaining multiplications of the spiking part; the analogue part has ``analogue_macs``, once for each answer.
    ``energy_joule``: model → (spiking part, analogue part), None where a model does not apply. No model prices what
    crosses the boundary: its bits are given instead.
    """

    spiking: tuple[str, ...]
    timesteps: int
    synaptic_operations: float
    spiking_macs: int
    analogue_macs: int
    boundaries: tuple[Boundary, ...]
    energy_joule: dict[str, tuple[float, float] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, snn: SNN, activity: Activity, models: Iterable[EnergyModel] = ()) -> "Hybrid | None":
        """The sides of ``snn`` in a run; None if all of it spikes."""
        return cls.counted(snn.spiking, activity, models) if snn.is_hybrid else None

    @classmethod
    def counted(cls, spiking: tuple[str, ...], activity: Activity, models: Iterable[EnergyModel]) -> "Hybrid":
        """The sides of any network in a run."""
        once, n = activity.computed_once, activity.samples
        return cls(
            spiking,
            activity.timesteps,
            activity.events,
            sum(macs for name, macs in activity.macs.items() if name not in once),
            sum(macs for name, macs in activity.macs.items() if name in once),
            tuple(
                Boundary(one.name, one.kind, one.elements, one.number(n), one.number(n) * one.bits)
                for one in activity.crossings
            ),
            {str(model): _joules(model, activity) for model in models},
        )

    @property
    def events(self) -> float:
        """Spikes that cross, per sample."""
        return sum(one.number for one in self.boundaries if one.kind == "spikes")

    @property
    def bits(self) -> float:
        """Bits that cross, per sample."""
        return sum(one.bits for one in self.boundaries)

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        joules = {
            name: None if pair is None else {"spiking": pair[0], "analogue": pair[1]}
            for name, pair in self.energy_joule.items()
        }
        found = {"events": self.events, "bits": self.bits, "energy_joule": joules, "spiking": list(self.spiking)}
        return asdict(self) | found | {"boundaries": [asdict(one) for one in self.boundaries]}


def _joules(model: EnergyModel, activity: Activity) -> tuple[float, float] | None:
    """Joules per sample of the spiking part and of the analogue one."""
    if not model.fits(activity):
        return None
    spiking = analogue = 0.0
    for row in model.rows(activity):
        if row.layer in activity.computed_once:
            analogue += row.joule
        else:
            spiking += row.joule
    return spiking, analogue
