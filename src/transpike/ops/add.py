"""Sums of layers."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Wire
from transpike.core.op import Captured, Op, Role, Shape, Shapes
from transpike.ops.scale import Scale, per_element, shift


@dataclass(frozen=True, eq=False)
class Add(Op):
    """``y = Σ_i c_i x_i``; the inputs broadcast as in torch, the coefficients are 1 or −1 or torch's ``alpha``."""

    role: ClassVar[Role] = "wiring"
    aten: ClassVar[tuple[str, ...]] = (
        "add.Tensor",
        "add_.Tensor",
        "sub.Tensor",
        "sub_.Tensor",
        "rsub.Scalar",
        "rsub.Tensor",
        "add.Scalar",
        "sub.Scalar",
    )
    is_sum: ClassVar[bool] = True
    coefficients: tuple[float, ...] = (1.0, 1.0)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        sign = -1.0 if "sub" in call.operator else 1.0
        first, second, alpha = call["self"], call["other"], sign * (call.get("alpha") or 1)
        if call.operator.startswith("rsub"):  # rsub(x, y) is y − alpha·x
            first, second, alpha = second, first, -(call.get("alpha") or 1)
        if isinstance(first, Wire) and isinstance(second, Wire):
            return cls(coefficients=(1.0, float(alpha))), (first, second)
        if isinstance(first, Wire):
            return shift(second, first.shape, alpha), (first,)
        constant, axis = per_element(first, second.shape)
        return Scale(weight=torch.tensor(float(alpha)), bias=constant, axis=axis), (second,)

    def run(self, *inputs: Tensor) -> Tensor:
        total = inputs[0] if self.coefficients[0] == 1 else inputs[0] * self.coefficients[0]
        for coefficient, x in zip(self.coefficients[1:], inputs[1:], strict=True):
            total = total + x if coefficient == 1 else total + coefficient * x
        return total

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return prod(output) * sum(abs(c) != 1 for c in self.coefficients)

    @property
    def is_whole(self) -> bool:
        return all(c == int(c) for c in self.coefficients)

    def paths(self) -> "Add":
        return Add(coefficients=(1.0,) * len(self.coefficients))

    def magnitude(self) -> "Add":
        return Add(coefficients=tuple(abs(c) for c in self.coefficients))

    def describe(self) -> str:
        return "add" if all(c == 1 for c in self.coefficients) else f"add {self.coefficients}"
