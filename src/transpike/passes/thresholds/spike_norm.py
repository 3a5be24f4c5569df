"""Thresholds from simulated input currents."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.core.graph import Graph
from transpike.core.pass_ import Context, Pass
from transpike.errors import DataError, SettingError
from transpike.lowering.layerwise import LayerInput, sequential
from transpike.neurons import IntegrateAndFire
from transpike.passes._sides import other_sides


@dataclass(frozen=True)
class SpikeNorm(Pass):
    """``θ_l = scale · max over time, samples and neurons of the current of layer l``, the layers before it spiking.

    Layer by layer in order, over the recipe's time steps and ``samples`` calibration inputs: the largest current
    of a single step, so that a neuron never needs two spikes in one step. v(0) = 0. Source: Sengupta et al. 2019,
    Front. Neurosci. 13:95, section 3.2 (Spike-Norm); its code takes one batch and up to 2500 steps.
    """

    asks: ClassVar[str] = "spikes"
    sets_thresholds: ClassVar[bool] = True
    scale: float = 1.0
    samples: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf") or self.samples < 1:
            raise SettingError(f"scale must be positive and samples at least 1, not {self.scale} and {self.samples}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        if context.schedule.mode != "steps":
            raise SettingError("Spike-Norm measures the current of single steps: it needs schedule=Streaming()")

        sides = other_sides(context.analogue[0]) if context.analogue else {}

        def visit(layer: LayerInput) -> Graph | None:
            node, cell = layer.node, layer.cell
            if not isinstance(cell, IntegrateAndFire):
                return None
            parts = [part.aminmax() for part in layer.currents]
            largest = torch.stack([part.max for part in parts]).amax()
            if not float(largest) > 0 and node.name in sides:  # the current of the other side, which fires
                largest = -torch.stack([part.min for part in parts]).amin()
            if not float(largest) > 0:
                raise DataError(
                    f"{node.name} receives no positive current in {context.timesteps} steps, so its threshold would be "
                    "0; use more time steps or different calibration data"
                )
            new = dataclasses.replace(node, op=cell.with_tensors(threshold=self.scale * largest))
            return layer.graph.replaced(new)

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return f"× {self.scale:g}: largest spiking current, per layer"
