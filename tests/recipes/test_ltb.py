"""Local threshold balancing: thresholds grow from 0 against clipping, the answer waits, pooling comes first."""

import pytest
import torch
from torch import nn

import transpike as ts
from measured import activations, alone, later, threshold
from transpike.neurons import CurrentMaximum
from transpike.readouts import AccumulatedMembrane
from transpike.recipes import ECC, LTB

VALUES = [-1.0, 0.0, 1.0, 2.0] * 2


@pytest.mark.parametrize(("updates", "theta"), [(1, 1.5), (2, 1.75), (3, 1.875), (40, 2.0)])
def test_thresholds_grow_from_zero_against_what_is_clipped(updates, theta):
    # 2 · ¾ = 1.5; then 2 · ½/4, 2 · ¼/4 … more: half of what is still clipped of the largest activation, 2
    assert threshold(LTB(updates=updates, batch_size=4), VALUES) == pytest.approx(theta)
    assert threshold(ECC(percentile=100.0), VALUES) == 2.0


def test_the_rate_scales_every_update():
    # ¾; then mean(max(a − ¾, 0)) = (¼ + 1¼)/4 more
    assert threshold(LTB(updates=2, batch_size=4, rate=0.5), VALUES) == 0.75 + 0.375


def test_later_layers_see_what_clipped_ones_give():
    # the second layer hears 0, 0, 1, 1.5: 2 · 2.5/4, where unclipped activations would give 2 · 3/4
    model = nn.Sequential(*(m for _ in range(2) for m in (nn.Linear(1, 1, bias=False), nn.ReLU())), nn.Linear(1, 1))
    nn.init.ones_(model[0].weight), nn.init.ones_(model[2].weight)
    snn = ts.convert(model, LTB(updates=1, batch_size=4), torch.tensor(VALUES)[:, None])
    assert [float(snn.graph[name].op.threshold) for name in ("1", "3")] == [1.5, 1.25]


def test_each_channel_has_its_own_mean():
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-2.0]]))
    settings = {"updates": 1, "batch_size": 4}
    channel, layer = (
        ts.convert(model, LTB(granularity=g, **settings), torch.tensor(VALUES)[:, None]).graph["1"].op.threshold
        for g in ("channel", "layer")
    )
    assert channel.flatten().tolist() == [1.5, 1.0]
    assert float(layer) == 1.25


def test_more_updates_clip_less(digits):
    def clipped(updates: int) -> list[float]:
        """The part of a layer's activation that lies above its thresholds."""
        snn, parts = digits.converted(LTB(updates=updates, pooling="lateral-inhibition")), []
        for name, (_, a) in activations(snn.source, digits.calibration).items():
            parts.append(float((a - snn.graph[name].op.threshold).clamp(min=0).sum() / a.sum()))
        return parts

    few, some, more = clipped(2), clipped(5), clipped(20)
    assert all(a > b > 2 * c > 0 for a, b, c in zip(few, some, more, strict=True))
    # the last layer's input grows while the layers before it clip less and less
    assert clipped(1)[-1] < few[-1]


def test_the_answer_is_the_mean_of_the_steps_after_the_delay(digits):
    snn = digits.converted(LTB(timesteps=32))
    delay = snn.readout.delay
    assert 2 <= delay <= 16
    plain = ts.simulate(digits.converted(LTB(timesteps=32, readout=AccumulatedMembrane())), digits.images[:32])
    answer = snn(digits.images[:32]).double()
    # sums of float32 logits: 1e-5 of their size
    assert torch.allclose(answer, later(plain, delay), rtol=1e-4, atol=1e-3)
    assert float((answer - plain.logits[-1]).abs().mean()) > 0.05


def test_the_delay_is_the_way_to_the_first_spike():
    # θ = 1.5, v(0) = ¾, and the mean activation ¾ takes one step to the first spike; from v(0) = 0 it takes two
    def delay(beta: float) -> int:
        model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
        nn.init.ones_(model[0].weight)
        settings = {"updates": 1, "batch_size": 4, "beta": beta}
        return ts.convert(model, LTB(**settings), torch.tensor(VALUES)[:, None]).readout.delay

    assert (delay(0.5), delay(0.0)) == (1, 2)


def test_it_starts_at_half_its_threshold():
    # one update on 0 … 1 gives θ = 1: the rounding staircase
    recipe = LTB(timesteps=8, updates=1, batch_size=65)
    z = torch.tensor([0.0625, 0.3125, 0.5, 0.9])
    assert alone(recipe, z).sum(0).tolist() == [1, 3, 4, 7]


def test_pooling_comes_before_the_neuron(digits):
    def pools(recipe: ts.core.recipe.Recipe) -> list[str]:
        graph = digits.converted(recipe).graph
        return [node.inputs[0] for node in graph if isinstance(node.op, CurrentMaximum)]

    assert pools(LTB()) == ["3.add"]
    assert pools(LTB(pooling="lateral-inhibition")) == []
