"""Batch normalisation in any number of dimensions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call, Refused
from transpike.core.op import Captured, Shape, Shapes, Synapse


@dataclass(frozen=True, eq=False)
class BatchNorm(Synapse):
    """``y = γ (x − μ) / √(σ² + ε) + β`` per channel, with the layer's own ε and running statistics.

    x is (batch, channels, …); γ is ``weight``, β is ``bias``. In training, batch statistics are used and the running
    ones are updated with ``momentum`` (torch.nn.BatchNorm2d).
    """

    aten: ClassVar[tuple[str, ...]] = ("batch_norm.default", "instance_norm.default")
    buffers: ClassVar[tuple[str, ...]] = ("mean", "variance")
    weight: Tensor | None = None  # type: ignore[assignment]
    bias: Tensor | None = None
    mean: Tensor | None = None
    variance: Tensor | None = None
    momentum: float = 0.1
    epsilon: float = 1e-5

    @classmethod
    def capture(cls, call: Call) -> Captured:
        own = call.get("use_input_stats")
        if own or call.get("training") or call["running_mean"] is None:
            whose = "the statistics of each sample" if own else "batch statistics"
            raise Refused(
                f"it normalises by {whose}; use running statistics (track_running_stats=True) and model.eval()"
            )
        tensors = {"weight": call.constant("weight"), "bias": call.constant("bias")}
        op = cls(
            mean=call.constant("running_mean"),
            variance=call.constant("running_var"),
            **tensors,
            momentum=call["momentum"],
            epsilon=call["eps"],
        )
        return op, (call.wire("input"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return F.batch_norm(inputs[0], self.mean, self.variance, self.weight, self.bias, False, 0.0, self.epsilon)

    def train_run(self, *inputs: Tensor) -> Tensor:
        return F.batch_norm(
            inputs[0], self.mean, self.variance, self.weight, self.bias, True, self.momentum, self.epsilon
        )

    def linear(self, *inputs: Tensor) -> Tensor:
        factor = self.factor_and_shift()[0].to(inputs[0].dtype)
        return inputs[0] * factor.reshape(-1, *(1,) * (inputs[0].ndim - 2))

    def factor_and_shift(self, epsilon: float | None = None, use_mean: bool = True) -> tuple[Tensor, Tensor]:
        """(γ/√(σ²+ε), β − μγ/√(σ²+ε)), one value per channel each, computed in float64.

        Other values of ``epsilon`` and ``use_mean`` are for studies of conversions with wrong batch normalisation.
        """
        assert self.variance is not None and self.mean is not None
        variance, mean = self.variance.double(), self.mean.double()
        factor = torch.rsqrt(variance + (self.epsilon if epsilon is None else epsilon))
        factor = factor if self.weight is None else factor * self.weight.double()
        shift = torch.zeros_like(mean) if self.bias is None else self.bias.double()
        return factor, shift - mean * factor if use_mean else shift

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0  # folded into a neighbour before anything runs

    def describe(self) -> str:
        return "batch_norm"
