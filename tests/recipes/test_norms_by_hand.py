"""Norms that a network writes itself are recognised, and what only looks like one is not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.core.pass_ import Context
from transpike.ops.analogue import AnalogueOp
from transpike.passes import RecogniseNorms
from transpike.recipes import StreamingSigmaDelta

EPS = 1e-5


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


RMS: dict[str, Callable[[Tensor], Tensor]] = {
    "rsqrt": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS),
    "other order": lambda x: torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * x,
    "division": lambda x: x / (x.square().mean(-1, keepdim=True) + EPS).sqrt(),
    "sum": lambda x: x / torch.sqrt(x.pow(2).sum(-1, keepdim=True) / 8 + EPS),
}
LAYER: dict[str, Callable[[Tensor], Tensor]] = {
    "var": lambda x: centred(x) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + EPS),
    "mean of squares": lambda x: centred(x) * torch.rsqrt(centred(x).pow(2).mean(-1, keepdim=True) + EPS),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "another axis": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + EPS),
    "deviation": lambda x: centred(x) / (x.var(-1, keepdim=True, unbiased=True) + EPS).sqrt(),
    "the square": lambda x: x / (x.pow(2).mean(-1, keepdim=True) + EPS),
}


class Net(nn.Module):
    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.first, self.last = norm, nn.Linear(8, 8), nn.Linear(8, 3)
        self.gain = nn.Parameter(torch.rand(8, generator=torch.Generator().manual_seed(1)) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.gain * self.norm(self.first(x)))).mean(1)


def network(norm: Callable[[Tensor], Tensor]) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(norm).eval(), torch.randn(24, 5, 8)


def recognised(model: nn.Module, x: Tensor) -> tuple[ts.Graph, list[str]]:
    graph = ts.capture(model, x, on_unsupported="keep")
    after = RecogniseNorms().apply(graph, Context(graph, (x,), timesteps=1, remarks=[]))
    assert torch.allclose(after.run(x), graph.run(x), atol=1e-5)
    return after, [node.op.operator.split(".")[1] for node in after if type(node.op) is AnalogueOp]


@pytest.mark.parametrize("label", [*RMS, *LAYER])
def test_a_norm_by_hand_is_one_operator(label):
    model, x = network({**RMS, **LAYER}[label])
    after, operators = recognised(model, x)
    assert operators == ["rms_norm" if label in RMS else "layer_norm"]
    (norm,) = (node.op for node in after if type(node.op) is AnalogueOp)
    assert norm.arguments[-1] == pytest.approx(EPS, rel=1e-6)


@pytest.mark.parametrize("label", OTHERS)
def test_what_is_no_norm_of_the_last_axis_stays(label):
    assert not {"rms_norm", "layer_norm"} & set(recognised(*network(OTHERS[label]))[1])


def test_a_network_with_a_norm_by_hand_converts_without_neurons_inside_of_it():
    model, x = network(RMS["rsqrt"])
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12, threshold_count=12, percentile=100.0), x)
    assert any("is rms_norm" in remark for remark in snn.remarks)
    assert not any("product" in node.op.describe() or "rsqrt" in node.op.describe() for node in snn.graph)
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.01 * float(expected.norm())
