"""Diagonal synapses: one weight an element or a channel."""

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from transpike.core.op import Captured, Shape, Shapes, Synapse, spatially_uniform

if TYPE_CHECKING:
    from transpike.core.call import Call


@dataclass(frozen=True, eq=False)
class Scale(Synapse):
    """``y = w · x + b`` element by element; w and b have one value (), one a channel (C), or the shape of x.

    It stands for multiplication by a constant, for an unfolded batch normalisation, and for identity shortcuts.
    """

    aten: ClassVar[tuple[str, ...]] = (
        "mul.Tensor",
        "mul_.Tensor",
        "div.Tensor",
        "div_.Tensor",
        "mul.Scalar",
        "div.Scalar",
        "neg.default",
    )

    @classmethod
    def capture(cls, call: "Call") -> Captured:
        from transpike.core.call import Refused, Wire, per_element  # it builds on this file

        if call.operator.startswith("neg"):
            return cls(weight=torch.tensor(-1.0)), (call.wire("self"),)
        x, factor = call["self"], call["other"]
        if call.operator.startswith("div"):
            if isinstance(factor, Wire) or call.get("rounding_mode"):
                raise Refused("it divides by an activation")
            factor = 1 / torch.as_tensor(factor, dtype=torch.float64)
        if isinstance(x, Wire) and isinstance(factor, Wire):
            raise Refused("it multiplies two activations")
        wire, value = (x, factor) if isinstance(x, Wire) else (factor, x)
        return cls(weight=per_element(value, wire.shape)), (wire,)

    def _shaped(self, value: Tensor, x: Tensor) -> Tensor:
        return value.reshape(-1, *(1,) * (x.ndim - 2)) if value.ndim == 1 else value

    def run(self, *inputs: Tensor) -> Tensor:
        output = inputs[0] * self._shaped(self.weight, inputs[0])
        return output if self.bias is None else output + self._shaped(self.bias, inputs[0])

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self._shaped(self.weight, inputs[0])

    def absorb(self, amplitude: Tensor) -> "Scale":
        """Always there: a diagonal takes any amplitude, with one weight an element where it must."""
        channels = spatially_uniform(amplitude)
        if channels is not None and self.weight.ndim < 2:
            return replace(self, weight=self.weight * channels)
        return replace(self, weight=self._shaped(self.weight, amplitude) * torch.nan_to_num(amplitude[0], nan=1.0))

    def per_output(self, value: Tensor) -> Tensor:
        return value if self.weight.ndim < 2 else value.reshape(-1, *(1,) * (self.weight.ndim - 1))

    per_input = per_output

    def scale_outputs(self, factor: Tensor) -> "Scale":
        weight = self.weight * self.per_output(factor)
        return replace(self, weight=weight, bias=None if self.bias is None else self.bias * factor)

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return prod(output)

    def describe(self) -> str:
        return "scale"


def diagonal(amplitude: Tensor) -> Scale:
    """The identity shortcut: levels of worth ``amplitude`` (1, *shape) become currents; compact where it can be."""
    channels = spatially_uniform(amplitude)
    return Scale(weight=torch.nan_to_num(amplitude[0], nan=1.0) if channels is None else channels)
