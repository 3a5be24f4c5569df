"""What carries tensors in its fields: ops and cells."""

import dataclasses
from typing import Self

import torch
from torch import Tensor

from transpike.core.plain import Plain


class Carrier(Plain):
    """A frozen dataclass, some of whose fields are tensors; others take their place in a copy."""

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
