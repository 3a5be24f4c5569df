"""Where the current of the analogue input is rounded to the exact grid."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Node
from transpike.core.op import Op, Role
from transpike.lowering.lowered import Lowered
from transpike.lowering.ties import rounded_up_on_steps
from transpike.ops.scale import Scale


@dataclass(frozen=True, eq=False)
class OnGrid(Op):
    """Rounds to multiples of ``grid`` (1, *shape), where the current of the analogue input enters the neurons.

    Multiples of ``step``, if there is one, are rounded upwards (``ties.py``).
    """

    role: ClassVar[Role] = "wiring"
    grid: Tensor
    step: Tensor | None = None

    def run(self, *inputs: Tensor) -> Tensor:
        if self.step is not None:
            return rounded_up_on_steps(inputs[0], self.grid, self.step)
        return (inputs[0] / self.grid).round_().mul_(self.grid)

    def paths(self) -> Op:
        return Scale(weight=torch.ones((), dtype=self.grid.dtype))  # rounding hides the path from the gradient

    def describe(self) -> str:
        return "on_grid"


def with_rounding_points(lowered: Lowered) -> Lowered:
    """An OnGrid node on every wire from the time-invariant nodes (analogue input) to the rest."""
    if not lowered.time_invariant:
        return lowered  # the input consists of spikes: there is no analogue input
    nodes: list[Node] = []
    shapes = {node.name: node.shape for node in lowered.nodes}
    spike_scales, alphabets, axes = dict(lowered.spike_scales), dict(lowered.alphabets), dict(lowered.axes)
    for node in lowered.nodes:
        inputs = []
        for name in node.inputs:
            if name in lowered.time_invariant and node.name not in lowered.time_invariant:
                source, name = name, f"{name}→grid"
                if name not in spike_scales:
                    shape = shapes[source]
                    grid = torch.full((1, *shape), 2.0**-40, dtype=torch.float64)
                    nodes.append(Node(name, OnGrid(grid), (source,), "", (), shape))
                    spike_scales[name], alphabets[name], axes[name] = None, alphabets[source], lowered.axes[source]
            inputs.append(name)
        nodes.append(dataclasses.replace(node, inputs=tuple(inputs)))
    return dataclasses.replace(lowered, nodes=tuple(nodes), spike_scales=spike_scales, alphabets=alphabets, axes=axes)
