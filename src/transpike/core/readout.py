"""How an answer is read from the output."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph
from transpike.core.pass_ import Context


@dataclass(frozen=True)
class Readout:
    """Turns the output's current of each step, (batch, …), into logits; sums in float64, so order does not matter.

    ``spiking_output``: the recipe puts a neuron behind the last layer, and its spikes are the output.
    """

    spiking_output: ClassVar[bool] = False
    every_step: ClassVar[bool] = False
    """True where it must see the current of single steps, which windows and phase cycles sum up."""

    def calibrated(self, graph: Graph, context: Context) -> "Readout":
        """The readout with what it needs to know of a converted graph."""
        return self

    def init(self, output: Tensor) -> Tensor:
        return torch.zeros(output.shape, dtype=torch.float64, device=output.device)

    def update(self, state: Tensor, output: Tensor, t: int) -> Tensor:
        return state + output

    def logits(self, state: Tensor, t: int) -> Tensor:
        """The answer after t steps, in the source network's units, float64."""
        return state / t
