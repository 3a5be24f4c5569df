"""Powers of two that neurons with several thresholds send."""

import torch
from torch import Tensor

from transpike.errors import SettingError

MOST_THRESHOLDS = 16
_BITS = {  # integers of the same size, half of the mantissa's range, and the bits of the exponent
    torch.float32: (torch.int32, 2**22, 0x7F800000),
    torch.float64: (torch.int64, 2**51, 0x7FF0000000000000),
}


def nearest_threshold(potential: Tensor, threshold_count: int, sent: Tensor | None = None) -> Tensor:
    """± the largest 2^i, i < ``threshold_count``, with |m| ≥ ¾ 2^i, or 0; a negative one is at most ``sent``.

    Half of the mantissa's range, added to the bits of a number, increases its exponent if it is at least 1.5 · 2^i; the
    bits of the exponent alone are a power of two. For float32 and float64.
    """
    whole, half, exponent = _BITS[potential.dtype]
    bits = potential.view(whole)
    size = bits.bitwise_and(torch.iinfo(whole).max).add_(half).bitwise_and_(exponent).view(potential.dtype)
    size.clamp_(max=2.0 ** (threshold_count - 1))
    if sent is not None:
        room = sent.to(potential.dtype).view(whole).bitwise_and(exponent).view(potential.dtype)
        size = torch.where(bits < 0, torch.minimum(size, room), size)
    return size.mul_(size >= 1).copysign_(potential)


def check_threshold_count(threshold_count: int) -> None:
    """Raises SettingError for a number of thresholds outside 1 … MOST_THRESHOLDS."""
    if (
        isinstance(threshold_count, bool)
        or not isinstance(threshold_count, int)
        or not 1 <= threshold_count <= MOST_THRESHOLDS
    ):
        raise SettingError(f"threshold_count must be an integer from 1 to {MOST_THRESHOLDS}, not {threshold_count!r}")
