"""What happens to an input before the network sees it; saved with the network."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """``(x − mean) / std`` per channel, in float32; bytes are divided by 255 first.

    Shapes: x is (batch, channels, …); ``mean`` and ``std`` have one value a channel, or one for all.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def is_identity(self) -> bool:
        """True where real-valued inputs stay as they are."""
        return not any(self.mean) and all(s == 1 for s in self.std)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean = torch.tensor(self.mean, device=x.device).reshape(shape)
        std = torch.tensor(self.std, device=x.device).reshape(shape)
        return (x - mean) / std
