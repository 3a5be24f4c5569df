"""Thresholds that grow by gradient descent on the clipping error."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.channels import shaped
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context
from transpike.errors import SettingError
from transpike.passes._base import Thresholds


@dataclass(frozen=True)
class LocalThresholdBalancing(Thresholds):
    """θ from 0 up by ``θ ← θ + 2 c · mean max(a − θ, 0)`` for each of ``updates`` batches of ``batch_size``.

    A gradient descent on the squared clipping error with rate ``rate`` c, in all layers at once; each layer
    receives the output of the clipped layers before it. The number of updates is the early-stopping criterion. Short
    calibration data is repeated. Source: Bu, Li, Yu 2025 (LTB, CVPR), section 4.2: 10 updates of 100 images, c = 1.
    """

    rate: float = 1.0
    updates: int = 10
    batch_size: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.granularity == "neuron":
            raise SettingError(
                "local threshold balancing averages over positions: use granularity 'channel' or 'layer'"
            )
        if not 0 < self.rate <= 1 or self.updates < 1 or self.batch_size < 1:
            given = f"{self.rate}, {self.updates} and {self.batch_size}"
            raise SettingError(f"rate must be in (0, 1], updates and batch_size at least 1, not {given}")

    def measuring(self, context: Context) -> float:
        return self.updates * self.batch_size

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self.fires(graph, node):
                return None
            axis = graph.channel_axes[node.name]
            rows = self.rows(torch.relu(output), axis)
            old = found.get(node.name, torch.zeros(len(rows)))
            found[node.name] = old + 2 * self.rate * torch.relu(rows - old[:, None]).mean(1)
            top = found[node.name] if self.granularity == "layer" else shaped(found[node.name], axis, output.ndim - 1)
            return output.clamp(min=0).minimum(top)

        data = torch.cat(context.batches)
        for update in range(self.updates):
            chosen = (torch.arange(self.batch_size) + update * self.batch_size) % len(data)
            graph.run(data[chosen], observe=see)
            context.progress(update + 1, self.updates)
        return found

    def describe(self) -> str:
        return f"{self.updates} updates against clipping, per {self.granularity}"
