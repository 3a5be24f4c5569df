"""Uniform quantisation."""

import torch
from torch import Tensor


def uniform(weight: Tensor, bits: int) -> Tensor:
    """``Δ · clip(round(W/Δ), −(2^{B−1}−1), 2^{B−1}−1)`` with ``Δ = max|W| / (2^{B−1}−1)``, one Δ per layer.

    SpKeras truncates towards zero instead, which reduces every weight.
    """
    levels = 2 ** (bits - 1) - 1
    step = weight.abs().max() / levels
    return weight if float(step) == 0 else torch.round(weight / step).clamp(-levels, levels) * step
