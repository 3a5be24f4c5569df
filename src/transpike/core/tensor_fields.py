"""What carries tensors in its fields: ops and cells."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.channels import passed_on, resolved
from transpike.core.plain import Plain


class TensorFields(Plain):
    """A frozen dataclass, some of whose fields are tensors; others take their place in a copy.

    ``channel_axis`` is the axis that holds the features of what it gives, the batch being axis 0; it may count from the
    end. None: it passes on where its inputs have theirs.
    """

    channel_axis: ClassVar[int | None] = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors it carries, by field name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def with_tensors(self, **tensors: Tensor) -> Self:
        """The same with other tensors."""
        return dataclasses.replace(self, **tensors) if tensors else self  # type: ignore[type-var]

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same with its tensors on another device or of another dtype."""
        moved = {name: value.to(device=device, dtype=dtype) for name, value in self.tensors().items()}
        return self.with_tensors(**moved)

    def declared_axis(self, rank: int) -> int | None:
        """``channel_axis`` of a wire with ``rank`` axes behind the batch, counted from the front; None without one."""
        return None if self.channel_axis is None else resolved(self.channel_axis, rank)

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        """The axis of the output (batch, *shape) that holds the features, for inputs that have them on ``axes``."""
        own = self.declared_axis(len(shape))
        return passed_on(axes, shapes, shape) if own is None else own
