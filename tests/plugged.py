"""What somebody else's package adds to transpike: one class or function of each kind, registered by the tests."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

import transpike as ts
from transpike.core.call import Call
from transpike.core.exit import ExitScore
from transpike.core.graph import Graph
from transpike.core.op import Captured, Op
from transpike.core.pass_ import Context, Pass
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.encoders import ConstantCurrent
from transpike.energy import EnergyModel, EnergyRow
from transpike.neurons import IntegrateAndFire
from transpike.passes import ReplaceNeurons
from transpike.results.quantity import Quantity
from transpike.schedules import Streaming
from transpike.tasks import Classification


@dataclass(frozen=True)
class Share:
    """A part that only a field of a recipe holds."""

    value: float = 0.5


@dataclass(frozen=True)
class OurECC(ts.recipes.ECC):
    """ECC with an initial potential of its own, and a setting whose name another recipe has with another type."""

    name: ClassVar[str] = "our-ecc"
    share: Share = field(default=Share(), metadata={"help": "Initial potential."})
    gamma: float = field(default=1.5, metadata={"help": "Of the weights."})
    title: str = "plain"

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (ts.passes.InitialPotential(self.share.value),)


@dataclass(frozen=True, eq=False)
class Refractory(IntegrateAndFire):
    """Integrate and fire, silent for some steps after each spike; charge is kept."""

    rest: int = 1

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return super().init(*inputs), torch.zeros_like(inputs[0])

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        potential, silent = state
        potential = potential + inputs[0]
        spikes = ((potential >= self.threshold) & (silent <= 0)).to(potential.dtype)
        silent = torch.where(spikes > 0, torch.full_like(silent, float(self.rest)), silent - 1)
        return (potential - spikes * self.threshold, silent), spikes

    @property
    def unit(self) -> None:
        return None


@dataclass(frozen=True)
class UseRefractory(ReplaceNeurons):
    """Refractory neurons in the place of integrate-and-fire ones."""

    rest: int = 1

    def neuron(self, old: IntegrateAndFire) -> Refractory:
        return Refractory(old.source, old.threshold, old.initial, spike_scale=old.spike_scale, rest=self.rest)


@dataclass(frozen=True)
class RefractoryECC(ts.recipes.ECC):
    """ECC with refractory neurons."""

    name: ClassVar[str] = "refractory-ecc"
    rest: int = 1

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseRefractory(self.rest)


@dataclass(frozen=True, eq=False)
class Tangent(Op):
    """The hyperbolic tangent, which no op of transpike represents."""

    aten: ClassVar[tuple[str, ...]] = ("tanh.default",)
    gain: float = 1.0

    @classmethod
    def capture(cls, call: Call) -> Captured:
        return cls(), (call.wire("self"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.tanh(self.gain * inputs[0])


@dataclass(frozen=True)
class PerSpike(EnergyModel):
    """A picojoule a spike."""

    name: ClassVar[str] = "per-spike"
    excluded: ClassVar[tuple[str, ...]] = ("everything else",)
    spike: Quantity = Quantity(1.0, "pJ", "made up for a test")

    def rows(self, activity: ts.core.activity.Activity) -> tuple[EnergyRow, ...]:
        per = {layer.name: float(layer.spikes.sum()) / activity.samples for layer in activity.layers}
        return tuple(EnergyRow(name, "spike", count, count * self.spike.value * 1e-12) for name, count in per.items())


@dataclass(frozen=True)
class Twice(Readout):
    """Twice the mean current."""

    def logits(self, state: Tensor, t: int) -> Tensor:
        return 2 * state / t


@dataclass(frozen=True)
class Dimmed(ConstantCurrent):
    """The input times a factor."""

    name: ClassVar[str] = "dimmed"
    factor: float = 0.5

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        return super().encode(x, sample_ids, t) * self.factor


@dataclass(frozen=True)
class OurStream(Streaming):
    """A stream under another name."""


@dataclass(frozen=True)
class Spread(ExitScore):
    """The range of the logits."""

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.amax(-1) - logits.amin(-1)


@dataclass(frozen=True)
class Nothing(Pass):
    """A step that does nothing."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        return graph


@dataclass(frozen=True)
class Second(Classification):
    """Right is where the target has the second largest logit."""

    name: ClassVar[str] = "second"

    def answers(self, output: Tensor) -> Tensor:
        return output.topk(2, -1).indices[..., 1]

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.answers(output) == self.answers(reference)


class SoftClip(ts.activations.TrainableClip):
    """A clip under another name."""

    name = "soft-clip"


def blobs(size: int | str = 64, data_dir: str = "") -> ts.data.Dataset:
    """Two kinds of images, bright above or below."""
    images = torch.rand((int(size), 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(int(size)) % 2
    images[labels == 0, :, :4] *= 0.2
    images[labels == 1, :, 4:] *= 0.2
    split = ts.data.Split(images, labels)
    return ts.data.Dataset("blobs", split, split, ("above", "below"), ts.Preprocessing())


def tiny(num_classes: int, in_channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes))


CLASSES = (
    Share, OurECC, Refractory, UseRefractory, RefractoryECC, Tangent, PerSpike, Twice, Dimmed, OurStream, Spread, Nothing,
    Second, SoftClip,
)  # fmt: skip
RECIPES: tuple[type[Recipe], ...] = (OurECC, RefractoryECC)


def register_all() -> None:
    """What a plug-in's module does when it is imported."""
    ts.register(kind="part")(Share)
    for kind in CLASSES[1:]:
        ts.register(kind)
    ts.register(kind="data", name="blobs")(blobs)
    ts.register(kind="network", name="tiny", input_shape=(1, 8, 8), num_classes=2)(tiny)
    ts.register(ts.chips.Chip("tiny-chip", "Tiny chip", max_layers=1))
