"""Preprocessing of inputs; saved with the network."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.spelling import NamedSettings
from transpike.errors import DataError, SettingError


@dataclass(frozen=True)
class Preprocessing(NamedSettings):
    """``(x − mean) / std`` per channel, in float32; bytes are divided by 255 first.

    ``whole`` (low, high): the result is rounded to integers from low to high (``convert(…, input_bits=…)``).
    Shapes: x is (batch, channels, …); ``mean`` and ``std`` have one value per channel, or one for all. Raises
    SettingError for values that are not finite or not positive (std), DataError for inputs with other channels.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    whole: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise SettingError(f"std must be positive, not {self.std}; use 1 for a constant channel")
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise SettingError(f"mean has {len(self.mean)} channels and std has {len(self.std)}")
        if self.whole is not None and not -(2**24) <= self.whole[0] < self.whole[1] <= 2**24:
            raise SettingError(f"whole is the lowest and the highest number, at most 2^24, not {self.whole}")

    @property
    def is_identity(self) -> bool:
        """True if real-valued inputs are not changed."""
        return not any(self.mean) and all(s == 1 for s in self.std) and self.whole is None

    def __str__(self) -> str:
        values = [",".join(f"{value:.6g}" for value in row) for row in (self.mean, self.std)]
        text = "bytes / 255" if self.is_identity else "(x - {}) / {}".format(*values)
        return text if self.whole is None else f"{text}, rounded to {self.whole[0]} to {self.whole[1]}"

    def __call__(self, x: Tensor) -> Tensor:
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        channels = max(len(self.mean), len(self.std))
        if x.ndim < 2 or channels not in (1, x.shape[1]):
            raise DataError(
                f"preprocessing is for (batch, {'channels' if channels == 1 else channels}, …), not {tuple(x.shape)}"
            )
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean = torch.tensor(self.mean, device=x.device).reshape(shape)
        std = torch.tensor(self.std, device=x.device).reshape(shape)
        x = (x - mean) / std
        return x if self.whole is None else x.round().clamp(*self.whole)


def described(preprocessing: Preprocessing | None) -> str:
    """The preprocessing of a network as text."""
    return "unknown" if preprocessing is None else str(preprocessing)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """``values`` as floats; SettingError unless they are finite numbers, at least one."""
    plain = isinstance(values, (tuple, list)) or hasattr(values, "__array__")
    found = tuple(values) if plain and getattr(values, "ndim", 1) == 1 else ()
    if not found or not all(hasattr(value, "__float__") and not isinstance(value, bool) for value in found):
        raise SettingError(f"{name} is a tuple of numbers, one per channel or one for all, like (0.5,), not {values!r}")
    numbers = tuple(float(value) for value in found)
    if not all(map(math.isfinite, numbers)):
        raise SettingError(f"{name} must be finite, not {numbers}")
    return numbers
