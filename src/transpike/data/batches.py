"""Converts users' data to checked tensors."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from transpike.errors import DataError

FEWEST = 8
"""Minimum number of calibration samples."""


def calibration_batches(
    data: Any, prepare: Callable[[Tensor], Tensor], shape: tuple[int, ...] | None = None, limit: int | None = None
) -> tuple[Tensor, ...]:
    """Calibration inputs after ``prepare``: from a tensor, an iterable of tensors or of (input, target) pairs.

    Raises DataError for no or fewer than 8 samples, mixed or wrong shapes, constant, NaN or infinite values.
    """
    if data is None:
        raise DataError("conversion needs calibration data: pass calibration=a tensor or a loader of training inputs")
    batches: list[Tensor] = []
    seen = 0
    for number, (x, _) in enumerate(pairs(data)):
        if limit is not None and seen >= limit:
            break
        x = x if limit is None else x[: limit - seen]
        x = prepare(x)
        expected = shape or (tuple(batches[0].shape[1:]) if batches else tuple(x.shape[1:]))
        if tuple(x.shape[1:]) != expected:
            raise DataError(f"calibration batch {number} holds samples of shape {tuple(x.shape[1:])}, not {expected}")
        if not bool(torch.isfinite(x).all()):
            raise DataError(f"calibration batch {number} holds NaN or infinite values; clean the data first")
        batches.append(x)
        seen += len(x)
    if seen < FEWEST:
        raise DataError(f"{seen} calibration samples are too few for thresholds; give at least {FEWEST}, better 500")
    low, high = min(float(b.min()) for b in batches), max(float(b.max()) for b in batches)
    if low == high:
        raise DataError(f"all calibration data has the value {low:g}; use real training inputs")
    return tuple(batches)


def pairs(data: Any) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(input batch, targets or None) from a tensor, a loader, or any iterable of batches."""
    if isinstance(data, Tensor) and data.ndim < 2:
        raise DataError(f"data must have the samples as its first axis; got shape {tuple(data.shape)}")
    if isinstance(data, Tensor):
        for start in range(0, len(data), 256):
            yield data[start : start + 256], None
        return
    if (
        isinstance(data, tuple)
        and len(data) == 2
        and all(isinstance(part, Tensor) for part in data)
        and len(data[0]) == len(data[1])
    ):
        for start in range(0, len(data[0]), 256):
            yield data[0][start : start + 256], data[1][start : start + 256]
        return
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(p, Tensor) and p.ndim for p in data):
        inputs, targets = data
        if targets.ndim == 1 and inputs.ndim > 1 and not targets.is_floating_point():
            raise DataError(f"there are {len(inputs)} inputs and {len(targets)} targets; give one target per input")
    if not isinstance(data, Iterable):
        raise DataError(
            f"data must be a tensor, a loader or an iterable of batches, not {type(data).__name__}"
            + ("; take data.test.batches(64), or data.train" if hasattr(data, "test") else "")
        )
    for batch in data:
        if isinstance(batch, Tensor):
            yield _batch(batch), None
        elif isinstance(batch, (tuple, list)) and len(batch) >= 1 and isinstance(batch[0], Tensor):
            target = batch[1] if len(batch) > 1 else None
            yield _batch(batch[0]), None if target is None else torch.atleast_1d(torch.as_tensor(target))
        else:
            raise DataError(f"a batch must be a tensor or (input, target), not {type(batch).__name__}")


def _batch(x: Tensor) -> Tensor:
    if x.ndim < 2:
        raise DataError(f"a batch must have the samples as its first axis; got shape {tuple(x.shape)}")
    return x
