"""Sigma-delta neurons in the place of quantised activations."""

from dataclasses import dataclass

import torch

from transpike.core.cell import Gain, Neuron
from transpike.errors import UnsupportedModel
from transpike.neurons import IntegrateAndFire, SigmaDelta
from transpike.neurons.multi_threshold import check_threshold_count
from transpike.passes._base import ReplaceNeurons
from transpike.passes._levels import level_of


@dataclass(frozen=True)
class UseQuantisedLevels(ReplaceNeurons):
    """Sigma-delta neurons of quantised activations: the smallest of ``threshold_count`` thresholds is one level.

    With one threshold, the default, this is the ST-BIF neuron: one level up or down in a step, towards the quantised
    value of what was received. Raises UnsupportedModel for activations that are not quantised.
    """

    threshold_count: int = 1

    def __post_init__(self) -> None:
        check_threshold_count(self.threshold_count)

    @property
    def gain(self) -> Gain:
        return "unit"

    def neuron(self, old: IntegrateAndFire) -> Neuron:
        level = level_of(old.source)
        if level is None:
            raise UnsupportedModel(
                f"a {old.source.describe()} has no levels; train with quantised activations, or use sigma-delta"
            )
        return SigmaDelta(old.source, level, torch.zeros(()), self.threshold_count)
