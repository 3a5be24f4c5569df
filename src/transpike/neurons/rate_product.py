"""Products of two spike trains in rate code."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.op import Shape, Shapes
from transpike.neurons._product import ProductCell


@dataclass(frozen=True, eq=False)
class RateProduct(ProductCell):
    """``P += a · S_b;  S_a += a;  P += S_a · b;  S_b += b;  out_t = P_t / t − P_{t−1} / (t−1)`` for rates a, b.

    The mean of the outputs is the product of the mean inputs at every t: ``P_t = S_a · S_b``, of which t² is the scale.
    An event of one side adds the partner's state, once for each product in which its element has a part. The messages
    are real numbers, which reports list as analogue. Masks of Boolean values are further inputs of ``op``.
    Source: Huang et al. 2024 (ECMT, MM), expectation compensation of matrix products.
    """

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        product = torch.zeros_like(self.op.run(*inputs))
        return torch.zeros_like(inputs[0]), torch.zeros_like(inputs[1]), product, product

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        first, second, product, before = state
        a, b, *masks = inputs
        product = product + self.op.run(a, second, *masks)
        first = first + a
        product = product + self.op.run(first, b, *masks)
        mean = product / t
        return (first, second + b, product, mean), mean - before

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        first, second, *masks = charges
        return self.op.run(first, second, *masks) / timesteps

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """One division by t for each element of the output."""
        return {"division": torch.Size(output).numel()}

    def describe(self) -> str:
        return f"{self.op.describe()} of rates"
