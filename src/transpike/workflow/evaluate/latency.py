"""Time until answers are accurate enough, and until they are stable and correct."""

from dataclasses import dataclass

import torch
from torch import Tensor

DROPS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Latency:
    """``within``: drop below the ANN in percentage points → first total steps with a smaller or equal drop, or None.

    ``settled_mean`` and ``settled`` (p50, p95, p99): total steps until the answer of samples that end correct is
    stable; ``stays_right``: the share of stable correct samples: correct at this answer and at all later ones.
    """

    within: dict[float, int | None]
    settled_mean: float | None
    settled: dict[str, float]
    stays_right: tuple[float, ...]


def latency(steps: tuple[int, ...], below: tuple[float, ...], right: Tensor) -> Latency:
    """``steps`` and ``below`` (ANN minus SNN accuracy) of each answer; ``right`` (answers, samples), bool."""
    stays = right.flip(0).cumprod(0).flip(0).bool()  # correct at this answer and at every later one
    first = torch.tensor(steps)[len(steps) - stays.sum(0)[stays[-1]]].double()
    quantile = {q: float(first.quantile(q, interpolation="higher")) for q in (0.5, 0.95, 0.99) if len(first)}
    near = {d: next((t for t, gap in zip(steps, below, strict=True) if gap <= d / 100 + 1e-12), None) for d in DROPS}
    return Latency(
        near,
        float(first.mean()) if len(first) else None,
        {f"p{100 * q:.0f}": value for q, value in quantile.items()},
        tuple(float(row.double().mean()) for row in stays),
    )
