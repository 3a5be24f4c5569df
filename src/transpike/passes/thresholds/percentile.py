"""Thresholds from a percentile of the source network's activations."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context
from transpike.errors import SettingError
from transpike.passes._base import Thresholds


class Quantile:
    """The exact ``percentile`` of values that arrive in batches, one for each row; only the upper tail is kept.

    Linear interpolation between order statistics, as numpy.percentile; ``non_zero`` leaves out values that are not
    positive.
    """

    def __init__(self, percentile: float, total: int, non_zero: bool = False) -> None:
        self.percentile, self.total, self.non_zero = percentile, total, non_zero
        self.keep = total - int((total - 1) * percentile / 100)
        self.tail: Tensor | None = None
        self.positive: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """``values`` is (rows, any number)."""
        positive = (values > 0).sum(1)
        self.positive = positive if self.positive is None else self.positive + positive
        tail = values if self.tail is None else torch.cat([self.tail, values], 1)
        self.tail = tail.topk(min(self.keep, tail.shape[1]), 1, sorted=True).values

    def result(self) -> Tensor:
        assert self.tail is not None and self.positive is not None
        counts = self.positive.clamp(min=1) if self.non_zero else torch.full_like(self.positive, self.total)
        position = (counts - 1).double() * self.percentile / 100
        below = position.floor().long()
        weight = (position - below).to(self.tail.dtype)
        lower, upper = (
            self.tail.gather(1, (counts - 1 - k).clamp(0, self.tail.shape[1] - 1)[:, None])[:, 0]
            for k in (below, (below + 1).minimum(counts - 1))
        )
        return lower + weight * (upper - lower)


@dataclass(frozen=True)
class PercentileThresholds(Thresholds):
    """``θ = percentile of the activations``; 100 is the maximum (the ECC and Diehl papers).

    ``of`` selects the values: "all", zeros included, or "non-zero" ones only (Rueckauer et al. 2017, section
    2.2.3, as in snn_toolbox). Statistics run over all calibration data, per layer, channel or neuron.
    """

    percentile: float = 99.9
    of: Literal["all", "non-zero"] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.percentile <= 100:
            raise SettingError(f"percentile must be in (0, 100], not {self.percentile}")
        if self.of not in ("all", "non-zero"):
            raise SettingError(f"of must be 'all' or 'non-zero', not {self.of!r}")

    def values(self, output: Tensor) -> Tensor:
        """The values of an activation's output that count; negative ones do not."""
        return torch.relu(output)

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        samples = sum(len(batch) for batch in context.batches)
        found: dict[str, Quantile] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.fires(graph, node):
                rows = self.rows(self.values(output), graph.channel_axes[node.name])
                if node.name not in found:
                    total = samples * rows.shape[1] // len(output)
                    found[node.name] = Quantile(self.percentile, total, self.of == "non-zero")
                found[node.name].add(rows)

        context.observe(graph, see)
        return {name: quantile.result() for name, quantile in found.items()}

    def describe(self) -> str:
        name = "maximum" if self.percentile == 100 else f"percentile {self.percentile:g}"
        return f"{name}{' of non-zero' if self.of == 'non-zero' else ''}, per {self.granularity}"


@dataclass(frozen=True)
class MagnitudeThresholds(PercentileThresholds):
    """``θ = percentile of |activation|``, for neurons with spikes of either sign."""

    def values(self, output: Tensor) -> Tensor:
        return output.abs()

    def describe(self) -> str:
        return super().describe().replace(",", " of absolute values,", 1)
