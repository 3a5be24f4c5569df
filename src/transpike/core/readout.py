"""Contract of readouts: how the answer is computed from the output."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph
from transpike.core.pass_ import Context
from transpike.core.spelling import NamedSettings


@dataclass(frozen=True)
class Readout(NamedSettings):
    """Turns the output's current of each step, (batch, …), into logits; sums are float64, independent of their order.

    ``spiking_output``: the recipe puts a neuron after the last layer, and its spikes are the output.
    """

    spiking_output: ClassVar[bool] = False
    every_step: ClassVar[bool] = False
    """True if it needs the current of every step, which windows and phase cycles only give as a sum."""

    def calibrated(self, graph: Graph, context: Context) -> "Readout":
        """The readout with its values from a converted graph."""
        return self

    def init(self, output: Tensor) -> Tensor:
        return torch.zeros(output.shape, dtype=torch.float64, device=output.device)

    def update(self, state: Tensor, output: Tensor, t: int) -> Tensor:
        return state + output

    def logits(self, state: Tensor, t: int) -> Tensor:
        """The answer after t steps, in the source network's units, float64."""
        return state / t
