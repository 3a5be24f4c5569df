"""Spike trains as SVG paths: small enough for a page, whatever the number of time steps."""

import torch
from torch import Tensor

RUNS = 1500
"""Runs of spikes in the raster of one layer, at most: a run is about 18 bytes."""
HEIGHT = 0.8  # of a spike, in rows


def kept(train: Tensor) -> Tensor:
    """The columns of a train (T, neurons) that are drawn: all, or evenly fewer, so that ``RUNS`` is kept."""
    starts = (train != 0) & (torch.cat([torch.zeros_like(train[:1]), train[:-1]]).sign() != train.sign())
    runs, chosen = starts.sum(0), torch.arange(train.shape[1])
    while len(chosen) > 1 and int(runs[chosen].sum()) > RUNS:
        chosen = chosen[::2]
    return train[:, chosen]


def path(train: Tensor, sign: int) -> str:
    """The spikes of one sign of a train (T, neurons), as rectangles in a box T wide and ``neurons`` high.

    A neuron is a row, a step is one unit; spikes in successive steps are one rectangle.
    """
    on = train * sign > 0
    edge = torch.zeros(1, on.shape[1], dtype=torch.int8)
    change = torch.diff(torch.cat([edge, on.to(torch.int8), edge]), dim=0).T  # (neurons, T + 1)
    firsts, ends = (change == 1).nonzero().tolist(), (change == -1).nonzero().tolist()
    return "".join(
        f"M{first} {row}h{end - first}v{HEIGHT}h-{end - first}z"
        for (row, first), (_, end) in zip(firsts, ends, strict=True)
    )


def ticks(steps: int) -> tuple[tuple[int, float], ...]:
    """Time steps for an axis, and the middle of each in percent: 1, about four round ones between, and the last."""
    spacing = next(n for k in range(12) for n in (10**k, 2 * 10**k, 5 * 10**k) if steps / n <= 6)
    between = [t for t in range(spacing, steps, spacing) if t > 1 and steps - t >= 0.6 * spacing]
    return tuple((t, round(100 * (t - 0.5) / steps, 2)) for t in dict.fromkeys([1, *between, steps]))
