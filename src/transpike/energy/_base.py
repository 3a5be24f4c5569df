"""Base classes of energy models: counts to rows of cause and joule; every constant has a source."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from transpike.core.activity import Activity
from transpike.core.spelling import NamedSettings
from transpike.errors import SettingError
from transpike.results.quantity import Quantity

HOROWITZ = "Horowitz 2014, ISSCC, 45 nm, 0.9 V"
PICO = 1e-12


@dataclass(frozen=True)
class EnergyRow:
    """``count`` events per sample of one ``cause`` in one ``layer``, and their total energy."""

    layer: str
    cause: str
    count: float
    joule: float


@dataclass(frozen=True)
class AnnLayer:
    """A layer of products of a quantised ANN, per sample: ``macs`` products, ``effective`` those without a zero.

    A product of two wires has no ``weights``; of attention, none of the products is known to have a zero. ``inputs``,
    ``outputs``, ``weights`` are elements, ``input_bits`` and ``output_bits`` the widths of activations.
    """

    name: str
    macs: int
    effective: float
    inputs: int
    outputs: int
    weights: int
    input_bits: int
    output_bits: int
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class AnnActivity:
    """The work of a quantised ANN per sample: layers of products with weights of ``weight_bits`` bits.

    ``unpriced``: layer → operations other than multiplications and additions, which are not part of the energy.
    """

    layers: tuple[AnnLayer, ...]
    weight_bits: int = 8
    unpriced: dict[str, str] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def density(self) -> float:
        """Share of the products that have no zero."""
        return sum(layer.effective for layer in self.layers) / self.macs if self.macs else 0.0


@dataclass(frozen=True)
class EnergyModel(NamedSettings):
    """Converts the counts of a run, from any engine, to joules. Ratios are more reliable than absolute values.

    The energy is linear in the spikes, so break-even rates are exact. ``excluded`` lists the parts that a model leaves
    out.
    """

    name: ClassVar[str]
    excluded: ClassVar[tuple[str, ...]]
    judges: ClassVar[bool] = True
    """False where the ANN is charged for more bits than a quantised one has; such a model gives no verdict."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value, wanted = getattr(self, one.name), type(one.default)
            if not isinstance(value, wanted) or isinstance(value, bool) is not issubclass(wanted, bool):
                raise SettingError(f"{one.name} of {self.name} must be a {wanted.__name__}, not {value!r}")
            number = value.value if isinstance(value, Quantity) else value
            if isinstance(number, (int, float)) and not 0 <= number < math.inf:
                raise SettingError(f"{one.name} of {self.name} must be a number of at least 0, not {value}")

    def rows(self, activity: Activity) -> tuple[EnergyRow, ...]:
        """The energy of each cause in each layer of the spiking network, per sample."""
        raise TypeError(f"{type(self).__name__} must define rows()")

    def ann_rows(self, ann: AnnActivity, zero_skipping: bool) -> tuple[EnergyRow, ...] | None:
        """``rows`` of the quantised ANN, which may skip products with a zero; None for a model of spikes only."""
        return None

    def fits(self, activity: Activity) -> bool:
        """False where the hardware of the model cannot run such a network."""
        return True

    def joule(self, activity: Activity) -> float | None:
        """The sum of all rows, per sample; None where the model does not fit."""
        return sum(row.joule for row in self.rows(activity)) if self.fits(activity) else None

    def ann_joule(self, ann: AnnActivity, zero_skipping: bool) -> float | None:
        """The same for the quantised ANN."""
        rows = self.ann_rows(ann, zero_skipping)
        return None if rows is None else sum(row.joule for row in rows)

    def __str__(self) -> str:
        """The name, and the settings that differ from the defaults."""
        changed = [
            f"{one.name}={value.value:g}" if isinstance(value, Quantity) else f"{one.name}={value}"
            for one in dataclasses.fields(self)
            if (value := getattr(self, one.name)) != one.default
        ]
        return f"{self.name} ({', '.join(changed)})" if changed else self.name

    @property
    def constants(self) -> dict[str, Quantity]:
        """Every constant, by its name."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Quantity)}


def horowitz(picojoule: float, what: str) -> Quantity:
    return Quantity(picojoule, "pJ", f"{HOROWITZ}: {what}")


def row(layer: str, cause: str, count: float, picojoule: float) -> EnergyRow:
    """A row of ``count`` events of ``picojoule`` each."""
    return EnergyRow(layer, cause, count, count * picojoule * PICO)


def spiking(activity: Activity) -> Iterable[tuple[str, float, float, float]]:
    """(layer, synaptic operations at weights, spikes, membrane updates) per sample; pools and delays have no membrane.

    ``state_reads`` has the other synaptic operations.
    """
    n = activity.samples
    for layer in activity.layers:
        updates = layer.updates / n if layer.role == "neuron" else 0.0
        weighted = float(layer.synaptic_operations.sum()) - float(layer.product_operations.sum())
        yield layer.name, weighted / n, float(layer.spikes.sum()) / n, updates


def state_reads(activity: Activity) -> Iterable[tuple[str, float]]:
    """(layer, synaptic operations at products of two wires) per sample: each reads a stored state and adds it."""
    for layer in activity.layers:
        yield layer.name, float(layer.product_operations.sum()) / activity.samples


def products(ann: AnnActivity, zero_skipping: bool) -> Iterable[tuple[AnnLayer, float]]:
    """(layer, computed products) of the ANN."""
    for layer in ann.layers:
        yield layer, layer.effective if zero_skipping else float(layer.macs)


def checked(models: EnergyModel | Iterable[EnergyModel]) -> tuple[EnergyModel, ...]:
    """The models as a tuple; raises SettingError for other objects and for duplicate names."""
    found = (models,) if isinstance(models, (EnergyModel, str, type)) or models is None else tuple(models)
    for model in found:
        if not isinstance(model, EnergyModel):
            raise SettingError(f"energy must be models such as transpike.energy.Operations(), not {model!r}")
    names = [str(model) for model in found]
    if len(set(names)) < len(names):
        raise SettingError(f"the same energy model twice: {', '.join(names)}")
    return found
