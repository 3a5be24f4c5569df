"""Corrects biases and initial potentials so that the mean error of each layer vanishes."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.core.channels import shaped
from transpike.core.graph import Graph
from transpike.core.pass_ import Context
from transpike.errors import SettingError
from transpike.lowering.layerwise import LayerInput, Shift, sequential
from transpike.passes._base import Calibration
from transpike.passes.shift import channel_mean, only_synapse, passes_unchanged, shifted


@dataclass(frozen=True)
class CalibrateBias(Calibration):
    """``b ← b + mean_{samples, places}(a − φ)``, one value per channel, layer by layer on already corrected input.

    a is the source's activation, φ the mean output of the spiking layer over T steps. Repeated ``rounds`` times for
    each layer. A layer whose bias reaches more than one neuron layer is not changed; a remark names it.
    Source: Li et al. 2021 (SNN calibration, ICML), section 4.2 "light", with one round on one batch.
    """

    asks: ClassVar[str] = "spikes"

    def apply(self, graph: Graph, context: Context) -> Graph:
        def visit(layer: LayerInput) -> Graph | Shift | None:
            synapse = only_synapse(layer.graph, layer.node.name)
            if synapse is None:
                context.remark(f"the bias before {layer.node.name} reaches other layers too, so it was not calibrated")
                return None
            axis, rank = layer.graph.channel_axes[layer.node.name], len(layer.node.shape)
            delta = torch.zeros(layer.node.shape[axis - 1])
            for _ in range(self.rounds):
                sent = layer.sent(layer.cell, shaped(delta, axis, rank))
                delta = delta - channel_mean(sent.sub_(layer.analogue), axis)
            changed = shifted(layer.graph, synapse, delta)
            whole = passes_unchanged(layer.graph, synapse.name, layer.node.name)
            return Shift(changed, shaped(delta, axis, rank)) if whole else changed

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return "biases"


@dataclass(frozen=True)
class CalibratePotential(Calibration):
    """``v(0) ← v(0) + T · mean_{samples}(a − φ)``, one value per neuron, layer by layer on already corrected input.

    a is the source's activation, φ the mean output of the spiking layer over T steps. ``rounds`` as in
    ``CalibrateBias``. Raises SettingError for neurons with a hard reset or a leak, which lose the potential.
    Source: Li et al. 2021 (SNN calibration, ICML), section 4.3 "advanced", potential calibration.
    """

    asks: ClassVar[str] = "spikes"

    def apply(self, graph: Graph, context: Context) -> Graph:
        def visit(layer: LayerInput) -> Graph | None:
            cell, unit = layer.cell, layer.cell.unit
            if unit is None:
                return None
            if unit.reset == "hard" or unit.leak != 1:
                raise SettingError(
                    f"{layer.node.name} loses its potential ({cell.describe()}), so its initial potential cannot be "
                    "calibrated; use a soft reset without leak"
                )
            if unit.code is not None:
                raise SettingError(f"{layer.node.name} ({cell.describe()}) always starts from v = 0: use CalibrateBias")
            for _ in range(self.rounds):
                error = -layer.sent(cell).sub_(layer.analogue).mean(0)
                cell = cell.with_tensors(initial=cell.tensors()["initial"] + context.timesteps * error)
            new = dataclasses.replace(layer.node, op=cell)
            return layer.graph.replaced(new)

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return "initial potentials"
