"""Clamp and quantise: the activations of CQ and of VR-encoding, whose range is fixed before training."""

from typing import Literal

import torch
from torch import Tensor, nn

from transpike.activations.source import SourceActivation
from transpike.activations.staircase import staircase, tie
from transpike.errors import SettingError

ROUNDINGS = ("floor", "nearest", "ceil")


class ClampQuantise(SourceActivation):
    """``a = ⌊min(max(z, 0), 1) · T⌋ / T``: the range [0, 1] is the threshold, ``timesteps`` T its levels.

    Nothing is normalised after training; with trained weights, ``prepare(calibration=…)`` sets a separate range for
    each activation, which only changes the scale of the weights. Gradient: 1 for z in [0, 1], else 0, times the
    incoming gradient clipped to ±``bound`` (±1 in CQ's code, which has an effect only if a loss is summed; None does
    not clip). ``rounding`` "ceil" is used in their code for ECG and EEG; "nearest" corresponds to v(0) = θ/2. The steps
    are shifted slightly to the left (``tie``), because means of levels fall exactly on them.
    Source: Yan, Zhou, Wong 2021 (CQ, AAAI) and 2023 (CQ+, TPAMI 45:11600), from their code.
    """

    name = "cq"

    def __init__(
        self,
        timesteps: int = 16,
        rounding: Literal["floor", "nearest", "ceil"] = "floor",
        bound: float | None = 1.0,
        threshold: float = 1.0,
    ) -> None:
        super().__init__(threshold, trainable=False, levels=timesteps)
        if rounding not in ROUNDINGS:
            raise SettingError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")
        if bound is not None and not bound > 0:
            raise SettingError(f"bound must be positive or None, not {bound}")
        left = tie(timesteps)
        self.shift = {"floor": left, "nearest": 0.5 + min(left, 0.25), "ceil": 1 - left}[rounding]
        self.bound = float(bound or 0.0)

    def quantised(self, x: Tensor) -> Tensor:
        return staircase(x, self.thresh, self.levels, self.shift, 0.0, 0.0, self.bound)


class ValueRange(ClampQuantise):
    """``a = ⌊min(max(z, 0), T/L) · L⌋ / L``: VR-encoding, T + 1 levels of width 1/L on [0, T/L].

    ``timesteps`` T are the SNN's steps. ``resolution`` L > T gives finer levels than T steps of [0, 1], because most
    activations are small; L < T extends the range instead (published for ImageNet). The threshold is m = T/L.
    Published: (T, L) = (8, 10), (16, 20), (32, 40) for CIFAR, (1, 4) for MNIST, with floors; with trained weights
    ``rounding`` "nearest" starts closer to their original function, because a floor reduces every activation by half a
    level on average. Source: Yan, Zhou, Wong 2022 (arXiv 2211.08410), from their code.
    """

    name = "vr"

    def __init__(
        self,
        timesteps: int = 8,
        resolution: int = 10,
        bound: float | None = 1.0,
        rounding: Literal["floor", "nearest", "ceil"] = "floor",
    ) -> None:
        if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 1:
            raise SettingError(f"resolution must be an integer of at least 1, not {resolution!r}")
        if isinstance(timesteps, bool) or not isinstance(timesteps, int) or timesteps < 1:
            raise SettingError(f"timesteps must be an integer of at least 1, not {timesteps!r}")
        super().__init__(timesteps, rounding, bound, timesteps / resolution)
        self.resolution = resolution

    def calibrate(self, largest: float) -> None:
        super().calibrate(largest * self.levels / self.resolution)


class ExpandedInput(nn.Module):
    """Input channel expansion: six copies of each channel, quantised with L − 1, L + 1 and L levels, twice each.

    ``x (batch, C, …) → (batch, 6 C, …)`` with ``a_k = ⌊x L_k⌋ / L`` on [0, T/L]: few time steps represent an input with
    more than T + 1 values. ``prepare(input=…)`` widens the first layer to match, and sets the ``axis`` of its inputs:
    the last one for a fully connected layer. Source: as ``ValueRange`` (ICE).
    """

    name = "expanded"

    factor = 6
    axis = 1

    def __init__(self, timesteps: int = 8, resolution: int = 10) -> None:
        super().__init__()
        self.quantise = ValueRange(timesteps, resolution)
        self.shares = ((resolution - 1) / resolution, (resolution + 1) / resolution, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x if share == 1 else x * share for share in self.shares]
        return self.quantise(torch.cat(parts * 2, self.axis))
