"""Exact percentiles of values that arrive in batches."""

from collections.abc import Callable

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context
from transpike.passes._base import Thresholds, Watch


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


def percentiles(
    thresholds: Thresholds,
    graph: Graph,
    context: Context,
    percentile: float,
    values: Callable[[Tensor], Tensor],
    non_zero: bool = False,
) -> Watch:
    """Node → the ``percentile`` of ``values(output)`` on all calibration data, one for each row of ``thresholds``."""
    axes = thresholds.axes(graph)
    samples = sum(len(batch) for batch in context.batches)
    found: dict[str, Quantile] = {}

    def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if thresholds.fires(graph, node):
            rows = thresholds.rows(values(output), axes[node.name])
            if node.name not in found:
                found[node.name] = Quantile(percentile, samples * rows.shape[1] // len(output), non_zero)
            found[node.name].add(rows)

    return Watch(see, lambda: {name: quantile.result() for name, quantile in found.items()})
