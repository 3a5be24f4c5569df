"""Biases and initial potentials that take the mean error of each layer away."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.core.channels import shaped
from transpike.core.graph import Graph
from transpike.core.pass_ import Context
from transpike.errors import SettingError
from transpike.lowering.layerwise import LayerInput, sequential
from transpike.passes._base import Calibration
from transpike.passes.shift import channel_mean, only_synapse, shifted


@dataclass(frozen=True)
class CalibrateBias(Calibration):
    """``b ← b + mean_{samples, places}(a − φ)``, one value a channel, layer by layer on already corrected input.

    a is the source's activation, φ the mean over T steps of what the layer sends. Repeated ``rounds`` times for each
    layer. Layers whose bias does not reach one neuron alone stay as they are, with a remark.
    Source: Li et al. 2021 (SNN calibration, ICML), section 4.2 "light"; one round on one batch there.
    """

    asks: ClassVar[str] = "spikes"

    def apply(self, graph: Graph, context: Context) -> Graph:
        def visit(heard: LayerInput) -> Graph | None:
            synapse = only_synapse(heard.graph, heard.node.name)
            if synapse is None:
                context.remark(f"the bias before {heard.node.name} reaches other layers too, so it was not calibrated")
                return None
            axis, rank = heard.graph.channel_axes[heard.node.name], len(heard.node.shape)
            delta = torch.zeros(heard.node.shape[axis - 1])
            for _ in range(self.rounds):
                sent = heard.sent(heard.cell, heard.current + shaped(delta, axis, rank))
                delta = delta + channel_mean(heard.analogue - sent, axis)
            return shifted(heard.graph, synapse, delta)

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return "biases"


@dataclass(frozen=True)
class CalibratePotential(Calibration):
    """``v(0) ← v(0) + T · mean_{samples}(a − φ)``, one value a neuron, layer by layer on already corrected input.

    a is the source's activation, φ the mean over T steps of what the layer sends. Not with a hard reset or a leak,
    which forget the potential. ``rounds`` as in ``CalibrateBias``.
    Source: Li et al. 2021 (SNN calibration, ICML), section 4.3 "advanced", potential calibration.
    """

    asks: ClassVar[str] = "spikes"

    def apply(self, graph: Graph, context: Context) -> Graph:
        def visit(heard: LayerInput) -> Graph | None:
            cell, unit = heard.cell, heard.cell.unit
            if unit is None:
                return None
            if unit.reset == "hard" or unit.leak != 1:
                raise SettingError(
                    f"{heard.node.name} forgets its potential ({cell.describe()}), so an initial potential cannot be "
                    "calibrated; use a soft reset without leak"
                )
            if unit.code is not None:
                raise SettingError(f"{heard.node.name} ({cell.describe()}) begins at 0: use CalibrateBias")
            for _ in range(self.rounds):
                error = (heard.analogue - heard.sent(cell)).mean(0)
                cell = cell.with_tensors(initial=cell.tensors()["initial"] + context.timesteps * error)
            new = dataclasses.replace(heard.node, op=cell)
            return heard.graph.replaced(new)

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return "initial potentials"
