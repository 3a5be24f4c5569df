"""Values of an ONNX graph: constants, and tensors that depend on the input.

The file describes one sample: its batch axis has the size 1, or is open and taken as 1. A ``Value`` holds that graph's
tensor for every sample of a batch, stacked on axis 0. Where the file's own axis of size 1 is known (``axis``), it is
left out, so that convolutions see (batch, channels, …). A reshape that folds the batch into another axis, or takes it
apart, thus becomes a reshape of each sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transpike.errors import UnsupportedModel

Constant = np.ndarray
Layer = tuple[str, nn.Module, tuple[str, ...], tuple[str, ...]]
"""Name of the operator, its layer, and the names of its inputs and outputs."""


FEW, GROWTH = 2**24, 2**10
"""Numbers that every result may have, and how how many times the size of the input larger ones may have."""


class Unknown(Exception):
    """An operator, or a setting of it, that is not read; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Value:
    """``tensor`` is an example (batch, *rest); ``axis`` the axis of the file's tensor that is left out, or None."""

    name: str
    tensor: Tensor
    axis: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the file's tensor, for one sample."""
        rest = list(self.tensor.shape[1:])
        if self.axis is not None:
            rest.insert(self.axis, 1)
        return tuple(rest)

    def inner(self, axis: int) -> int:
        """The axis of ``tensor`` of an axis of the file's tensor; 0 for the one left out."""
        axis = positive(axis, len(self.shape))
        if self.axis is None:
            return axis + 1
        return 0 if axis == self.axis else axis + 1 if axis < self.axis else axis


class Call(nn.Module):
    """A function with settings as a layer."""

    def __init__(self, function: Callable[..., Any], *args: Any, **settings: Any) -> None:
        super().__init__()
        self.function, self.args, self.settings = function, args, settings

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs, *self.args, **self.settings)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", str(self.function))


