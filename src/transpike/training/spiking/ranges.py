"""The ranges of a spiking network in training: of the parameters of its neurons, and of its currents."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from transpike.core.cell import Neuron
from transpike.core.channels import rows, shaped
from transpike.training.spiking.unrolled import Unrolled

LEAST = 1e-3
"""Lower bound of thresholds, relative to their initial values, and of leaks."""


def bounds(module: Unrolled) -> dict[str, tuple[float, float]]:
    """Name of a neuron's tensor → (smallest allowed value, unit of its learning rate)."""
    bounds: dict[str, tuple[float, float]] = {}
    parameters = dict(module.named_parameters())
    for node in module.source_graph:
        keys = node.keys()
        if "threshold" in keys and keys["threshold"] in parameters:
            threshold = parameters[keys["threshold"]].detach()
            unit = float(threshold.mean())
            bounds[keys["threshold"]] = LEAST * float(threshold.min()), unit
            if "initial" in keys:
                bounds[keys["initial"]] = -math.inf, unit
    return bounds


@torch.no_grad()
def current_ranges(module: Unrolled, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Neuron layer → the largest |mean current| of each channel, with size 1 on its other axes, on the CPU.

    ``batches`` are inputs after preprocessing, on the device of the module.
    """
    found: dict[str, Tensor] = {}
    graph = module.source_graph
    before, axes = {n.name: n.inputs[0] for n in graph if isinstance(n.op, Neuron)}, graph.channel_axes
    for inputs in batches:
        seen = module.watched(inputs, before.values())
        for name, source in before.items():
            current = seen[source].charge
            axis, mean = axes[source], current.mean(0).abs()
            largest = shaped(rows(mean, axis).amax(1).cpu(), axis, mean.ndim - 1)
            found[name] = torch.maximum(found.get(name, largest), largest)
    return found
