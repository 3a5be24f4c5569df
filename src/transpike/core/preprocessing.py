"""Preprocessing of inputs; saved with the network."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.errors import SettingError


@dataclass(frozen=True)
class Preprocessing:
    """``(x − mean) / std`` per channel, in float32; bytes are divided by 255 first.

    Shapes: x is (batch, channels, …); ``mean`` and ``std`` have one value per channel, or one for all.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers = isinstance(values, tuple) and all(
                isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
            )
            if not numbers or not values or not all(map(math.isfinite, values)):
                raise SettingError(f"{name} of the preprocessing must be a tuple of finite numbers, not {values!r}")
        if not all(self.std):
            raise SettingError(f"std of the preprocessing divides the input, so it must not be 0: {self.std}")
        if 1 not in (counts := {len(self.mean), len(self.std)}) and len(counts) > 1:
            raise SettingError(f"mean has {len(self.mean)} channels and std {len(self.std)}")

    @property
    def is_identity(self) -> bool:
        """True if real-valued inputs are not changed."""
        return not any(self.mean) and all(s == 1 for s in self.std)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean = torch.tensor(self.mean, device=x.device).reshape(shape)
        std = torch.tensor(self.std, device=x.device).reshape(shape)
        return (x - mean) / std
