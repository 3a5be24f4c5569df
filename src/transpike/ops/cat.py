"""Concatenation, also with constants."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.op import Captured, Part
from transpike.ops.scale import shift
from transpike.ops.shape import Pad, with_shape
from transpike.ops.wiring import Selection


@dataclass(frozen=True, eq=False)
class Cat(Selection):
    """Inputs concatenated along ``axis`` (the batch is axis 0)."""

    aten: ClassVar[tuple[str, ...]] = (
        "cat.default",
        "concat.default",
        "concatenate.default",
        "hstack.default",
        "stack.default",
    )
    axis: int = 1

    @classmethod
    def capture(cls, call: Call) -> Captured:
        values, name = list(call["tensors"]), call.operator.split(".")[0]
        shape = call.shapes[0]
        axis = 1 if name == "hstack" else call.axis("dim", len(shape) + 1)
        sizes = [1 if name == "stack" else _shape(value)[axis - 1] for value in values]
        parts = [value if isinstance(value, Wire) else None for value in values]
        if all(part is None for part in parts):
            raise Refused("none of its inputs depends on the network's input")
        shapes = [(*shape[: axis - 1], size, *shape[axis:]) for size in sizes]
        whole: list[Part | None] = [
            with_shape(part, own) if part is not None and part.shape != own else part
            for part, own in zip(parts, shapes, strict=True)
        ]
        if None not in parts:
            return cls(axis=axis), tuple(part for part in whole if part is not None)
        return _with_constants(axis, shape, values, sizes, whole)

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, Wire) else tuple(value.shape[1:])


def _with_constants(
    axis: int, shape: tuple[int, ...], values: list[Any], sizes: list[int], parts: list[Part | None]
) -> Captured:
    """The wires, moved apart by zeros, plus the constants as a bias: zeros need no spikes."""
    bias, kept, start, zeros = torch.zeros(1, *shape), [], 0, 0
    for value, size, part in zip(values, sizes, parts, strict=True):
        if part is None:
            if value.shape[0] != 1 and not bool((value == value[:1]).all()):
                raise Refused("it concatenates a separate constant for each sample")
            place = bias.narrow(axis, start, size)
            place.copy_(value[:1].reshape(place.shape))
            zeros += size
        else:
            kept.append(_padded(part, axis, len(shape), zeros, 0))
            zeros = 0
        start += size
    kept[-1] = _padded(kept[-1], axis, len(shape), 0, zeros)
    joined: Part = kept[0] if len(kept) == 1 else (Cat(axis=axis), tuple(kept))
    if bool(bias.any()):
        return shift(bias, shape), (joined,)
    return joined if isinstance(joined, tuple) else (Pad(amounts=()), (joined,))


def _padded(part: Part, axis: int, rank: int, before: int, after: int) -> Part:
    if not before and not after:
        return part
    return Pad(amounts=(0, 0) * (rank - axis) + (before, after)), (part,)
