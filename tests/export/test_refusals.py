"""What has no integer form is refused by the name of its layer, with the reason and the remedy."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import transpike as ts
from transpike.activations import QuantisedClip
from transpike.core.graph import Node
from transpike.core.naming import is_ours
from transpike.core.recipe import Recipe
from transpike.errors import DataError, SettingError, UnsupportedModel
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import peaks, run_whole
from transpike.neurons import IntegrateAndFire
from transpike.readouts import DelayedWindow
from transpike.recipes import BSNN, DCGS, ECC, PASCAL, TSC, StreamingSigmaDelta
from transpike.snn import SNN
from transpike.testing._networks import network
from transpike.workflow.export import trains_of

STEPS = 8


def model(pool: nn.Module | None = None, last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), pool or nn.AvgPool2d(2), last or nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)).eval()


def made(recipe: Recipe, net: nn.Module | None = None, **settings: object) -> SNN:
    net, x = net or model(), torch.rand(16, 1, 8, 8)
    net(x)
    return ts.convert(net, recipe, x, **settings)


def reason(snn: SNN, timesteps: int = STEPS) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        whole_form(snn.program, timesteps)
    return str(caught.value)


def test_no_grid_and_too_few_steps() -> None:
    assert "exact_grid=True" in reason(made(ECC(timesteps=STEPS), exact_grid=False))
    snn = made(ECC(timesteps=STEPS))
    assert re.search("not on a grid for 1000000000 steps.*export fewer steps", reason(snn, 10**9))


def pooled(layer: nn.Module) -> nn.Module:
    return model(layer)


def two_convolutions() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3)).eval()


def smooth() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.SiLU(), nn.Linear(12, 3)).eval()


def stairs() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), QuantisedClip(4, 1.0), nn.Linear(12, 3)).eval()


REFUSED: dict[str, tuple[Recipe, nn.Module | None, str]] = {
    "switches": (TSC(timesteps=STEPS), None, r"^1 .switch.*two spikes.*ecc in whole windows has the same counts"),
    "divided differences": (DCGS(timesteps=STEPS), None, "divided by t.*sigma-delta"),
    "phase cycles": (BSNN(timesteps=STEPS), None, r"PhaseCycles.*such as ecc"),
    "another function": (StreamingSigmaDelta(timesteps=STEPS), smooth(), "^2 .*sigma-delta of silu.*one or two pieces"),
    "settling": (PASCAL(timesteps=4), stairs(), r"LayerSynchronous.*silent steps: use schedule=LayerSynchronous\(\)"),
    "gated pooling": (ECC(timesteps=STEPS, pooling="gated"), pooled(nn.MaxPool2d(2)), "^2 .*gated.*lateral-inhibition"),
    "pooling of currents": (
        ECC(timesteps=STEPS, pooling="before-neuron"), two_convolutions(), "^3 .*currents.*lateral-inhibition",
    ),
    "windows over the edge": (ECC(timesteps=STEPS), pooled(nn.MaxPool2d(3, 2, ceil_mode=True)), "^2 .*ceil_mode=False"),
    "windows with gaps": (ECC(timesteps=STEPS), pooled(nn.MaxPool2d(2, dilation=2)), "^2 .*dilation=1"),
    "maximum after a sum": (
        ECC(timesteps=STEPS), nn.Sequential(*model()[:3], nn.MaxPool2d(2), *[nn.Conv2d(4, 4, 2), *model()[4:]]),
        "directly after an activation",
    ),
    "excluded steps": (ECC(timesteps=STEPS, readout=DelayedWindow(delay=STEPS)), None, "excludes the first 8 steps"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_named(name: str) -> None:
    recipe, net, expected = REFUSED[name]
    found = reason(made(recipe, net), recipe.timesteps)
    assert re.search(expected, found), found


HELD = {
    "ecmt", "spikezip",
    "cat", "linear-ttfs", "s4nn", "t2fsnn", "yoso", "adafire", "burst", "burst-digits", "ceiling", "error-compensation", "fast-snn", "group-neuron", "h-mt", "sigma-delta", "vr", "cq", "cq-plus", "datta-beerel", "deng-gu", "diehl-model", "ecc", "few-steps", "ltb", "opi", "qcfs", "rmp", "rnl",
    "rueckauer", "slip-relu", "snn-calibration", "spike-norm", "tcl", "threshold-balancing", "weight-normalisation",
}  # fmt: skip
NEITHER = {"cao", "exact-mapping", "pascal", "snm"}
"""Recipes that do not take the network of this test, or have no grid on it."""


@pytest.mark.parametrize("name", sorted(name for name, kind in ts.recipes.table.items() if is_ours(kind.__module__)))
def test_every_recipe_is_equal_or_refused_by_name(name: str) -> None:
    if name in NEITHER:
        return
    kind = ts.recipes.table[name]
    net, x = network(kind(timesteps=STEPS).training_free)
    snn = ts.convert(net, kind(timesteps=STEPS), x)
    if name not in HELD:
        text = reason(snn)
        assert re.search(r"^(\d[\w.]* \(.+\)|\w+\(.*\)) has no integer form", text)
        assert re.search("use a |the recipe ecc", text)
        return
    whole = whole_form(snn.program, STEPS)
    samples, expected = trains_of(snn, whole, x[:3], whole.timesteps)
    found = run_whole(whole, samples)
    assert all(np.array_equal(found.levels[key], train) for key, train in expected.levels.items())
    assert np.array_equal(found.totals, expected.totals)
    assert all(peak <= whole.table[key].bound.max() for key, peak in peaks(whole, samples).items())


def test_a_leak_and_a_cell_of_others() -> None:
    snn = made(ECC(timesteps=STEPS))

    def leaky(node: Node) -> Node | None:
        return replace(node, op=replace(node.op, leak=0.5)) if isinstance(node.op, IntegrateAndFire) else None

    assert re.search("^1 .*leak 0.5.*convert with leak=1", reason(replace(snn, graph=snn.graph.rewrite(leaky))))


def test_inputs_beyond_the_grid_and_too_many_steps() -> None:
    snn = made(ECC(timesteps=STEPS)).accepting_any_input()
    whole = whole_form(snn.program, STEPS)
    with pytest.raises(DataError, match="far beyond those of the calibration"):
        samples_of(snn.program, whole, 100 * torch.ones(1, 1, 8, 8), torch.arange(1), STEPS)
    with pytest.raises(SettingError, match=f"from 1 to {STEPS}"):
        samples_of(snn.program, whole, torch.ones(1, 1, 8, 8), torch.arange(1), STEPS + 1)
