"""The two kinds of wiring that can pass levels on."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.op import Op, Role


@dataclass(frozen=True, eq=False)
class Selection(Op):
    """Every output element is one input element: spike scales are passed on unchanged."""

    role: ClassVar[Role] = "wiring"

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> tuple[Op, Tensor | None]:
        return self, self.run(*spike_scales)


@dataclass(frozen=True, eq=False)
class Average(Op):
    """Linear pooling: ``run`` averages, ``total`` sums instead, so that integers stay integers."""

    role: ClassVar[Role] = "wiring"

    def total(self) -> Op:
        """The op that sums what this one averages, every path with weight one."""
        raise TypeError(f"{type(self).__name__} must define total()")

    def paths(self) -> Op:
        return self.total()

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> tuple[Op, Tensor | None] | None:
        """Sum the levels and scale the spike scale; None if a window mixes levels of different spike scales."""
        total, silent = self.total(), torch.isnan(spike_scales[0])
        spike_scale, present = torch.where(silent, 0.0, spike_scales[0]), (~silent).to(spike_scales[0])
        mean = total.run(spike_scale) / total.run(present)
        probe = present * torch.rand(spike_scale.shape, generator=torch.Generator().manual_seed(0)).to(spike_scale)
        expected = torch.nan_to_num(mean) * total.run(probe)
        if not torch.allclose(total.run(spike_scale * probe), expected, rtol=1e-5, atol=1e-9):
            return None
        share = self.run(torch.ones_like(spike_scale)) / total.run(torch.ones_like(spike_scale))
        return total, mean * share
