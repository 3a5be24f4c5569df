"""Readout that excludes the first time steps."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Neuron
from transpike.core.channels import rows
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Watch
from transpike.core.readout import Readout
from transpike.errors import SettingError


@dataclass(frozen=True)
class DelayedWindow(Readout):
    """``logits(t) = Σ_{D < τ ≤ t} I(τ) / (t − D)``: the first D = ``delay`` steps are not read.

    Until step D the logits are the mean of all steps. ``delay`` None is estimated on calibration data: the sum over
    layers of the steps until the first spike of the strongest channel, ``max(θ − v(0)) / max_c mean(a_c)``; ``share``
    sets it to that share of the recipe's T instead. The delay is part of the latency: T includes it.
    Source: Bu, Li, Yu 2025 (LTB, CVPR), section 4.3, in the form of SpikingJelly's port.
    """

    every_step: ClassVar[bool] = True
    delay: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.delay, int) and not isinstance(self.delay, bool)
        if self.delay is not None and not (whole and self.delay >= 0):
            raise SettingError(f"delay must be an integer number of steps, at least 0, or None, not {self.delay!r}")
        if self.share is not None and not 0 <= self.share < 1:
            raise SettingError(f"share must be in [0, 1), not {self.share!r}: it is the excluded share of T")
        if self.delay is not None and self.share is not None:
            raise SettingError(f"delay={self.delay} and share={self.share} both set the delay: pass only one")

    def calibrated(self, graph: Graph, context: Context) -> "DelayedWindow":
        if self.delay is not None:
            return self
        if self.share is not None:
            return replace(self, delay=int(self.share * context.timesteps), share=None)
        means: dict[str, Tensor] = {}
        samples, analogue = sum(len(batch) for batch in context.batches), context.analogue[0]

        def read(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return rows(output, analogue.channel_axes[node.name]).mean(1) * len(output) / samples

        def add(name: str, mean: Tensor) -> None:
            means[name] = means.get(name, 0) + mean

        context.measure(analogue, Watch(read, add, lambda: means))
        steps = 0.0
        for node in graph:
            unit = node.op.unit if isinstance(node.op, Neuron) else None
            if unit is not None and node.name in means and float(means[node.name].max()) > 0:
                steps += float((unit.threshold - unit.initial).max() / means[node.name].max())
        return replace(self, delay=round(steps))

    def init(self, output: Tensor) -> Tensor:
        return torch.zeros((len(output), 2, *output.shape[1:]), dtype=torch.float64, device=output.device)

    def update(self, state: Tensor, output: Tensor, t: int) -> Tensor:
        early = output if t <= (self.delay or 0) else torch.zeros_like(output)
        return state + torch.stack([early, output - early], 1)

    def logits(self, state: Tensor, t: int) -> Tensor:
        delay = self.delay or 0
        return state[:, 1] / (t - delay) if t > delay else state[:, 0] / t
