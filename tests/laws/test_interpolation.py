"""Interpolation by powers of two passes levels on as integers, so that networks with it are on the exact grid."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike.ops.resample import Resample


def upsampling(factor: int, size: int = 3, align_corners: bool = False) -> Resample:
    """The operator of a captured bilinear upsampling."""

    class Up(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)

    graph = ts.capture(Up(), torch.zeros(1, 2, size, size + 1))
    return next(node.op for node in graph if isinstance(node.op, Resample))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_levels_stay_whole_numbers_and_their_charge_is_the_same(factor: int) -> None:
    op = upsampling(factor)
    scales = torch.tensor([0.5, 3.0]).double().reshape(1, 2, 1, 1).expand(1, 2, 3, 4)
    passed = op.propagate_levels((scales,))
    assert passed is not None and passed[1] is not None
    levels = torch.randint(-9, 10, (5, 2, 3, 4), generator=torch.Generator().manual_seed(0)).double()
    whole = passed[0].to(dtype=torch.float64).run(levels)
    assert torch.equal(whole, whole.round())
    assert torch.equal(whole * passed[1], op.to(dtype=torch.float64).run(levels * scales))


def test_other_weights_and_other_scales_are_not_passed_on() -> None:
    same = torch.ones(1, 2, 3, 4).double()
    assert upsampling(2, align_corners=True).propagate_levels((same,)) is None  # parts of a fifth and of a seventh
    mixed, silent = same.clone(), same.clone()
    mixed[0, 1, 2, 3], silent[0, 1, 2, 3] = 2.0, torch.nan
    assert upsampling(2).propagate_levels((mixed,)) is None
    assert upsampling(2).propagate_levels((silent,)) is None


class Twice(nn.Module):
    """Two upsamplings between weights, each next to a connection with other scales."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.last = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.first(x))
        b = F.relu(self.second(F.avg_pool2d(a, 2)))
        c = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        d = F.relu(self.third(torch.cat([c, a], 1)))
        e = F.interpolate(F.avg_pool2d(d, 4), scale_factor=4, mode="bilinear", align_corners=False)
        return self.last(torch.cat([e, d], 1))


@pytest.mark.parametrize("recipe", [ts.recipes.ECC(6), ts.recipes.StreamingSigmaDelta(4)], ids=lambda r: r.name)
def test_engines_agree_on_a_network_with_interpolation(recipe: ts.core.recipe.Recipe) -> None:
    torch.manual_seed(0)
    x = torch.rand(8, 1, 8, 8)
    snn = ts.convert(Twice().eval(), recipe, x)
    traces = [ts.simulate(snn, x, engine=engine) for engine in ("reference", "dense", "auto")]
    assert traces[0].exact, traces[0].why
    for trace in traces[1:]:
        assert trace.exact and torch.equal(trace.logits, traces[0].logits)
