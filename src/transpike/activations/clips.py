"""Clips without levels: trainable, fixed and shifted, and combined with a staircase."""

import torch
from torch import Tensor

from transpike.activations.source import SourceActivation
from transpike.activations.staircase import staircase
from transpike.errors import SettingError

LARGEST_START = 20


class TrainableClip(SourceActivation):
    """``a = min(max(z, 0), λ)`` with a trainable λ, the parameter ``thresh``: TCL, and the source network of OPI.

    ∂a/∂λ = 1 where z > λ; weight decay reduces λ. ``recipes.OPI`` uses θ = λ.
    Source: Ho and Chang 2020 (TCL); λ starts at 4 as in QCFS's code.
    """

    name = "tcl"

    def __init__(self, threshold: float = 4.0) -> None:
        super().__init__(threshold, trainable=True)

    def quantised(self, x: Tensor) -> Tensor:
        return self.clipped(x)

    def extra_repr(self) -> str:
        return f"threshold={float(self.thresh.detach()):g}"


class ThresholdReLU(SourceActivation):
    """``a = min(max(z + shift, 0), λ)`` with a fixed λ and ``shift``, both in units of z.

    Source: Deng and Gu 2021 (threshold ReLU; ``shift`` = λ/2T trains with the shift that their SNN gets as a bias).
    """

    name = "threshold-relu"

    def __init__(self, threshold: float = 1.0, shift: float = 0.0) -> None:
        super().__init__(threshold, trainable=False)
        if not -float("inf") < shift < float("inf"):
            raise SettingError(f"shift must be a number, not {shift}")
        self.amount = shift

    def quantised(self, x: Tensor) -> Tensor:
        return self.clipped(x + self.amount if self.amount else x)

    def extra_repr(self) -> str:
        return f"threshold={float(self.thresh):g}, shift={self.amount:g}"


class SlipReLU(SourceActivation):
    """``a = s λ clip(z/λ + δ₁/L, 0, 1) + (1−s) λ/L clip(⌊z L/λ + δ₂⌋, 0, L)``: the weighted sum of clip and staircase.

    ``slope`` s in [0, 1], ``offset`` δ₁, ``shift`` δ₂ (the neuron's v(0)/θ), a trainable λ.
    ``recipes.QCFS`` converts it. Source: Jiang et al. 2023 (SlipReLU, ICML); defaults as in its code.
    """

    name = "slip-relu"

    def __init__(
        self, levels: int = 16, slope: float = 0.5, threshold: float = 8.0, offset: float = 0.0, shift: float = 0.5
    ) -> None:
        super().__init__(threshold, trainable=True, levels=levels)
        numbers = all(isinstance(value, (int, float)) for value in (slope, offset, shift))
        if not (numbers and 0 <= slope <= 1 and 0 <= shift < 1 and -levels < offset < levels):
            raise SettingError(
                f"slope must be in [0, 1], shift in [0, 1) and offset less than {levels} levels, "
                f"not {slope}, {shift} and {offset}"
            )
        self.slope, self.offset, self.shift = slope, offset, shift

    def quantised(self, x: Tensor) -> Tensor:
        return staircase(x, self.thresh, self.levels, self.shift, self.slope, self.offset / self.levels)


class RateNorm(SourceActivation):
    """``r = min(max(z / θ, 0), 1)`` with ``θ = σ(p) · M``, M a running maximum of z: the output is the rate itself.

    M follows each batch's largest z with ``momentum``; p is trained, σ(p) starts near 1. ``regulariser`` w adds
    ``w · mean Ω`` to the loss, ``Ω = ‖r‖₁ / ‖r‖₂²`` of each sample (rate inference loss): rates with a small Ω are
    estimated well in few steps. ``recipes.QCFS`` with beta=0 converts it. Stage "relu" omits the clip at 1; all stages
    divide by θ. Stages as in the paper: weights first, then only p with constant weights and M,
    ``Training(learn="activations")``. Differences from the paper: its loss in that stage is 1 − cos of the last layer's
    rates plus λ times the *mean* of Ω over layers, with one p for all; here it is the usual loss plus ``w`` times the
    *sum*, w = λ / layers, and each layer has its own p. It trains from scratch: the next layer receives rates, which do
    not suit weights trained with ReLUs, so calibration raises an error.
    Source: Ding et al. 2021 (RNL, IJCAI).
    """

    name = "rnl"

    peak: Tensor
    seen: Tensor

    def __init__(self, momentum: float = 0.1, regulariser: float = 0.0, start: float = 10.0) -> None:
        super().__init__(1.0, trainable=False)
        if not 0 < momentum <= 1 or not 0 <= regulariser < float("inf"):
            raise SettingError(f"momentum must be in (0, 1], regulariser at least 0, not {momentum}, {regulariser}")
        if not -LARGEST_START <= start <= LARGEST_START:
            raise SettingError(f"start must be within ±{LARGEST_START}, because θ is σ(start) M; not {start}")
        self.momentum, self.weight = momentum, regulariser
        self.p = torch.nn.Parameter(torch.tensor([float(start)]))
        self.register_buffer("peak", torch.ones(1))
        self.register_buffer("seen", torch.tensor(False))

    def calibrate(self, largest: float) -> None:
        """Raises SettingError, because RateNorm has no calibration."""
        raise SettingError(
            "RateNorm outputs rates, which do not suit weights trained with ReLUs, and measures its range itself: "
            "train it from scratch, without calibration"
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.locked:
            with torch.no_grad():
                largest = x.amax().reshape(1).float().clamp(min=1e-6)
                kept = (1 - self.momentum) * self.peak + self.momentum * largest
                self.peak.copy_(torch.where(self.seen, kept, largest))
                self.seen.fill_(True)
        return super().forward(x / (torch.sigmoid(self.p) * self.peak))

    def quantised(self, x: Tensor) -> Tensor:
        return self.clipped(x)

    def regulariser(self, x: Tensor, output: Tensor) -> Tensor | None:
        if not self.weight:
            return None
        rates = output.flatten(1)
        return self.weight * (rates.sum(1) / rates.square().sum(1).clamp(min=1e-6)).mean()

    def extra_repr(self) -> str:
        return f"threshold={float((torch.sigmoid(self.p) * self.peak).detach()):g}"
