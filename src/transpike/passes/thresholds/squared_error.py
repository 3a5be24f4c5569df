"""Thresholds of least squared error between activation and staircase."""

import math
from collections.abc import Callable, Mapping
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
BLOCK = 2**20
"""Edges of levels that are looked up together."""
KEPT = 2**28
"""Bytes of activations that are put in order together; if more count, the network runs again."""


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

    def measuring(self, context: Context) -> float:
        return 2 * min(self.samples, context.samples)

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        first, second = context.divided(1, 1)
        largest, kept = self._seen(graph, first)
        errors: dict[str, Tensor] = {}

        def add(found: Mapping[str, Tensor]) -> None:
            for name, ordered in found.items():
                errors[name] = errors.get(name, 0) + self._errors(ordered, largest[name], context.timesteps)

        if kept is not None:
            add(kept)
        else:  # the network runs again, now that the candidates are known
            pending: dict[str, list[Tensor]] = {}
            room = KEPT

            def collect(name: str, rows: Tensor, chosen: Tensor) -> None:
                nonlocal room
                if chosen.nbytes > room:
                    add(_ordered(pending))
                    room = KEPT
                pending.setdefault(name, []).append(chosen.clone())
                room -= chosen.nbytes

            self._choose(graph, second, collect)
            add(_ordered(pending))
        return {name: candidates()[error.argmin(0)] * largest[name] / self.gamma for name, error in errors.items()}

    def _seen(self, graph: Graph, context: Context) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """The largest activation of each row, and those that count in ascending order; None if these exceed ``KEPT``.

        They depend neither on the number of steps nor on ``gamma``.
        """
        key = "activations", self.granularity, self.spiking_output, self.samples
        if key not in context.shared:
            largest, parts, room = dict[str, Tensor](), dict[str, list[Tensor]](), KEPT

            def add(name: str, rows: Tensor, chosen: Tensor) -> None:
                nonlocal room
                peak = rows.amax(1)
                largest[name] = torch.maximum(largest.get(name, peak), peak)
                room -= chosen.nbytes
                if room >= 0:
                    parts.setdefault(name, []).append(chosen.clone())
                else:
                    parts.clear()

            self._choose(graph, context, add)
            context.shared[key] = largest, _ordered(parts) if room >= 0 else None
        return context.shared[key]

    def _errors(self, ordered: Tensor, largest: Tensor, timesteps: int) -> Tensor:
        """(candidates, rows): the squared error of ascending ``ordered`` (rows, values), without the sum of squares.

        With n_k values at or above the edge of level k, whose sum is s_k, and steps of the size d, it is
        ``d² Σ_k (2k − 1) n_k − 2 d Σ_k s_k``, k = 1 … Γ T.
        """
        level = torch.arange(1, self.gamma * timesteps + 1)
        few = max(1, BLOCK // len(level))
        return torch.cat(
            [self._of_rows(*some, level) for some in zip(ordered.split(few), largest.split(few), strict=True)], 1
        )

    def _of_rows(self, ordered: Tensor, largest: Tensor, level: Tensor) -> Tensor:
        zero = ordered.new_zeros((len(ordered), 1), dtype=torch.float64)
        sums = torch.cat([zero, ordered.cumsum(1, dtype=torch.float64)], 1)
        found = []
        for share in candidates().tolist():
            step = (share * largest / len(level)).clamp(min=1e-30)[:, None]
            below = torch.searchsorted(ordered, (level - self.shift) * step)
            above = ordered.shape[1] - below
            charge = (sums[:, -1:] - sums.gather(1, below)).sum(1)
            step = step[:, 0].double()
            found.append(step * (step * ((2 * level - 1) * above).sum(1) - 2 * charge))
        return torch.stack(found)

    def _choose(self, graph: Graph, context: Context, see: Callable[[str, Tensor, Tensor], None]) -> None:
        """Calls ``see(name, rows, chosen)`` with the sizes of the activations of each layer, and with those that
        count, a few samples at a time.
        """
        first = context.first(self.samples)
        samples, seen = sum(map(len, first)), dict[str, int]()

        def choose(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.fires(graph, node):
                rows = self.rows(self.sizes(node, output), graph.channel_axes[node.name])
                each = rows.shape[1] // len(output)
                stride = _stride(each * samples, len(rows), each)
                see(node.name, rows, rows[:, -seen.get(node.name, 0) % stride :: stride])
                seen[node.name] = seen.get(node.name, 0) + rows.shape[1]

        few = max(1, OBSERVED // max(math.prod(node.shape) for node in graph))
        batches = [part for batch in first for part in batch.split(few)]
        for done, batch in enumerate(batches, 1):
            graph.run(batch, observe=choose)
            context.progress(done, len(batches))

    def describe(self) -> str:
        return f"least squared error at T, per {self.granularity}"


def _ordered(parts: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """The parts of each layer, which are used up, as one tensor (rows, values) in ascending order."""
    return {name: torch.cat(parts.pop(name), 1).sort(1).values for name in list(parts)}


def candidates() -> Tensor:
    """The candidates as shares of the largest activation."""
    return 1 - torch.arange(CANDIDATES) / 100


def _stride(values: int, rows: int, each: int) -> int:
    """Every how many of the ``values`` of a row count; ``each`` is the number of one sample, with no common divisor."""
    stride = math.ceil(values / max(VALUES, LAYER // rows))
    while math.gcd(stride, each) > 1:
        stride += 1
    return stride
