"""Vectors divided by their length."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.op import Op, Role, Shape, Shapes


@dataclass(frozen=True, eq=False)
class Normalise(Op):
    """``y = x / max(‖x‖, ε)``, the length of x along ``axis`` (the batch is axis 0): torch.nn.functional.normalize.

    Capture makes it from a quotient of x and its norm, so that the length is computed of the same x that it divides: a
    wire between the two would be encoded in separate spikes, and a length that is still 0 would be divided by.
    """

    role: ClassVar[Role] = "analogue"
    axis: int = 1
    epsilon: float = 1e-12

    @classmethod
    def example(cls) -> tuple["Normalise", tuple[Shape, ...]]:
        return cls(axis=2), ((3, 4),)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0] / torch.linalg.vector_norm(inputs[0], dim=self.axis, keepdim=True).clamp_min(self.epsilon)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        """The squares."""
        return prod(output)

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return {"sqrt": prod(output) // output[self.axis - 1], "division": prod(output)}

    def parts(self, *changed: Tensor) -> Tensor:
        """One part for each vector."""
        return changed[0].any(self.axis).reshape(len(changed[0]), -1)

    def apart(self, *shapes: Shape) -> int:
        return self.axis if self.axis == len(shapes[0]) else 1

    def describe(self) -> str:
        return f"normalise axis {self.axis}"
