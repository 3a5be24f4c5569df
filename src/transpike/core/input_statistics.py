"""Statistics of calibration inputs, and the distance of the inputs of a run from them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transpike.errors import DataError

MOST_CHANNELS = 64  # with more, and for flat inputs, all values count as one channel
PART = 2**20  # values
TAIL = 0.01  # share of calibration samples outside each bound


@dataclass(frozen=True)
class InputStatistics:
    """Calibration inputs after preprocessing, one value per channel (axis 1 of a batch).

    ``low``, ``high``, ``mean``, ``std`` are of all values. ``smallest``, ``average`` and ``largest`` are bounds
    (1 % and 99 % quantile over the ``samples``) of the smallest value, the mean and the largest value of a sample:
    images of a data set differ in brightness, and only these bounds tell how much. ``any_input``: inputs that are
    clearly different give a warning, not an error. Raises DataError for values that do not fit together.
    """

    samples: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    smallest: tuple[tuple[float, float], ...]
    average: tuple[tuple[float, float], ...]
    largest: tuple[tuple[float, float], ...]
    any_input: bool = False

    def __post_init__(self) -> None:
        values, bounds = (self.low, self.high, self.mean, self.std), (self.smallest, self.average, self.largest)
        plain = isinstance(self.samples, int) and self.samples > 0 and isinstance(self.any_input, bool)
        rows = all(isinstance(row, tuple) and 0 < len(row) == len(self.low) for row in (*values, *bounds))
        if not (plain and rows and all(map(_is_number, (v for row in values for v in row)))):
            raise DataError("statistics of inputs need a number of samples, and finite numbers for each channel")
        for pair in (pair for row in bounds for pair in row):
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_number, pair)) and pair[0] <= pair[1]):
                raise DataError(f"bounds of inputs are two finite numbers, the lower one first, not {pair!r}")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)) or any(s < 0 for s in self.std):
            raise DataError("the range of inputs must have its lower end first, and deviations must not be negative")

    def within(self, ranges: float) -> tuple[float, float]:
        """(low, high) in the ranges of all channels, each widened by ``ranges`` times its width on both sides."""
        pairs = [
            (low - ranges * (high - low), high + ranges * (high - low))
            for low, high in zip(self.low, self.high, strict=True)
        ]
        return max(low for low, _ in pairs), min(high for _, high in pairs)

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> "InputStatistics":
        """Statistics of batches (batch, *shape) after preprocessing; recordings as the mean of their frames."""
        tally, samples = Values(), list[Tensor]()
        for batch in batches:
            samples += [tally.add(part) for part in parts(batch)]
        # quantiles over the samples of (3 features, samples, channels); those of torch have a limit of 16 M values
        bounds = np.quantile(torch.cat(samples, 1).numpy(), [TAIL, 1 - TAIL], axis=1)
        pairs = [tuple((low, high) for low, high in bounds[:, k].T.tolist()) for k in range(3)]
        low, high, mean, std = (tuple(row.tolist()) for row in (tally.low, tally.high, tally.mean, tally.std))
        return cls(tally.samples, low, high, mean, std, *pairs)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.samples:,} samples from {min(self.low):.3g} to {max(self.high):.3g}"


@dataclass(frozen=True, eq=False)
class Observed:
    """One part of a batch: ``features`` (3, samples, channels), smallest, mean and largest value of each sample.

    ``count`` values of each channel with their ``mean`` and the sum of their ``squares`` around it; ``far`` samples
    are far outside of the calibrated range.
    """

    features: Tensor
    count: int
    mean: Tensor
    squares: Tensor
    far: int = 0

    @classmethod
    def of(cls, batch: Tensor) -> "Observed":
        values = by_channel(batch)
        features = torch.stack([values.amin(2), values.mean(2), values.amax(2)]).cpu()
        count = len(batch) * values.shape[2]
        return cls(features, count, values.mean((0, 2)).cpu(), values.var((0, 2), correction=0).cpu() * count)


class Values:
    """Running range, mean and deviation of each channel over batches, in float64."""

    def __init__(self) -> None:
        self.samples = self.count = 0
        self.low = self.high = self.mean = self.squares = torch.zeros(0, dtype=torch.float64)
        self.whole = True

    def add(self, batch: Tensor) -> Tensor:
        """Count a batch; returns the features of its samples, (3, batch, channels): smallest, mean, largest."""
        seen = Observed.of(batch)
        self.count_observed(seen)
        return seen.features

    def count_observed(self, seen: Observed) -> None:
        """Count what was observed of a batch, here or in another process."""
        count, mean, squares = seen.count, seen.mean, seen.squares
        low, high = seen.features[0].amin(0), seen.features[2].amax(0)
        if not self.samples:
            self.low, self.high, self.mean, self.squares = low, high, mean, squares
        else:
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
            shift, total = mean - self.mean, self.count + count
            self.mean = self.mean + shift * count / total
            self.squares = self.squares + squares + shift**2 * self.count * count / total
        self.samples, self.count = self.samples + seen.features.shape[1], self.count + count

    def state(self) -> tuple[int, int, Tensor, Tensor, Tensor, Tensor]:
        """What was counted."""
        return self.samples, self.count, self.low, self.high, self.mean, self.squares

    def restore(self, state: tuple[int, int, Tensor, Tensor, Tensor, Tensor]) -> None:
        """Take what ``state`` gave."""
        self.samples, self.count, self.low, self.high, self.mean, self.squares = state

    @property
    def std(self) -> Tensor:
        return (self.squares / self.count).sqrt()


def parts(batch: Tensor) -> tuple[Tensor, ...]:
    """A batch in parts whose values in float64 take a few megabytes."""
    return batch.split(max(1, len(batch) * PART // max(1, batch.numel())))


def by_channel(batch: Tensor) -> Tensor:
    """(batch, channels, values) in float64."""
    one = batch.ndim < 3 or batch.shape[1] > MOST_CHANNELS
    return batch.double().reshape(len(batch), 1 if one else batch.shape[1], -1)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
