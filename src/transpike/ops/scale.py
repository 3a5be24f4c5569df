"""Diagonal synapses: one weight per element or per channel."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.channels import resolved, shaped
from transpike.core.op import Captured, Shape, Shapes, Synapse, spatially_uniform


@dataclass(frozen=True, eq=False)
class Scale(Synapse):
    """``y = w · x + b`` element by element; w and b have one value (), one per channel (C), or the shape of x.

    ``axis`` is the channel axis, the batch being axis 0. It represents multiplication by a constant, an unfolded batch
    normalisation, and identity shortcuts.
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

    axis: int = 1

    @property
    def channel_axis(self) -> int:  # type: ignore[override]
        return self.axis

    def declared_axis(self, rank: int) -> int | None:
        return None  # it works element by element, so the feature axis does not change

    @classmethod
    def capture(cls, call: Call) -> Captured:
        if call.operator.startswith("neg"):
            return cls(weight=torch.tensor(-1.0)), (call.wire("self"),)
        x, factor = call["self"], call["other"]
        if call.operator.startswith("div"):
            if isinstance(factor, Wire) or call.get("rounding_mode"):
                raise Refused(
                    "it divides by an activation, or rounds; normalise by stored values (nn.BatchNorm) instead"
                )
            factor = 1 / torch.as_tensor(factor, dtype=torch.float64)
        if isinstance(x, Wire) and isinstance(factor, Wire):
            raise Refused("it multiplies two activations, which spikes do not: a gate or attention; train without it")
        wire, value = (x, factor) if isinstance(x, Wire) else (factor, x)
        weight, axis = per_element(value, wire.shape)
        return cls(weight=weight, axis=axis), (wire,)

    def _shaped(self, value: Tensor, x: Tensor) -> Tensor:
        return shaped(value, resolved(self.axis, x.ndim - 1), x.ndim - 1) if value.ndim == 1 else value

    def run(self, *inputs: Tensor) -> Tensor:
        output = inputs[0] * self._shaped(self.weight, inputs[0])
        return output if self.bias is None else output + self._shaped(self.bias, inputs[0])

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self._shaped(self.weight, inputs[0])

    def absorb(self, spike_scale: Tensor) -> "Scale":
        """Always possible: a diagonal includes any spike scale, with one weight per element if necessary."""
        channels = spatially_uniform(spike_scale, self.axis)
        if channels is not None and self.weight.ndim < 2:
            return replace(self, weight=self.weight * channels)
        return replace(self, weight=self._shaped(self.weight, spike_scale) * torch.nan_to_num(spike_scale[0], nan=1.0))

    def per_output(self, value: Tensor) -> Tensor:
        if self.weight.ndim < 2:
            return value
        return shaped(value, resolved(self.axis, self.weight.ndim), self.weight.ndim)

    per_input = per_output

    def scale_outputs(self, factor: Tensor) -> "Scale":
        bias = self.bias
        if bias is not None and bias.ndim < 2:
            bias = bias * factor
        elif bias is not None:
            bias = bias * shaped(factor, resolved(self.axis, bias.ndim), bias.ndim)
        return replace(self, weight=self.weight * self.per_output(factor), bias=bias)

    def along(self, axis: int, channels: int) -> "Scale":
        """The same op with its values on ``axis``, of length ``channels``, if all values are equal; else itself.

        Equal values are values of the channels of any axis.
        """
        values = [value for value in (self.weight, self.bias) if value is not None]
        if self.axis == axis or any(
            value.ndim > 1 or (value.ndim and not bool((value == value[:1]).all())) for value in values
        ):
            return self
        weight, bias = (
            value if value is None or not value.ndim else value[:1].expand(channels)
            for value in (self.weight, self.bias)
        )
        assert weight is not None
        return replace(self, weight=weight, bias=bias, axis=axis)

    def times(self, factor: Tensor) -> "Scale":
        """The op with outputs multiplied by ``factor``, which has as many axes as the output without its batch.

        The resulting weights and bias have one value per element, or per channel of any axis.
        """

        def product(value: Tensor) -> Tensor:
            rank = factor.ndim
            return factor * (shaped(value, resolved(self.axis, rank), rank) if value.ndim == 1 else value)

        return replace(self, weight=product(self.weight), bias=None if self.bias is None else product(self.bias))

    def macs(self, inputs: Shapes, output: Shape) -> int:
        """One per element; 0 where only a constant is added (w = 1)."""
        adds = self.weight.numel() == 1 and self.weight.device.type != "meta" and float(self.weight) == 1.0
        return 0 if adds else prod(output)

    def describe(self) -> str:
        return "scale"


def diagonal(spike_scale: Tensor, axis: int = 1) -> Scale:
    """An identity shortcut: levels with ``spike_scale`` (1, *shape) become currents; per channel if possible."""
    channels = spatially_uniform(spike_scale, axis)
    return Scale(weight=torch.nan_to_num(spike_scale[0], nan=1.0) if channels is None else channels, axis=axis)


def per_element(value: Any, shape: tuple[int, ...]) -> tuple[Tensor, int]:
    """(constant, axis): a constant that broadcasts against (batch, *shape), in the compact form of Scale."""
    tensor = torch.as_tensor(value, dtype=torch.float32)
    if tensor.numel() == 1:
        return tensor.reshape(()), 1
    if tensor.ndim > len(shape) and tensor.shape[0] != 1:
        if not bool((tensor == tensor[:1]).all()):
            raise Refused("it combines the batch with a separate constant for each sample")
        tensor = tensor[:1]  # expanded to a fixed batch
    try:
        full = tensor.expand(1, *shape)
    except RuntimeError:
        raise Refused(
            f"a constant of shape {tuple(tensor.shape)} spreads activations of shape {shape}; expand them before it"
        ) from None
    for axis in dict.fromkeys((1, max(1, len(shape)))):
        channels = spatially_uniform(full, axis)
        if channels is not None:
            return channels.clone(), axis
    return full[0].clone(), 1


def shift(value: Any, shape: tuple[int, ...], sign: float = 1.0) -> Scale:
    """``x + sign·value`` for a constant value and x (batch, *shape)."""
    constant, axis = per_element(value, shape)
    return Scale(weight=torch.tensor(1.0), bias=sign * constant, axis=axis)
