"""Batch normalisation of input currents over samples and time (tdBN), and its folding into the weights."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.op import Synapse
from transpike.errors import SettingError

MOMENTUM = 0.1
EPSILON = 1e-5


def tdbn(
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    *,
    threshold: float | Tensor = 1.0,
    alpha: float = 1.0,
    training: bool,
    momentum: float = MOMENTUM,
    epsilon: float = EPSILON,
    axis: int = 1,
) -> Tensor:
    """``y = γ α V_th (x − E) / √(Var + ε) + β`` per channel, E and Var over (time, batch, *space).

    ``current`` (time, batch, channels, …), or with the channels on another ``axis``, the batch being axis 0;
    γ = ``scale``, β = ``shift``, V_th = ``threshold``; ``alpha`` is 1/√n where n branches meet. Training uses batch
    statistics and updates the running ``mean`` and ``variance`` with ``momentum``.
    Source: Zheng, Wu, Deng, Hu, Li 2021 (AAAI), STBP-tdBN, eq. 5 to 7.
    """
    gain = _gain(scale, threshold, alpha, mean)
    flat = current.flatten(0, 1)
    flat = flat if axis == 1 else flat.movedim(axis, 1)
    flat = F.batch_norm(flat, mean, variance, gain, shift, training, momentum, epsilon)
    flat = flat if axis == 1 else flat.movedim(1, axis)
    return flat.unflatten(0, current.shape[:2])


def folded(
    op: Synapse,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    *,
    threshold: float | Tensor = 1.0,
    alpha: float = 1.0,
    epsilon: float = EPSILON,
) -> Synapse:
    """The synapse with ``tdbn`` folded in: ``W ← W γ α V_th / √(Var + ε)``, ``b ← (b − E) γ α V_th / √(Var + ε) + β``.

    Computed in float64. Raises SettingError for a synapse without channels.
    """
    if op.channel_axis != 1 and op.weight.ndim != 2:
        raise SettingError(
            f"{op.describe()} has no channels into which a normalisation can be folded; use normalise=False"
        )
    gain = _gain(scale, threshold, alpha, mean)
    factor = (torch.ones_like(mean) if gain is None else gain).double() * torch.rsqrt(variance.double() + epsilon)
    wide = op.to(dtype=torch.float64).scale_outputs(factor)
    bias = -mean.double() * factor + (0.0 if shift is None else shift.double())
    bias = bias if wide.bias is None else bias + wide.bias
    return dataclasses.replace(wide, weight=wide.weight.to(op.weight.dtype), bias=bias.to(op.weight.dtype))


def _gain(scale: Tensor | None, threshold: float | Tensor, alpha: float, like: Tensor) -> Tensor | None:
    """γ α V_th, one value per channel."""
    if isinstance(threshold, Tensor):
        threshold = threshold.flatten()
    elif threshold == 1 and alpha == 1:
        return scale
    return (torch.ones_like(like) if scale is None else scale) * (threshold * alpha)
