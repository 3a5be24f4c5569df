"""Preprocessing of inputs; saved with the network."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """``(x − mean) / std`` per channel, in float32; bytes are divided by 255 first.

    Shapes: x is (batch, channels, …); ``mean`` and ``std`` have one value per channel, or one for all.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def is_identity(self) -> bool:
        """True if real-valued inputs are not changed."""
        return not any(self.mean) and all(s == 1 for s in self.std)

    def __str__(self) -> str:
        values = [",".join(f"{value:.6g}" for value in row) for row in (self.mean, self.std)]
        return "bytes / 255" if self.is_identity else "(x - {}) / {}".format(*values)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean = torch.tensor(self.mean, device=x.device).reshape(shape)
        std = torch.tensor(self.std, device=x.device).reshape(shape)
        return (x - mean) / std
