"""How close the answers of the spiking network are to those of the source network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.task import MeasuredTask, Metric
from transpike.errors import SettingError


@dataclass(frozen=True)
class Fidelity(MeasuredTask):
    """Outputs (samples, *shape) o and those of the source network r: no targets are needed.

    Over all numbers of all samples: ``relative error = √(Σ(o − r)²/Σr²)`` and ``cosine = Σ o·r/√(Σo² Σr²)``;
    ``argmax agreement``: share of samples, or of pixels, whose largest output along ``axis`` is the same; not
    defined for a single output.
    """

    name: ClassVar[str] = "fidelity"
    needs_targets: ClassVar[bool] = False
    axis: int | None = setting(None, "Axis of the classes of an output; by default 1, for tokens -1.", low=-1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.axis == 0:
            raise SettingError("axis 0 is the batch: pass the axis of the classes, 1 or more, or -1 for the last")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("relative error", share=True),
            Metric("cosine", higher_is_better=True),
            Metric("argmax agreement", higher_is_better=True, share=True),
        )

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        """Targets are not read."""
        return target

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        o, r = output.double().flatten(1), target.double().flatten(1)
        axis = self.axis or 1
        same = (output.argmax(axis) == target.argmax(axis)).reshape(len(output), -1).double()
        places = torch.full_like(o[:, 0], same.shape[1] if output.shape[axis] > 1 else 0)
        parts = ((o - r).square().sum(1), (o * r).sum(1), o.square().sum(1), r.square().sum(1), same.sum(1), places)
        return torch.stack(parts, 1)

    def values(self, sums: Tensor) -> Tensor:
        error, product, own, other, same, places = sums.unbind(-1)
        agreement = torch.where(places > 0, same / places, torch.nan)
        return torch.stack([(error / other).sqrt(), product / (own * other).sqrt(), agreement], -1)
