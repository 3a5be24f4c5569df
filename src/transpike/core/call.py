"""One operator call of an exported program, as an op sees it while the network is captured."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.core.op import spatially_uniform
from transpike.core.scale import Scale


class Refused(Exception):
    """An op cannot stand for this call; the text says why."""


@dataclass(frozen=True)
class Wire:
    """A value that depends on the network's input: the node that gives it, its shape without the batch."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """``operator`` like "conv2d.default"; ``arguments`` by schema name with defaults filled in.

    Tensors among the arguments are constants, wires are not. ``shapes`` are the outputs' shapes without the batch.
    """

    operator: str
    arguments: dict[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def wire(self, name: str) -> Wire:
        """The argument, which must depend on the input."""
        value = self.arguments[name]
        if not isinstance(value, Wire):
            raise Refused(f"its argument {name!r} does not depend on the network's input")
        return value

    def constant(self, name: str) -> Tensor | None:
        """The argument, which must be a weight or a constant."""
        value = self.arguments.get(name)
        if isinstance(value, Wire):
            raise Refused(f"its argument {name!r} depends on the network's input (a product of two activations)")
        return value

    def numbers(self, name: str, count: int) -> tuple[int, ...]:
        """A list of ``count`` integers; torch allows one for all, and an empty list for a default of its own."""
        value = self.arguments[name]
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        return values * count if len(values) == 1 else values

    def axis(self, name: str, rank: int) -> int:
        """An axis of a tensor with ``rank`` axes, counted from the front; never the batch."""
        axis = self.arguments[name] % rank
        if axis == 0:
            raise Refused("it works across the batch axis")
        return axis


def per_element(value: Any, shape: tuple[int, ...]) -> tuple[Tensor, int]:
    """A constant that broadcasts against (batch, *shape), in the compact form that Scale takes, and Scale's axis."""
    tensor = torch.as_tensor(value, dtype=torch.float32)
    if tensor.numel() == 1:
        return tensor.reshape(()), 1
    if tensor.ndim > len(shape) and tensor.shape[0] != 1:
        raise Refused("it combines the batch with a constant of its own for each sample")
    full = tensor.expand(1, *shape)
    for axis in dict.fromkeys((1, max(1, len(shape)))):
        channels = spatially_uniform(full, axis)
        if channels is not None:
            return channels.clone(), axis
    return full[0].clone(), 1


def shift(value: Any, wire: Wire, sign: float = 1.0) -> Scale:
    """``x + sign·value`` for a constant value."""
    constant, axis = per_element(value, wire.shape)
    return Scale(weight=torch.tensor(1.0), bias=sign * constant, axis=axis)
