"""Base of ops and cells: dataclasses with tensor fields."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.channels import passed_on, resolved
from transpike.core.plain import Plain

DTYPES = frozenset((
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
))  # fmt: skip
"""Types that weights in a file may have: torch computes with all of them."""


class TensorFields(Plain):
    """A frozen dataclass with tensor fields; a copy may have other tensors.

    ``channel_axis`` is the feature axis of the output, the batch being axis 0; negative values count from the end.
    None: the feature axis of the inputs is passed on.
    """

    channel_axis: ClassVar[int | None] = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def with_tensors(self, **tensors: Tensor) -> Self:
        """A copy with other tensors."""
        return dataclasses.replace(self, **tensors) if tensors else self  # type: ignore[type-var]

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy with its tensors on another device, and those of real numbers with another dtype."""
        moved = {
            name: value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            for name, value in self.tensors().items()
        }
        return self.with_tensors(**moved)

    def declared_axis(self, rank: int) -> int | None:
        """``channel_axis`` of a wire with ``rank`` axes after the batch, counted from the front; None if unset."""
        return None if self.channel_axis is None else resolved(self.channel_axis, rank)

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        """The feature axis of the output (batch, *shape), for inputs with features on ``axes``."""
        own = self.declared_axis(len(shape))
        return passed_on(axes, shapes, shape) if own is None else own
