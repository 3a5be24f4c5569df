"""Real targets: mean squared and absolute errors."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.task import MeasuredTask, Metric
from transpike.errors import DataError, SettingError
from transpike.tasks._base import returned


@dataclass(frozen=True)
class Regression(MeasuredTask):
    """Outputs (samples, *shape) of any shape and real targets of the same shape; for one output also (samples,).

    Over all N numbers of all samples, with targets y, outputs o and the mean ȳ of all targets: ``MSE = Σ(o − y)²/N``,
    ``MAE = Σ|o − y|/N``, ``R² = 1 − Σ(o − y)²/Σ(y − ȳ)²``; with a ``peak``, ``PSNR = 10 log₁₀(peak²/MSE)`` in dB.
    Several outputs should have one scale, because they share one mean and one error.
    """

    name: ClassVar[str] = "regression"
    peak: float | None = setting(None, "Largest value of a target, for the PSNR; without it no PSNR.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.peak is not None and not 0 < self.peak < math.inf:
            raise SettingError(f"peak must be positive, not {self.peak}")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        found = (Metric("MSE"), Metric("MAE"), Metric("R²", higher_is_better=True))
        return found if self.peak is None else (*found, Metric("PSNR", "dB", higher_is_better=True))

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        fits = target.shape == (samples, *shape) or (shape == (1,) and target.shape == (samples,))
        if not fits or target.is_complex():
            raise DataError(
                f"the targets of {where} are {str(target.dtype).removeprefix('torch.')} of shape "
                f"{tuple(target.shape)}, but {self} needs one real number per output: the network returns "
                f"{returned(shape)} for {samples} samples"
            )
        if not bool(torch.isfinite(target).all()):
            raise DataError(f"the targets of {where} contain NaN or infinite values; clean the data first")
        return target.reshape(samples, *shape).double()

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        error, y = (output.double() - target).flatten(1), target.flatten(1)
        count = torch.full_like(y[:, 0], y.shape[1])
        return torch.stack([count, error.square().sum(1), error.abs().sum(1), y.sum(1), y.square().sum(1)], 1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error."""
        return F.mse_loss(output, target.to(output.dtype))

    def values(self, sums: Tensor) -> Tensor:
        count, square, absolute, first, second = sums.unbind(-1)
        mse, spread = square / count, second - first.square() / count
        fit = torch.where(spread > 0, 1 - square / spread, torch.nan)
        found = [mse, absolute / count, fit]
        if self.peak is not None:
            found.append(10 * torch.log10(self.peak**2 / mse))
        return torch.stack(found, -1)
