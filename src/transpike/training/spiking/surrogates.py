"""Surrogate gradients: functions of ``x = u/θ − 1``, so that widths scale with the threshold.

The spikes are exact (``s = 1`` where ``u ≥ θ``); ``∂s/∂u = g(x)/θ`` and ``∂s/∂θ = −(u/θ²) g(x)``.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from transpike.errors import SettingError


@dataclass(frozen=True)
class _Surrogate:
    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise SettingError(f"{type(self).__name__}: {field.name} must be a positive number, not {value!r}")

    @property
    def height_if_flat(self) -> float | None:
        """The only value other than 0, if there is only one; else None."""
        return None

    def gradient(self, x: Tensor) -> Tensor:
        """``g(x)``, in the shape of x."""
        raise TypeError(f"{type(self).__name__} must define gradient()")


@dataclass(frozen=True)
class Rectangular(_Surrogate):
    """``g(x) = 1/(2a) · [|x| < a]`` with a = ``width``; stores 1 bit per element. Source: Zheng et al. 2021 (tdBN)."""

    width: float = 0.5

    @property
    def height_if_flat(self) -> float:
        return 0.5 / self.width

    def gradient(self, x: Tensor) -> Tensor:
        # directly as numbers, because torch is ten times slower with booleans
        return torch.lt(x.abs(), self.width, out=torch.empty_like(x)).mul_(self.height_if_flat)


@dataclass(frozen=True)
class Triangle(_Surrogate):
    """``g(x) = max(0, γ − |x|) / γ²`` with γ = ``width``. Source: Deng et al. 2022 (TET)."""

    width: float = 1.0

    def gradient(self, x: Tensor) -> Tensor:
        return (self.width - x.abs()).clamp(min=0) / self.width**2


@dataclass(frozen=True)
class Linear(_Surrogate):
    """``g(x) = γ max(0, 1 − |x|/w)`` with γ = ``height`` 0.3. Source: Bellec et al. 2018; Rathi et al. 2020 (STDB)."""

    height: float = 0.3
    width: float = 1.0

    def gradient(self, x: Tensor) -> Tensor:
        return self.height * (1 - x.abs() / self.width).clamp(min=0)


@dataclass(frozen=True)
class Arctangent(_Surrogate):
    """``g(x) = 1 / (w (1 + (πx/w)²))``, the derivative of ``arctan(πx/w)/π + ½``, w = ``width``.

    Source: Fang et al. 2021 (PLIF), whose α is 2/w.
    """

    width: float = 1.0

    def gradient(self, x: Tensor) -> Tensor:
        return 1 / (self.width * (1 + (math.pi / self.width * x) ** 2))


table: dict[str, type[_Surrogate]] = {
    "arctangent": Arctangent,
    "linear": Linear,
    "rectangular": Rectangular,
    "triangle": Triangle,
}
