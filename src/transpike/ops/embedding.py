"""Vectors that are looked up by integers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused
from transpike.core.op import Captured, Op, Shape, Shapes
from transpike.errors import DataError


@dataclass(frozen=True, eq=False)
class Embedding(Op):
    """``y = w[x]``: row x of ``weight`` (rows, features) for every integer x, (batch, …) → (batch, …, features).

    ``one_hot(x, n)`` looks up rows of the unit matrix. It reads an input of integers, so that its output is a
    constant current: no spike, and no multiplication.
    Raises DataError for numbers without a row.
    """

    aten: ClassVar[tuple[str, ...]] = ("embedding.default", "one_hot.default")
    channel_axis: ClassVar[int] = -1
    is_look_up: ClassVar[bool] = True
    weight: Tensor

    @classmethod
    def example(cls) -> tuple["Embedding", tuple[Shape, ...]]:
        return cls(torch.arange(12.0).reshape(4, 3)), ((),)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        if call.operator.startswith("one_hot"):
            if call["num_classes"] < 1:
                raise Refused("its number of classes is the largest number of the data: pass it, one_hot(x, classes)")
            return cls(weight=torch.eye(call["num_classes"])), (call.wire("self"),)
        weight = call.constant("weight")
        if weight is None:
            raise Refused("it has no table")
        return cls(weight=weight), (call.wire("indices"),)

    def run(self, *inputs: Tensor) -> Tensor:
        rows = inputs[0].round().long() if inputs[0].is_floating_point() else inputs[0]
        if rows.device.type != "meta" and rows.numel():
            low, high = int(rows.min()), int(rows.max())
            if low < 0 or high >= len(self.weight):
                raise DataError(
                    f"an input is looked up among {len(self.weight)} rows, 0 to {len(self.weight) - 1}, but contains "
                    f"{low if low < 0 else high}"
                )
        return self.weight[rows]

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    def describe(self) -> str:
        return f"look-up of {len(self.weight)} rows"
