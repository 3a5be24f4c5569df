"""Binary spikes with thresholds at ceilings, and pairs of neurons between weights."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.activations import QuantisedClip
from transpike.core.cell import Neuron
from transpike.core.pass_ import Context
from transpike.passes import CeilingThresholds, EncodeWires, Rectify
from transpike.recipes import ECC, Ceiling

T = 16


class Bottleneck(nn.Module):
    """ReLU6, weights, a sum with a linear layer, weights, ReLU6: as in MobileNetV2, with small numbers."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.down, self.again = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.up, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_((2 * torch.randint(-4, 4, parameter.shape, generator=generator) + 1) / 8)  # none is 0

    def forward(self, x: Tensor) -> Tensor:
        a = nn.functional.relu6(self.first(x))
        return self.last(nn.functional.relu6(self.up(self.down(a) + self.again(a))))


def data(largest: float) -> Tensor:
    return largest * torch.rand(64, 4, generator=torch.Generator().manual_seed(1))


def nearest(value: Tensor, threshold: Tensor | float) -> Tensor:
    """Values in windows of T: the nearest of 0, θ/T … θ."""
    return (value * T / threshold + 0.5).floor().clamp(0, T) * threshold / T


def neurons(snn: ts.SNN) -> dict[str, Neuron]:
    return {node.name: node.op for node in snn.graph if isinstance(node.op, Neuron)}


@pytest.mark.parametrize("granularity", ["layer", "channel", "neuron"])
def test_thresholds_are_ceilings_and_where_there_is_none_percentiles(granularity):
    snn = ts.convert(Bottleneck().eval(), Ceiling(timesteps=T, granularity=granularity), data(2.0) - 1)
    found = neurons(snn)
    clips = [cell for cell in found.values() if getattr(cell.source, "ceiling", None)]
    assert len(clips) == 2 and len(found) == 4
    assert all(bool((cell.threshold == 6).all()) for cell in clips)
    pair = [cell for cell in found.values() if not getattr(cell.source, "ceiling", None)]
    ecc = ts.convert(Bottleneck().eval(), ECC(timesteps=T, granularity=granularity), data(2.0) - 1)
    assert all(float(cell.threshold.max()) < 6 for cell in neurons(ecc).values())
    assert all(bool((cell.initial == cell.threshold / 2).all()) for cell in (*clips, *pair))


@pytest.mark.parametrize("engine", ["dense", "reference"])
def test_windows_round_activations_and_sums_also_beyond_what_calibration_reached(engine):
    model, x = Bottleneck().eval(), data(3.0)
    snn = ts.convert(model, Ceiling(timesteps=T), data(2.5)).accepting_any_input()
    pair = [cell for cell in neurons(snn).values() if getattr(cell.source, "ceiling", None) is None]
    with torch.no_grad():
        a = nearest(model.first(x).clamp(0, 6), 6.0)
        reached = model.first(data(2.5)).clamp(0, 6).amax(0)
        assert bool((a.amax(0) > 1.1 * reached).any())
        z = model.down(a) + model.again(a)
        z = nearest(z, pair[0].threshold) - nearest(-z, pair[1].threshold)
        expected = model.last(nearest(model.up(z).clamp(0, 6), 6.0))
    trace = ts.simulate(snn, x, engine=engine)
    assert trace.exact, trace.why
    close = (trace.logits[-1] - expected).abs().amax(1) <= 1e-3
    assert float(close.double().mean()) > 0.95  # the grid rounds what is next to an edge


def test_the_pairs_let_every_layer_of_weights_add_spikes():
    model, x = Bottleneck().eval(), data(4.0)
    with_pairs, without = (ts.convert(model, recipe, x) for recipe in (
        Ceiling(timesteps=T), ECC(timesteps=T, schedule=ts.schedules.LayerSynchronous(), percentile=100.0, linear_wires="none")))  # fmt: skip
    paired, bare = (snn.program.fans for snn in (with_pairs, without))
    first = next(name for name in bare if "relu6" in name)
    assert set(bare[first].tolist()) == {6.0 * 8}  # two layers of three, each times eight
    assert set(paired[first].tolist()) == {2 * 6.0}  # to both neurons of the pair
    expected = model(x).detach()
    close = [float((snn(x) - expected).norm() / expected.norm()) for snn in (with_pairs, without)]
    assert max(close) < 0.1


def test_ceilings_of_channels_are_their_thresholds():
    tops = torch.tensor([1.0, 2.0, 3.0, 4.0])
    clip = QuantisedClip(T, 1.0)
    model = nn.Sequential(nn.Linear(3, 4), clip, nn.Linear(4, 2)).eval()
    clip.thresh = nn.Parameter(tops)
    snn = ts.convert(model, Ceiling(timesteps=T), data(1.0)[:, :3])
    (cell,) = neurons(snn).values()
    assert cell.threshold.flatten().tolist() == tops.tolist()


def test_pairs_do_not_change_the_function():
    model, x = Bottleneck().eval(), data(4.0)
    before = ts.capture(model, x)
    context = Context(before, (x,), timesteps=T, remarks=[])
    after = Rectify().apply(EncodeWires(pairs=True).apply(before, context), context)
    assert torch.allclose(after.run(x), before.run(x), rtol=0, atol=1e-5)
    assert sum(type(node.op).__name__ == "ReLU" for node in after) == 2


def test_the_threshold_pass_says_what_it_does():
    assert CeilingThresholds(percentile=100.0).describe() == "the ceiling where there is one, else maximum, per channel"


@pytest.mark.parametrize("positive", [True, False])
def test_a_wire_that_is_never_negative_has_one_neuron(positive):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()) if positive else nn.Sequential(nn.Conv2d(1, 4, 3))
    pooled = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), first, nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten())
    model = nn.Sequential(*pooled, nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.rand(32, 1, 10, 10)
    graph = ts.capture(model, x)
    context = Context(graph, (x,), timesteps=T, remarks=[])
    encoded = EncodeWires(pairs=True, pooled=False).apply(graph, context)
    names = [type(node.op).__name__ for node in encoded if node.name.endswith(".encoded")]
    assert names == (["ReLU"] if positive else ["LeakyReLU"])
