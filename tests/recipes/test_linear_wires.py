"""Real numbers between two layers of weights: pairs of neurons, signed ones, merged layers, or none of these."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, assert_same_spikes, run, settle
from transpike.activations import ReLU, Unchanged
from transpike.core.codec import decode, encode
from transpike.core.pass_ import Context
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire, SignedEncoder
from transpike.ops import Add, Conv, Linear
from transpike.passes import MergeWeights
from transpike.recipes import ECC, Ceiling, FewSteps, WeightNormalisation

WIRES = ("pairs", "signed", "merge", "none")
STEPS = 6


class Bottlenecks(nn.Module):
    """Blocks of a 1×1 expansion, a depthwise convolution and a linear 1×1 convolution, with shortcuts around some."""

    def __init__(self, widths: list[int], strides: list[int], kernel: int, shift: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, width, stride in zip(widths, widths[1:], strides, strict=False):
            wide = before + 3
            body = [nn.Conv2d(before, wide, 1), nn.ReLU6(), nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide),
                    nn.ReLU6(), nn.Conv2d(wide, width, 1, bias=shift)]  # fmt: skip
            self.blocks.append(nn.Sequential(*body))
        self.head = nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            y = block(x)
            x = x + y if x.shape == y.shape else y
        return self.head(torch.relu(x).mean((2, 3)))


@st.composite
def bottlenecks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(draw(st.integers(0, 99)))
    width = draw(st.integers(2, 20))
    widths = [width, *(draw(st.sampled_from([width, width + 2])) for _ in range(draw(st.integers(2, 4))))]
    strides = [draw(st.sampled_from([1, 1, 2])) for _ in widths]
    model = Bottlenecks(widths, strides, draw(st.sampled_from([1, 3])), draw(st.booleans()))
    x = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    return settle(model, x), x


@settings(max_examples=20)
@given(bottlenecks(), st.sampled_from(WIRES))
def test_every_choice_gives_the_reference_s_spikes(case, wires):
    model, x = case
    snn = ts.convert(model, ECC(timesteps=STEPS, linear_wires=wires), x)
    if wires == "none" and snn.exactness.timesteps < STEPS:
        return  # two layers of weights share 24 bits, which is why there is a choice
    expected = run(snn, x[:2], "reference", STEPS)
    for engine in ENGINES:
        trace = run(snn, x[:2], engine, STEPS)
        assert_same_spikes(trace, expected)
        if engine == "event" and wires != "none":
            assert not [kernel for kernel in trace.kernels.values() if kernel.startswith("dense")]


@settings(max_examples=20)
@given(bottlenecks())
def test_merged_layers_compute_the_same_function_without_weights_behind_weights(case):
    model, x = case
    before = ts.capture(model, x)
    remarks: list[str] = []
    after = MergeWeights().apply(before, Context(before, (x,), timesteps=STEPS, remarks=remarks))
    expected = before.run(x)
    assert torch.allclose(after.run(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    weights = {node.name for node in after if isinstance(node.op, (Conv, Linear))}
    for node in after:
        if node.name in weights and node.op.weight.shape[2:].numel() == 1 and getattr(node.op, "groups", 1) == 1:
            sources = [after[name] for name in node.inputs]
            sources += [after[name] for source in sources if isinstance(source.op, Add) for name in source.inputs]
            assert not weights.intersection(source.name for source in sources)
    assert len(remarks) == (after is not before)


def test_three_linear_layers_become_one_and_biases_count_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 7), nn.Linear(7, 3)).eval()
    x = torch.randn(9, 4)
    before = ts.capture(model, x)
    after = MergeWeights().apply(before, Context(before, (x,), timesteps=STEPS, remarks=[]))
    assert sum(isinstance(node.op, Linear) for node in after) == 2
    assert torch.allclose(after.run(x), before.run(x), atol=1e-5)


def test_a_narrow_layer_between_wide_ones_is_not_merged():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 2), nn.Linear(2, 60)).eval()
    before = ts.capture(model, torch.randn(8, 60))
    context = Context(before, (torch.randn(8, 60),), timesteps=STEPS, remarks=[])
    assert MergeWeights().apply(before, context) is before


def test_networks_without_such_wires_are_the_same_whatever_is_chosen():
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 4, 1), nn.ReLU()]
    x = torch.rand(8, 2, 8, 8)
    model = settle(nn.Sequential(*body, nn.Flatten(), nn.Linear(36, 2)), x)
    first, *others = (run(ts.convert(model, ECC(timesteps=STEPS, linear_wires=wires), x), x, "dense", STEPS)
                      for wires in WIRES)  # fmt: skip
    for other in others:
        assert_same_spikes(first, other)
        assert torch.equal(first.logits, other.logits)


@pytest.mark.parametrize("kind", [ECC, FewSteps, Ceiling])
def test_files_without_the_setting_hold_what_these_recipes_did_before_it(kind):
    content = json.loads(json.dumps(encode(kind(timesteps=4), {}, "recipe")))
    assert decode(content, {}) == kind(timesteps=4)
    del content["fields"]["linear_wires"]
    assert decode(content, {}) == kind(timesteps=4, linear_wires="pairs" if kind is Ceiling else "none")


@pytest.mark.parametrize("kind", [ECC, FewSteps, Ceiling])
def test_other_words_are_refused(kind):
    with pytest.raises(
        SettingError, match="linear_wires must be one of 'pairs', 'signed', 'merge', 'none', not 'both'"
    ):
        kind(linear_wires="both")


@settings(max_examples=20)
@given(bottlenecks(), st.sampled_from([ECC, FewSteps, Ceiling]))
def test_signed_neurons_are_half_of_the_pairs_and_all_layers_add_spikes(case, kind):
    model, x = case
    signed, pairs, none = (
        ts.convert(model, kind(timesteps=STEPS, linear_wires=w), x) for w in ("signed", "pairs", "none")
    )
    encoders = [node for node in signed.graph if isinstance(node.op, SignedEncoder)]
    more = [len(snn.graph.cells) - len(none.graph.cells) for snn in (signed, pairs)]
    assert len(encoders) == more[0] and more[0] <= more[1] <= 2 * more[0]
    for node in encoders:
        assert torch.equal(node.op.initial, node.op.threshold / 2) or kind is FewSteps  # which calibrates it
    trace = ts.simulate(signed, x[:2], STEPS)
    assert trace.exact == (signed.exactness.timesteps >= STEPS)
    dense = [one for one in trace.kernels.values() if one.startswith("dense") and "fire too often" not in one]
    assert signed.schedule.mode != "steps" or not dense


def test_thresholds_of_signed_neurons_hold_values_of_either_sign():
    """Of wires that are mostly negative; a ReLU's threshold would be that of the few positive values."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)
    ).eval()
    with torch.no_grad():
        model[2].weight.copy_(-model[2].weight.abs())
        model[2].bias.fill_(0.05)
    x = torch.rand(200, 4)
    with torch.no_grad():
        values = model[:3](x)
    assert bool((values < 0).double().mean() > 0.8)
    largest = values.abs().amax(0)
    for recipe in (ECC.paper(granularity="channel"), Ceiling(), FewSteps(timesteps=64), WeightNormalisation()):
        recipe = dataclasses.replace(recipe, linear_wires="signed")
        (cell,) = [node.op for node in ts.convert(model, recipe, x).graph if isinstance(node.op, SignedEncoder)]
        ratio = cell.threshold.flatten() / largest
        assert bool((ratio > 0.5).all()), (recipe, ratio)


def test_signed_neurons_take_back_what_pairs_cannot():
    """Of a charge that comes too early and is taken back later a pair keeps the first part."""
    train = torch.tensor([1.0] * 6 + [-1.0] * 6)[:, None] / 2
    one, half = torch.tensor(1.0), torch.tensor(0.5)
    signed = SignedEncoder(Unchanged(), one, half).window(train).sum()
    positive, negative = (IntegrateAndFire(ReLU(), one, half).window(sign * train).sum() for sign in (1, -1))
    assert float(signed) == 0 and float(positive - negative) == 3


def test_calibrated_ceilings_have_smaller_errors():
    torch.manual_seed(0)
    x = torch.rand(64, 2, 6, 6)
    model = settle(Bottlenecks([8, 8, 8, 8], [1, 1, 1, 1], 3, True), x)
    with torch.no_grad():
        expected = model(x)
    plain, calibrated = (ts.convert(model, Ceiling(timesteps=4, calibrate=how), x) for how in ("none", "both"))
    errors = [float((snn(x) - expected).norm()) for snn in (plain, calibrated)]
    assert errors[1] < 0.95 * errors[0], errors
