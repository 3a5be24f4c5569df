"""Signed neurons with memory."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.step import Step
from transpike.neurons.signed import NegativeRule
from transpike.recipes._base import PercentileThresholded, setting
from transpike.steps import InitialPotential, UseNeurons
from transpike.steps._base import Granularity


@dataclass(frozen=True)
class SNM(PercentileThresholded):
    """A neuron that has fired too early takes spikes back; one threshold a neuron, its largest activation.

    ``rule`` chooses among the published conditions for a negative spike (``neurons.SignedIntegrateAndFire``).
    Source: Wang, Zhang, Chen, Qu 2022 (IJCAI), "Signed neuron with memory", sections 3.2 and 3.3 (neuron-wise
    normalisation), and the authors' code.
    Differs from the paper: the maximum runs over the whole batch (the code keeps one for each slot of a batch); the
    last layer accumulates instead of firing.
    Checked: on the unevenness vectors of QCFS (figure 1) one more step without input brings the count to the source's
    value, where without negative spikes it stays too high; after the five steps alone it may lie on either side, since
    a step takes back one spike. On images hardly a neuron ends with spikes for which no charge came; its threshold is
    its own largest activation (tests/recipes/test_snm.py).
    """

    name: ClassVar[str] = "snm"
    granularity: Granularity = setting("neuron", "One threshold for each layer, channel or neuron.")
    percentile: float = setting(100.0, "Of each layer's activations: the threshold; 100 is the maximum.")
    beta: float = setting(0.0, "Initial potential as a share of the threshold.")
    rule: NegativeRule = setting("snm", "When a negative spike is due.")

    @property
    def shifts(self) -> tuple[Step, ...]:
        return (InitialPotential(self.beta),)

    @property
    def neurons(self) -> UseNeurons:
        return UseNeurons("signed", rule=self.rule)
