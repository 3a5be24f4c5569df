"""The gradients of a batch, computed in parts: one after another, or each by one of several processes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from transpike.training.ranks import Ranks
from transpike.workflow.shared_batches import Batch, shared

Run = Callable[[int, int], tuple[Tensor, Any]]
"""The mean loss of the samples [start, end) of a batch, with its graph, and what else is wanted of them."""


def shares(size: int, parts: int) -> list[tuple[int, int]]:
    """[start, end) of the parts of a batch: equal ones, the first ones larger by one if needed, none of them empty."""
    count = min(parts, size)
    return [Ranks(part, count, torch.device("cpu")).share(size) for part in range(count)]


def gradients(
    trained: Sequence[nn.Parameter], running: Sequence[Tensor], ranks: Ranks, bounds: list[tuple[int, int]], run: Run
) -> tuple[float, list[Any]]:
    """Set the gradients of the mean loss of a batch with the parts ``bounds``.

    Returns this loss, and what else ``run`` found of each part.

    The gradient is ``Σ_k n_k/n · ∇L_k`` over the parts k with n_k of n samples, added up in their order: the same bits
    for any number of processes. The ``running`` statistics of normalisations have the same values before each part, and
    become ``Σ_k n_k/n`` times those after it.
    """
    size, whole = bounds[-1][1], ranks.count == len(bounds) == 1
    before = [] if whole else [value.clone() for value in running]
    sums: list[Tensor] = []  # alone: the sum so far; else what this process adds

    def one(batch: Batch) -> tuple[float, Any, list[bool]]:
        share = batch.size / size
        for value, old in zip(running if before else (), before, strict=True):
            value.copy_(old)
        for parameter in trained:
            parameter.grad = None
        loss, found = run(*batch.content)
        (loss if whole else loss * share).backward()
        reached = [parameter.grad is not None for parameter in trained]
        if not whole:
            given = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
            mine = torch.cat([value.flatten() for value in (*given, *(share * value for value in running))])
            sums[:] = [ranks.added(sums[0] if sums else None, mine, 1)] if ranks.count == 1 else [*sums, mine]
        return share * loss.item(), found, reached

    batches = [Batch(start, end - start, (start, end)) for start, end in bounds]
    found = list(shared(ranks, batches, one))
    if not whole:
        reached = [any(flags) for flags in zip(*(flags for _, _, flags in found), strict=True)]
        total = sums[0] if ranks.count == 1 else _total(trained, running, ranks, sums, len(found))
        _set(trained, running, reached, total)
    return sum(loss for loss, _, _ in found), [one for _, one, _ in found]


def _total(
    trained: Sequence[nn.Parameter], running: Sequence[Tensor], ranks: Ranks, mine: list[Tensor], parts: int
) -> Tensor:
    """The sum over the parts, of which this process has every n-th one."""
    total: Tensor | None = None
    nothing = torch.cat([torch.zeros_like(value).flatten() for value in (*trained, *running)])
    for turn, first in enumerate(range(0, parts, ranks.count)):
        total = ranks.added(total, mine[turn] if turn < len(mine) else nothing, min(ranks.count, parts - first))
    assert total is not None
    return total


@torch.no_grad()
def _set(trained: Sequence[nn.Parameter], running: Sequence[Tensor], reached: Sequence[bool], total: Tensor) -> None:
    """Gradients, and running statistics, from their values one after another."""
    given = total.split([value.numel() for value in (*trained, *running)])
    for parameter, is_reached, values in zip(trained, reached, given, strict=False):
        parameter.grad = values.view_as(parameter).clone() if is_reached else None
    for value, values in zip(running, given[len(trained) :], strict=True):
        value.copy_(values.view_as(value))
