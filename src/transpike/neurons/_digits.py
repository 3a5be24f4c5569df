"""Powers of two that neurons with several thresholds send."""

import torch
from torch import Tensor

from transpike.errors import SettingError

MOST_THRESHOLDS = 16


def nearest_threshold(potential: Tensor, threshold_count: int, sent: Tensor | None = None) -> Tensor:
    """± the largest 2^i, i < ``threshold_count``, with |m| ≥ ¾ 2^i, or 0; a negative one is at most ``sent``."""
    negative = potential < 0
    mantissa, exponent = torch.frexp(potential.abs())  # in [½, 1) and a power of two: exact
    threshold = (exponent - (mantissa < 0.75).to(exponent.dtype)).clamp_(max=threshold_count - 1)
    if sent is not None:
        room = torch.frexp(sent)[1] - 1
        threshold = torch.where(negative, torch.minimum(threshold, room), threshold)
    levels = torch.where(threshold >= 0, torch.ldexp(torch.ones_like(potential), threshold), 0.0)
    return torch.where(negative, -levels, levels)


def check_threshold_count(threshold_count: int) -> None:
    """Raises SettingError for a number of thresholds outside 1 … MOST_THRESHOLDS."""
    if (
        isinstance(threshold_count, bool)
        or not isinstance(threshold_count, int)
        or not 1 <= threshold_count <= MOST_THRESHOLDS
    ):
        raise SettingError(
            f"threshold_count must be a whole number from 1 to {MOST_THRESHOLDS}, not {threshold_count!r}"
        )