class WithConstant(nn.Module):
    """A function of an input and a constant, in either order."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], constant: Tensor, first: bool) -> None:
        super().__init__()
        self.function, self.first = function, first
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        constant: Any = self.constant
        return self.function(constant, x) if self.first else self.function(x, constant)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", str(self.function))


@dataclass(frozen=True, eq=False)
class Node:
    """An operator of the file: its name, type, attributes and inputs (None: not given)."""

    name: str
    kind: str
    version: int
    attributes: dict[str, Any]
    inputs: tuple["Value | Constant | None", ...]
    outputs: tuple[str, ...]

    def __getitem__(self, index: int) -> "Value | Constant | None":
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int) -> Value:
        """An input that depends on the data."""
        found = self[index]
        if not isinstance(found, Value):
            raise Unknown(f"its input {index + 1} is {'a constant' if found is not None else 'missing'}")
        return found

    def constant(self, index: int) -> Constant | None:
        """A constant input, None if it is not given."""
        found = self[index]
        if isinstance(found, Value):
            raise Unknown(f"its input {index + 1} depends on the data, but only a constant is supported there")
        return found

    def required(self, index: int) -> Constant:
        """A constant input that must be there."""
        found = self.constant(index)
        if found is None:
            raise Unknown(f"its input {index + 1} is missing")
        return found

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """Integers that newer versions give as an input, older ones as an attribute."""
        found = self.constant(index)
        if found is None:
            given = self.attributes.get(attribute)
            return None if given is None else [int(v) for v in np.atleast_1d(given)]
        return [int(v) for v in np.atleast_1d(found)]

    def number(self, attribute: str, default: Any) -> Any:
        return self.attributes.get(attribute, default)


class Steps:
    """The layers made so far; runs each on its example, so that every shape is known."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.where = ""
        self.count = 0
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the example, by name
        self.limit = FEW

    def check_size(self, count: float) -> None:
        """Raises Unknown for a result that no network of this input needs, and that memory may not hold."""
        if not count <= self.limit:
            raise Unknown(f"its result has {count:.3g} numbers; for this input at most {self.limit:,} are computed")

    def run(self, layer: nn.Module, inputs: Sequence[Value], axis: int | None) -> Value:
        """The output of one layer."""
        return self.run_all(layer, inputs, [axis])[0]

    def run_all(self, layer: nn.Module, inputs: Sequence[Value], axes: Sequence[int | None]) -> list[Value]:
        layer.eval()
        with torch.no_grad():
            self.check_size(_size(layer, inputs))
            found = layer(*(one.tensor for one in inputs))
        tensors = [found] if isinstance(found, Tensor) else list(found)
        names = []
        for _ in tensors:
            self.count += 1
            names.append(f"v{self.count}")
        self.layers.append((self.where, layer, tuple(one.name for one in inputs), tuple(names)))
        self.shapes |= {one.name: tuple(one.tensor.shape) for one in inputs}
        self.shapes |= {name: tuple(tensor.shape) for name, tensor in zip(names, tensors, strict=True)}
        return [Value(name, tensor, axis) for name, tensor, axis in zip(names, tensors, axes, strict=True)]

    def whole(self, value: Value) -> Value:
        """The same value with all axes of the file's tensor."""
        if value.axis is None:
            return value
        return self.run(Call(torch.unsqueeze, value.axis + 1), [value], None)

    def batch_first(self, value: Value) -> Value:
        """The same value with the file's axis 0 left out, which must have the size 1."""
        if value.axis == 0:
            return value
        if not value.shape or value.shape[0] != 1:
            raise Unknown(f"its input of shape {list(value.shape)} has no batch axis of size 1 in front")
        return self.run(Call(torch.squeeze, 1), [self.whole(value)], 0)

    def with_axes(self, value: Value, count: int) -> Value:
        """The same value with axes of size 1 before the file's axes, up to ``count`` of them."""
        missing = count - len(value.shape)
        if missing <= 0:
            return value
        if value.axis is None:
            shape = (1,) * missing + value.shape
            return self.run(Call(reshape_each, shape[1:]), [value], 0)
        return self.with_axes(self.whole(value), count)

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """The file's tensor in another shape; its first axis of size 1 is left out."""
        shape = tuple(int(size) for size in shape)
        axis = next((k for k, size in enumerate(shape) if size == 1), None)
        rest = shape if axis is None else shape[:axis] + shape[axis + 1 :]
        if tuple(value.tensor.shape[1:]) == rest:
            return Value(value.name, value.tensor, axis)
        if len(rest) == 1 and value.tensor.ndim > 1:
            return self.run(nn.Flatten(), [value], axis)
        return self.run(Call(reshape_each, rest), [value], axis)


def _size(layer: nn.Module, inputs: Sequence[Value]) -> int:
    """The number of elements of a layer's outputs, without memory for them; 0 where torch cannot tell."""
    state = {name: one.to("meta") for name, one in (*layer.named_parameters(), *layer.named_buffers())}
    try:
        found = torch.func.functional_call(layer, state, tuple(one.tensor.to("meta") for one in inputs))
    except Exception:  # the run itself tells what does not fit
        return 0
    return sum(one.numel() for one in ([found] if isinstance(found, Tensor) else found))


def reshape_each(x: Tensor, rest: tuple[int, ...]) -> Tensor:
    """Each sample in another shape."""
    return x.reshape(x.shape[0], *rest)


def reversed_operands(x: Tensor, function: Callable[[Any, Any], Any], number: float) -> Tensor:
    """A function of a number and ``x``, in this order."""
    return function(number, x)


def tensor_of(constant: Constant) -> Tensor:
    """A constant as a tensor that owns its memory; real numbers in float32."""
    found = torch.from_numpy(np.array(constant))  # a copy: the file's memory is read-only
    return found.float() if found.is_floating_point() else found


def positive(axis: int, count: int) -> int:
    """An axis counted from the front. Raises UnsupportedModel outside the tensor."""
    if not -count <= axis < max(count, 1):
        raise UnsupportedModel(f"axis {axis} of a tensor of {count} axes")
    return axis % count if count else 0
