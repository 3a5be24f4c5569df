"""A recipe, and the pass that sets its neurons."""

from dataclasses import dataclass
from typing import ClassVar

import transpike as ts
from transpike.neurons import IntegrateAndFire
from transpike.passes import ReplaceNeurons
from transpike_example.neuron import Refractory


@ts.register
@dataclass(frozen=True)
class UseRefractory(ReplaceNeurons):
    """Refractory neurons with the threshold and initial potential of the integrate-and-fire ones.

    ``ts.passes.UseNeuron(Refractory, (("rest", 1),))`` does the same; a pass is needed where a threshold changes.
    """

    rest: int = 1

    def neuron(self, old: IntegrateAndFire) -> Refractory:
        return Refractory(old.source, old.threshold, old.initial, spike_scale=old.spike_scale, rest=self.rest)

    def describe(self) -> str:
        return f"{self.rest} steps of rest"


@ts.register
@dataclass(frozen=True)
class Cautious(ts.recipes.ECC):
    """ECC with refractory neurons, whose spikes have at least ``rest`` steps between them."""

    name: ClassVar[str] = "cautious"
    rest: int = 1

    @property
    def neurons(self) -> UseRefractory:
        return UseRefractory(self.rest)
