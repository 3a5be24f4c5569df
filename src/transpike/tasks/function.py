"""A function of the user as a task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.task import MeasuredTask, Metric
from transpike.errors import DataError, SettingError


@dataclass(frozen=True, repr=False)
class Function(MeasuredTask):
    """The mean of ``function(answer, target)``, one number per sample: (batch,) of outputs (batch, *shape).

    ``target`` is a tensor whose first axis holds the samples; nothing else of it is checked. ``metric`` names the
    number, by default as the function; ``unit`` is "" for none. Every function that takes a task also takes the
    function alone; smaller is then better. A differentiable function is also the loss of fine-tuning.
    """

    name: ClassVar[str] = "function"
    function: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool = False
    metric: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise SettingError(f"function must be a function of (answer, target), not {self.function!r}")

    def __str__(self) -> str:
        return f"function({self._named})"

    def __repr__(self) -> str:
        """Without the address of the function, so that it is the same in every process."""
        place = f"{getattr(self.function, '__module__', '')}.{getattr(self.function, '__qualname__', self._named)}"
        return f"Function({place}, {self.higher_is_better}, {self.metric!r}, {self.unit!r})"

    @property
    def _named(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric(self.metric or self._named.strip("<>"), self.unit, self.higher_is_better),)

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if len(target) != samples:
            raise DataError(f"{where} contains {samples} inputs and {len(target)} targets; pass one target per input")
        return target

    def _each(self, output: Tensor, target: Tensor) -> Tensor:
        try:
            found = self.function(output, target)
        except Exception as error:
            raise SettingError(
                f"{self._named}(answer, target) failed for answers {tuple(output.shape)} and targets "
                f"{str(target.dtype).removeprefix('torch.')} {tuple(target.shape)}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, Tensor) or found.shape != (len(output),):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise SettingError(
                f"{self._named}(answer, target) must return one number per sample, of shape ({len(output)},), not "
                f"{shape}: average over all other axes"
            )
        if found.is_complex() or not bool(torch.isfinite(found).all()):
            raise DataError(f"{self._named}(answer, target) is complex, NaN or infinite for some samples")
        return found

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        found = self._each(output, target).double()
        return torch.stack([found, torch.ones_like(found)], 1)

    def values(self, sums: Tensor) -> Tensor:
        return (sums[..., 0] / sums[..., 1])[..., None]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean, or its negative where larger is better. Raises SettingError if it has no gradient."""
        found = self._each(output, target).mean()
        if output.requires_grad and not found.requires_grad:
            raise SettingError(
                f"{self._named} has no gradient, so it cannot be the loss of fine-tuning: pass a differentiable "
                "function, or another task"
            )
        return -found if self.higher_is_better else found
