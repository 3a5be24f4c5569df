"""Softmax over the places that a mask leaves."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from transpike.core.op import Op, Shape, Shapes


@dataclass(frozen=True, eq=False)
class MaskedSoftmax(Op):
    """``y = exp(x) / Σ exp(x)`` along ``axis``, over the places that no mask hides; y is 0 where one does.

    ``mask`` is 1 where it hides; with ``by_sample`` a second input, Boolean values, hides more places of each sample.
    Both broadcast against (batch, *shape) of x; the batch is axis 0. The pass JoinMasks makes it from a mask of −inf
    and the softmax after it, so that no wire carries infinite values. A row whose places are all hidden gives NaN,
    which every run reports as an error, or 0 with ``safe``, as attention of torch does.
    """

    buffers: ClassVar[tuple[str, ...]] = ("mask",)
    mask: Tensor | None = None  # of numbers, as all tensors of ops
    axis: int = 1
    by_sample: bool = False
    safe: bool = False

    @classmethod
    def example(cls) -> tuple[Self, tuple[Shape, ...]]:
        return cls(torch.ones(4, 4).triu(1), 2), ((4, 4),)

    @property
    def hides_by_sample(self) -> bool:
        return self.by_sample

    def run(self, *inputs: Tensor) -> Tensor:
        x = inputs[0].masked_fill(~self._seen(inputs), -torch.inf)
        return torch.ops.aten._safe_softmax(x, self.axis) if self.safe else x.softmax(self.axis)

    def _seen(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The places that no mask hides, in a shape that broadcasts; the first input gives the device only."""
        seen = torch.ones((), dtype=torch.bool, device=inputs[0].device)
        if self.mask is not None:
            seen = self.mask.to(inputs[0].device) == 0
        return seen & (inputs[1] == 0) if self.by_sample else seen

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """One exponential and one division for each place that the constant mask leaves."""
        seen = self._places(output)
        return {"exp": len(seen), "division": len(seen)}

    def _places(self, shape: Shape) -> Tensor:
        """The places of a sample that the constant mask leaves, by their number in it."""
        seen = torch.ones((1, *shape), dtype=torch.bool)
        if self.mask is not None and self.mask.device.type != "meta":
            seen = seen & (self.mask.cpu() == 0)
        return seen.flatten().nonzero().flatten()

    def parts(self, *changed: Tensor) -> Tensor:
        """One part for each place that the constant mask leaves: needed if a place of its row changed, and if it is not
        hidden for the sample (a second input, True where it is).
        """
        seen = self._seen((changed[0], *(hidden.float() for hidden in changed[1:])))
        rows = (changed[0] & seen).any(self.axis, keepdim=True)
        places = self._places(tuple(changed[0].shape[1:])).to(changed[0].device)
        return (rows & seen).expand(changed[0].shape).flatten(1)[:, places]

    def describe(self) -> str:
        return "softmax after a mask"
