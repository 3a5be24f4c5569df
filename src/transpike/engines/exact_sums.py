"""Sums that a GPU does not round: without TF32, and without convolutions by Winograd."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.ops import Conv

CLOSE = 1e-10
"""Relative to the largest sum: far below one rounding to float32, and far above those of float64."""


@contextmanager
def without_tf32(device: str) -> Iterator[None]:
    """Products of float32 numbers in full precision on a GPU, whatever torch is set to; settings are restored."""
    backends: Any = torch.backends
    places = (backends.cudnn.conv, backends.cuda.matmul) if device == "cuda" else ()
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


class ExactSums:
    """Convolutions in float32 of spikes on the exact grid, which on a GPU may be computed in ways other than sums.

    Each convolution is tried once for each shape of its input, with random spikes, against float64. One that rounds is
    replaced by the product with a matrix, which only adds. ``rounds`` names the first layer for which that does not
    help, or is empty.
    """

    def __init__(self) -> None:
        self.plain: dict[tuple[Any, ...], bool] = {}
        """Layer and shape of its input → whether the convolution of torch adds exactly."""
        self.rounds = ""

    def linear(self, name: str, op: Conv, x: Tensor) -> Tensor:
        """``op.linear(x)``."""
        key = name, x.shape
        if key not in self.plain:
            self.plain[key] = self._tried(name, op, x)
        return op.linear(x) if self.plain[key] else unfolded(op, x)

    def _tried(self, name: str, op: Conv, x: Tensor) -> bool:
        generator = torch.Generator().manual_seed(0)
        spikes = torch.randint(0, 2, x.shape, generator=generator).to(x)
        spikes = torch.empty_like(x).copy_(spikes)  # in the same layout
        wide = op.to(dtype=torch.float64).linear(spikes.double())

        def same(found: Tensor) -> bool:
            return bool((found.double() - wide).abs().max() <= CLOSE * wide.abs().max())

        if same(op.linear(spikes)):
            return True
        if not unfolds(op) or not same(unfolded(op, spikes)):
            self.rounds = self.rounds or name
            return True
        return False


def unfolds(op: Conv) -> bool:
    """Whether ``unfolded`` can compute it."""
    return not op.transposed and op.dimensions <= 2


def unfolded(op: Conv, x: Tensor) -> Tensor:
    """``op.linear(x)`` by a product of matrices: one column for each window of x."""
    line = op.dimensions == 1

    def pair(values: tuple[int, ...], still: int) -> tuple[int, ...]:
        return (still, *values) if line else values

    image = x[:, :, None] if line else x
    kernel, padding = pair(tuple(op.weight.shape[2:]), 1), pair(op.padding, 0)
    stride, dilation = pair(op.stride, 1), pair(op.dilation, 1)
    columns = F.unfold(image, kernel, dilation, padding, stride).unflatten(1, (op.groups, -1))
    rows = op.weight.reshape(op.groups, op.weight.shape[0] // op.groups, -1)
    found = torch.matmul(rows, columns).flatten(1, 2)
    size = [
        (image.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)
    ]
    return found.reshape(len(x), -1, *(size[1:] if line else size))
