"""Fine-tunes weights layer by layer on simulated input spikes."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError
from transpike.lowering.layerwise import LayerInput, sequential
from transpike.passes.shift import only_synapse


@dataclass(frozen=True)
class CalibrateWeights(Pass):
    """``min_{W, b} Σ (a − θ/T · clip(⌊(T (W φ' + b + r) + v(0)) / θ⌋, 0, T))²`` for each layer in order, by Adam.

    φ' is the mean spike input of the layer's last synapse, r the sum of the other branches, a the source's
    activation; the floor has the straight-through gradient inside the staircase. Cosine learning rate, seeded batches
    of ``batch_size``. Weights that are zero remain zero, so pruned connections are not restored.
    Source: Li et al. 2021 (SNN calibration, ICML), section 4.3 "advanced": 1024 samples, learning rate 1e-5, 5000
    iterations; here fewer iterations at a proportionally higher rate.
    """

    asks: ClassVar[str] = "spikes"
    samples: int = 256
    iterations: int = 200
    learning_rate: float = 2.5e-4
    batch_size: int = 32

    def __post_init__(self) -> None:
        if min(self.samples, self.iterations, self.batch_size) < 1 or not self.learning_rate > 0:
            given = f"{self.samples}, {self.iterations}, {self.batch_size} and {self.learning_rate}"
            raise SettingError(f"samples, iterations, batch_size and learning_rate must be positive, not {given}")

    def work(self, context: Context) -> float:
        return super().work(context) + 3 * self.iterations * self.batch_size

    def apply(self, graph: Graph, context: Context) -> Graph:
        generator = torch.Generator().manual_seed(context.seed)

        def visit(layer: LayerInput) -> Graph | None:
            synapse = only_synapse(layer.graph, layer.node.name)
            mean = None if synapse is None else layer.currents.mean(synapse.inputs[0])
            if synapse is None or mean is None or layer.cell.unit is None:
                context.remark(
                    f"the weights before {layer.node.name} reach other layers too, so they were not calibrated"
                )
                return None
            if layer.cell.unit.code is not None:
                raise SettingError(
                    f"CalibrateWeights needs equal level steps; {layer.node.name} is a {layer.cell.describe()}: omit "
                    "the pass"
                )
            new = self._fitted(synapse, layer, mean, context.timesteps, generator)
            return layer.graph.replaced(new)

        return sequential(graph, context, self.samples, visit)

    def _fitted(
        self, synapse: Node, layer: LayerInput, mean: Tensor, timesteps: int, generator: torch.Generator
    ) -> Node:
        op, unit = synapse.op, layer.cell.unit
        assert isinstance(op, Synapse) and unit is not None
        with torch.no_grad():
            current = layer.currents.mean(layer.node.inputs[0])
            assert current is not None
            rest = current - op.run(mean)
        bias = torch.zeros(synapse.shape[layer.graph.channel_axes[synapse.name] - 1]) if op.bias is None else op.bias
        weight, bias = (value.detach().clone().requires_grad_() for value in (op.weight, bias))
        optimiser = torch.optim.Adam([weight, bias], lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.iterations)
        most, present = timesteps * unit.levels, (op.weight != 0).to(op.weight.dtype)
        with torch.enable_grad():
            for _ in range(self.iterations):
                chosen = torch.randperm(len(mean), generator=generator)[: self.batch_size]
                charge = replace(op, weight=weight, bias=bias).run(mean[chosen]) + rest[chosen]
                level = (charge * timesteps + unit.initial) / unit.threshold
                sent = _staircase(level, most) * (unit.threshold / timesteps)
                loss = (sent - layer.analogue[chosen]).square().sum() / len(chosen)
                optimiser.zero_grad()
                loss.backward()
                assert weight.grad is not None
                weight.grad.mul_(present)
                optimiser.step()
                schedule.step()
        return replace(synapse, op=replace(op, weight=weight.detach(), bias=bias.detach()), origin=())

    def describe(self) -> str:
        return "weights"


def _staircase(level: Tensor, most: int) -> Tensor:
    """``clip(⌊level⌋, 0, most)``, whose gradient is that of the clip."""
    clipped = level.clamp(0, most)
    return clipped + (clipped.floor() - clipped).detach()
