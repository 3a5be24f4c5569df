"""What of first spikes has no integer form, or no place in a format, is refused by name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn_slots import converted
from torch import nn

import transpike as ts
from transpike.core.recipe import Recipe
from transpike.encoders import Poisson
from transpike.errors import SettingError, UnsupportedModel
from transpike.lowering.whole_form import whole_form
from transpike.neurons.first_crossing import FirstCrossing
from transpike.neurons.first_spike import Retimed
from transpike.ops import Add
from transpike.workflow.export import trains_of


def _conv_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()


def _made(recipe: Recipe, **settings: object) -> ts.SNN:
    net, x = _conv_net(), torch.rand(16, 1, 8, 8)
    net(x)
    return ts.convert(net, recipe, x, **settings)


def _reason(snn: ts.SNN, timesteps: int = 8) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        whole_form(snn.program, timesteps)
    return str(caught.value)


def test_what_has_no_form_is_refused_by_name() -> None:
    latched = _reason(_made(ts.recipes.RueckauerLiu(timesteps=8)))
    assert re.search(r"^1 \(latched current, first\) has no integer form: a spike is a current.*cat", latched)
    exact = _reason(_made(ts.recipes.ExactMapping()), 1)
    assert re.search(r"^1 \(.*\) has no integer form: it fires at an exact time.*cat", exact), exact
    assert "exact_grid=True" in _reason(_made(ts.recipes.YOSO(timesteps=8), exact_grid=False))
    snn = _made(ts.recipes.YOSO(timesteps=8))
    other = replace(snn, encoder=Poisson(1.0))
    assert re.search(r"encoder Poisson .* time slots: use FirstSpikes\(\)", _reason(other))


def test_an_initial_charge_is_refused_by_name() -> None:
    snn = _made(ts.recipes.S4NN(timesteps=8, threshold=1.0))
    node = next(node for node in snn.graph if isinstance(node.op, FirstCrossing))
    charged = replace(node, op=replace(node.op, initial=torch.full((), 0.5)))
    found = _reason(replace(snn, graph=snn.graph.replaced(charged)))
    assert found.startswith("1 (first crossing) starts with charge") and "put it into the bias" in found


def test_a_delay_of_a_sum_is_refused_by_name() -> None:
    snn, _ = converted("linear kernel, shortcuts")
    graph = snn.graph
    late = next(node for node in graph if isinstance(node.op, Retimed))
    before = replace(late, name="twice", op=Add((1.0, 1.0)), inputs=(late.inputs[0], late.inputs[0]), origin=())
    nodes = []
    for node in graph:
        nodes += [before, replace(node, inputs=("twice",))] if node is late else [node]
    changed = replace(snn, graph=type(graph)(tuple(nodes)))
    found = _reason(changed)
    assert re.search(rf"{re.escape(late.name)} .*delays what twice .* directly after an activation", found), found


def test_another_number_of_slots_is_another_network(tmp_path: Path) -> None:
    snn = _made(ts.recipes.YOSO(timesteps=8))
    whole, x = whole_form(snn.program, 6), torch.rand(3, 1, 8, 8)
    assert (whole.window, whole.timesteps) == (6, 12)
    with pytest.raises(SettingError, match="a network with windows of 6 steps runs for 12 steps, not 8"):
        trains_of(snn, whole, x, 8)
    expected = trains_of(snn, whole, x, 12)[1]
    assert expected.levels["1"].shape[0] == 12 and ts.export(snn, tmp_path / "net", "golden", samples=x, timesteps=6)
    with pytest.raises(SettingError, match="8 slots, not 9"):
        ts.export(snn, tmp_path / "net", "golden", samples=x, timesteps=9)


def test_settings_and_silence_are_told(tmp_path: Path) -> None:
    snn = _made(ts.recipes.YOSO(timesteps=8))
    with pytest.raises(UnsupportedModel, match=r"first spikes: convert it with weight_bits=5"):
        ts.export(snn, tmp_path / "net", "c", samples=torch.rand(2, 1, 8, 8), weight_bits=5)
    model = _conv_net()
    model(torch.zeros(1, 1, 8, 8))
    model[0].bias.data.fill_(0.0)
    snn = ts.convert(model, ts.recipes.YOSO(timesteps=8), torch.rand(16, 1, 8, 8))
    silent = ts.export(snn, tmp_path / "net", "golden", samples=torch.zeros(2, 1, 8, 8))
    assert silent.verified and silent.warnings == (
        "0.00% of neurons spike, not at least 1 %, so equal spikes are weak evidence",
        "1 fire never or all in one slot on these samples, so their equality proves nothing",
    )
