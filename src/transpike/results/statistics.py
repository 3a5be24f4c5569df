"""Confidence intervals of accuracies, of accuracy differences, and of metrics of sums over samples."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from transpike.errors import DataError


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """Wilson's 95 % interval (low, high) of a proportion. Source: Wilson 1927, JASA 22:209."""
    z, p = 1.959963984540054, correct / samples
    centre, spread = p + z * z / (2 * samples), z * math.sqrt(p * (1 - p) / samples + z * z / (4 * samples**2))
    scale = 1 + z * z / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def percent(share: float) -> float:
    """``100 · share`` for comparison with a bound: differences of fractions are 1e-18 away from the exact number."""
    return round(100 * share, 9)


def change(drop: float) -> float:
    """The accuracy change, SNN minus ANN, of a drop, ANN minus SNN: the sign of every result that is shown."""
    return 0.0 - drop  # never -0.0


def changes(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with "drop", "drop_low" and "drop_high" as "accuracy_change" and its bounds, in their place."""
    other = {"drop": "accuracy_change", "drop_low": "accuracy_change_high", "drop_high": "accuracy_change_low"}
    return {other.get(name, name): change(value) if name in other else value for name, value in values.items()}


def binomial_at_most(count: int, samples: int, rate: float) -> float:
    """P(X ≤ count) for X ~ Bin(samples, rate), summed exactly; 0 < rate < 1."""
    logs = (
        math.lgamma(samples + 1) - math.lgamma(k + 1) - math.lgamma(samples - k + 1)
        + k * math.log(rate) + (samples - k) * math.log1p(-rate)
        for k in range(count + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def paired_difference(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """Accuracy of ``first`` minus that of ``second`` on the same samples, and its 95 % interval.

    ``first``, ``second``: (samples,) bool, True where correct. Among the n = a+b+c+d samples, a are correct in both, b
    only in the first, c only in the second, d in neither; ``δ = (b − c)/n``. l₁, u₁, l₂, u₂ are Wilson's limits of
    p₁ = (a+b)/n and p₂ = (a+c)/n:

    ``low  = δ − √((p₁−l₁)² − 2φ(p₁−l₁)(u₂−p₂) + (u₂−p₂)²)``
    ``high = δ + √((u₁−p₁)² − 2φ(u₁−p₁)(p₂−l₂) + (p₂−l₂)²)``

    φ is the correlation ``C/√((a+b)(c+d)(a+c)(b+d))`` with ``C = max(ad − bc − n/2, 0)`` if ad > bc, else ad − bc; 0
    if the root is 0. Unlike Wald's interval it has a positive width when no sample differs.
    Source: Newcombe 1998, Statistics in Medicine 17:2635, method 10. Raises DataError if the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise DataError(f"outcomes of {tuple(first.shape)} and {tuple(second.shape)} samples cannot be paired")
    n, a = len(first), int((first & second).sum())
    b, c = int(first.sum()) - a, int(second.sum()) - a
    d = n - a - b - c
    p, q = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n), wilson(a + c, n)
    product, cross = (a + b) * (c + d) * (a + c) * (b + d), a * d - b * c
    phi = (max(cross - n / 2, 0) if cross > 0 else cross) / math.sqrt(product) if product else 0.0
    below = (p - l1) ** 2 - 2 * phi * (p - l1) * (u2 - q) + (u2 - q) ** 2
    above = (u1 - p) ** 2 - 2 * phi * (u1 - p) * (q - l2) + (q - l2) ** 2
    return p - q, p - q - math.sqrt(max(below, 0.0)), p - q + math.sqrt(max(above, 0.0))


RESAMPLES, AT_ONCE = 1000, 50


def resampled(statistics: Tensor, values: Callable[[Tensor], Tensor], seed: int = 0) -> Tensor:
    """(1000, …) ``values`` of the sums of ``statistics`` (samples, …) over samples that are drawn with replacement.

    Statistics of several networks in one tensor are drawn together, so that differences of their values are paired.
    Source: Efron 1979, Annals of Statistics 7:1 (the bootstrap).
    """
    random, count = torch.Generator().manual_seed(seed), len(statistics)
    found = []
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = torch.randint(count, (AT_ONCE, count), generator=random)
        times = torch.zeros(AT_ONCE, count, dtype=statistics.dtype).scatter_add_(
            1, drawn, torch.ones((), dtype=statistics.dtype).expand(AT_ONCE, count)
        )
        found.append(values((times @ statistics.flatten(1)).unflatten(1, statistics.shape[1:])))
    return torch.cat(found)


def percentiles(found: Tensor) -> Tensor:
    """(2, …): the bounds of the 95 % interval of values (resamples, …), NaN where any value is."""
    return found.quantile(torch.tensor([0.025, 0.975], dtype=found.dtype), 0)
