"""Exact percentiles of values that arrive in batches."""

from collections.abc import Callable

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Watch
from transpike.passes._base import Thresholds, encodes


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

    def read(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What ``add`` needs of ``values`` (rows, any number): the largest ones, and the number of positive ones."""
        return self._largest(values), (values > 0).sum(1)

    def add(self, found: tuple[Tensor, Tensor]) -> None:
        """Count what ``read`` found in a batch."""
        tail, positive = found
        self.positive = positive if self.positive is None else self.positive + positive
        self.tail = tail if self.tail is None else self._largest(torch.cat([self.tail, tail], 1))

    def _largest(self, values: Tensor) -> Tensor:
        return values.topk(min(self.keep, values.shape[1]), 1, sorted=True).values

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

    def read(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> tuple[int, Tensor, Tensor] | None:
        if not thresholds.fires(graph, node):
            return None
        rows = thresholds.rows(values(output.abs() if encodes(node.op) else output), axes[node.name])
        total = samples * rows.shape[1] // len(output)
        return total, *Quantile(percentile, total, non_zero).read(rows)

    def add(name: str, given: tuple[int, Tensor, Tensor]) -> None:
        total, tail, positive = given
        if name not in found:
            found[name] = Quantile(percentile, total, non_zero)
        found[name].add((tail, positive))

    return Watch(read, add, lambda: {name: quantile.result() for name, quantile in found.items()})
