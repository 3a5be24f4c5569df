"""Preprocessing of inputs; saved with the network."""

from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from transpike.errors import SettingError

LARGEST = 3e38
"""The largest number of float32, rounded down."""


@dataclass(frozen=True)
class Preprocessing:
    """``(x − mean) / std`` per channel, in float32; bytes are divided by 255 first.

    Shapes: x is (batch, channels, …); ``mean`` and ``std`` have one value per channel, or one for all.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, list):
                object.__setattr__(self, name, values := tuple(values))
            if not isinstance(values, tuple) or not values or not all(map(_is_finite, values)):
                raise SettingError(f"{name} of the preprocessing must be a tuple of finite numbers, not {values!r}")
        if not all(self.std):
            raise SettingError(f"std of the preprocessing divides the input, so it must not be 0: {self.std}")
        if len({len(self.mean), len(self.std), 1}) > 2:
            raise SettingError(
                f"the preprocessing has a mean of {len(self.mean)} channels and a std of {len(self.std)}; give one "
                "value per channel, or one for all"
            )

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


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value < LARGEST and -value < LARGEST
