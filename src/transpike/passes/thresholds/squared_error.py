"""Thresholds of least squared error between activation and staircase."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import OBSERVED, Context
from transpike.errors import SettingError
from transpike.passes._base import Thresholds

CANDIDATES = 95
"""Number of candidates: shares 1, 0.99 … 0.06 of the largest activation."""
VALUES = 2**14
"""Activations on which the error of a channel is measured; more do not help (benchmarks/calibration_size.py)."""
LAYER = 2**18
"""Activations of a layer with few channels, or one threshold."""
BLOCK = 2**16
"""Activations that are compared with all candidates while they are in the cache."""


@dataclass(frozen=True)
class SquaredErrorThresholds(Thresholds):
    """``θ = argmin Σ (a − θ/T · clip(⌊a T/θ + shift⌋, 0, Γ T))²`` over θ = (1 − i/100) · max a / Γ, i = 0 … 94.

    T is the recipe's number of steps, Γ (``gamma``) the most spikes in a step, ``shift`` the initial potential as a
    share of θ. Runs over the first ``samples`` calibration inputs; of a row with very many activations every k-th
    counts (``VALUES``), the maximum is that of all.
    Source: Li et al. 2021 (SNN calibration), section 4.1; its code uses a moving average over batches instead.
    """

    gamma: int = 1
    shift: float = 0.0
    samples: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma < 1 or not 0 <= self.shift < 1 or self.samples < 1:
            given = f"{self.gamma}, {self.samples} and {self.shift}"
            raise SettingError(f"gamma and samples must be at least 1 and shift in [0, 1), not {given}")

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        largest: dict[str, Tensor] = {}
        errors: dict[str, Tensor] = {}
        shares = 1 - torch.arange(CANDIDATES) / 100

        def see_largest(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.fires(graph, node):
                peak = self.rows(torch.relu(output), graph.channel_axes[node.name]).amax(1)
                largest[node.name] = torch.maximum(largest.get(node.name, peak), peak)

        def see_errors(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not self.fires(graph, node):
                return
            name, rows = node.name, self.rows(torch.relu(output), graph.channel_axes[node.name])
            each = rows.shape[1] // len(output)
            stride = _stride(each * samples, len(rows), each)
            chosen = rows[:, -seen.get(name, 0) % stride :: stride]
            seen[name] = seen.get(name, 0) + rows.shape[1]
            for part in chosen.split(max(1, BLOCK // len(rows)), 1):
                error = [self._error(part, share * largest[name], context.timesteps) for share in shares.tolist()]
                errors[name] = errors.get(name, 0) + torch.stack(error)

        first = context.first(self.samples)
        samples, seen = sum(map(len, first)), dict[str, int]()
        few = max(1, OBSERVED // max(math.prod(node.shape) for node in graph))
        batches = [part for batch in first for part in batch.split(few)]
        passes = [(see, batch) for see in (see_largest, see_errors) for batch in batches]
        for done, (see, batch) in enumerate(passes, 1):
            graph.run(batch, observe=see)
            context.progress(done, len(passes))
        return {name: shares[error.argmin(0)] * largest[name] / self.gamma for name, error in errors.items()}

    def _error(self, rows: Tensor, top: Tensor, timesteps: int) -> Tensor:
        """The squared error of each row for staircases with maximum ``top``, in float64."""
        step = (top / (self.gamma * timesteps)).clamp(min=1e-30)[:, None]
        staircase = (rows / step).add_(self.shift).floor_().clamp_(0, self.gamma * timesteps).mul_(step)
        return staircase.sub_(rows).square_().sum(1, dtype=torch.float64)

    def describe(self) -> str:
        return f"least squared error at T, per {self.granularity}"


def _stride(values: int, rows: int, each: int) -> int:
    """Every how many of the ``values`` of a row count; ``each`` is the number of one sample, with no common divisor."""
    stride = math.ceil(values / max(VALUES, LAYER // rows))
    while math.gcd(stride, each) > 1:
        stride += 1
    return stride
