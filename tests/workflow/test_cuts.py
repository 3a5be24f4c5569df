"""Every cut of a network from one run, next to the hybrid networks that they are."""

import json

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from stored import stored
from transpike.errors import SettingError
from transpike.workflow.cuts.places import patterns, places

STEPS = 8
RECIPES = {
    "streaming": ts.recipes.ECC(timesteps=STEPS),
    "differences": ts.recipes.StreamingSigmaDelta(timesteps=STEPS),
    "windows": ts.recipes.ECC(timesteps=STEPS, schedule=ts.schedules.LayerSynchronous()),
}


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = ts.data.load("digits")
    x, y = data.test.batch(torch.arange(60))
    return data.preprocessing(x), y


@pytest.mark.parametrize("name", RECIPES)
def test_a_cut_is_the_hybrid_network_that_converts_its_layers(name, digits):
    x, y = digits
    model = stored("small-cnn")
    models = (ts.energy.Operations(), ts.energy.Lemaire())
    snn = ts.convert(model, RECIPES[name], x)
    found = ts.cuts(snn, (x, y), answers=(4, STEPS), models=models)
    assert [row.behind for row in found.rows[1::2]] == ["relu", "relu_1", "relu_2", "linear"]
    for row in found.rows:
        if row.kind == "cut":
            made = ts.convert(model, RECIPES[name], x, spiking=row.sides.spiking)
            report = ts.evaluate(made, (x, y), answers=(4, STEPS), energy=models)
            assert row.value == report.at(row.timesteps).accuracy and row.total_steps == made.total_steps(row.timesteps)
            if row.timesteps == STEPS:
                assert row.sides == report.hybrid
    plain = ts.evaluate(snn, (x, y), answers=(4, STEPS), energy=models)
    for row in found.rows[-2:]:
        answer = plain.at(row.timesteps)
        assert (row.kind, row.value, row.low, row.high) == ("spiking", answer.accuracy, answer.low, answer.high)
        assert row.sides.synaptic_operations == answer.synaptic_operations
        assert row.joule("operations") == pytest.approx(answer.energy_joule["operations"])
    assert found.ann.value == plain.ann_accuracy and found.ann.sides.analogue_macs == plain.ann_macs


def test_batches_do_not_matter_and_the_limit_counts_samples(digits):
    x, y = digits
    snn = ts.convert(stored("small-cnn"), RECIPES["streaming"], x)
    whole = ts.cuts(snn, (x, y), limit=40)
    parts = ts.cuts(snn, list(zip(x.split(16), y.split(16), strict=True)), limit=40)
    assert whole.samples == parts.samples == 40 and whole.rows == parts.rows


class Branches(nn.Module):
    """A shortcut passes by a layer, and the outputs of three layers are joined, of which one has been cut before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Linear(8, 16), nn.Linear(16, 6), nn.Linear(16, 6)
        self.body, self.head = nn.Linear(28, 28), nn.Linear(28, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([x, torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        x = torch.relu(x + self.body(x))
        return self.head(x).softmax(1)


def test_a_network_is_cut_where_one_wire_leaves_the_spiking_part():
    torch.manual_seed(0)
    x = torch.rand(40, 8)
    snn = ts.convert(Branches(), ts.recipes.ECC(timesteps=STEPS), x)
    found = places(snn)
    assert [place.name for place in found] == ["relu", "cat", "relu_3", "head"]
    assert found[1].snn.spiking == ("stem", "relu", "left", "relu_1", "right", "relu_2", "cat")
    result = ts.cuts(snn, x, task=ts.tasks.Fidelity())
    assert [row.kind for row in result.rows] == ["analogue", "cut", "cut", "cut", "spiking"]
    for place, row in zip(found[:-1], result.rows[1:-1], strict=True):
        made = ts.convert(Branches(), ts.recipes.ECC(timesteps=STEPS), x, spiking=row.sides.spiking)
        assert {node.name for node in made.graph} == {node.name for node in place.snn.graph}
        measured = ts.evaluate(place.snn, x, task=ts.tasks.Fidelity(), energy=ts.energy.Operations())
        assert row.value == pytest.approx(measured.final.score[0], rel=1e-5)
        assert row.sides == measured.hybrid
    assert [one.layer for one in result.rows[2].sides.boundaries] == ["relu", "relu_1", "relu_2"]


def test_smooth_activations_that_have_neurons_are_places_to_cut_too():
    """Capture keeps SiLU as an analogue operator, and only recipes with a neuron for it make it spike."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.SiLU(), nn.Linear(12, 10), nn.GELU(), nn.Linear(10, 5)).eval()
    x = torch.randn(40, 8)
    recipe = ts.recipes.StreamingSigmaDelta(timesteps=STEPS)
    found = places(ts.convert(model, recipe, x))
    assert [place.name for place in found] == ["1", "3", "4"]
    for place in found[:-1]:
        assert torch.equal(place.snn(x), ts.convert(model, recipe, x, spiking=place.snn.spiking)(x))


def test_functions_behind_the_last_layers_are_no_part_to_cut_off():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5), nn.ReLU(), nn.Softmax(1))
    found = places(ts.convert(model, ts.recipes.ECC(timesteps=STEPS), torch.rand(40, 8)))
    assert [(place.name, place.snn.is_hybrid) for place in found] == [("1", True), ("3", False)]


def test_patterns_are_whole_modules_where_they_can(digits):
    source = ts.convert(stored("three-neuron-layers"), RECIPES["streaming"], digits[0]).source
    assert patterns(source, ("0", "1", "2")) == ("0", "1", "2")
    inner = ts.convert(nn.Sequential(stored("three-neuron-layers"), nn.ReLU()), RECIPES["streaming"], digits[0]).source
    assert patterns(inner, [node.name for node in inner if node.name.startswith("0.")]) == ("0",)


def test_the_front_and_the_proposal_follow_their_definitions(digits):
    x, y = digits
    found = ts.cuts(ts.convert(stored("small-cnn"), RECIPES["streaming"], x), (x, y), answers=(1, 2, 4, 8))
    front = found.front()
    for row in found.rows:
        beaten = any(o.joule("operations") < row.joule("operations") and o.value >= row.value for o in found.rows)
        assert not (beaten and row in front)
        if row not in front:
            assert any(o.joule("operations") <= row.joule("operations") and o.value >= row.value for o in front)
    best = found.proposed()
    good = [row for row in found.rows if row.value >= found.ann.value - 0.005]
    assert best.joule("operations") == min(row.joule("operations") for row in good)


@pytest.mark.parametrize("ending", [".html", ".json", ".txt", ".csv", ".md", ".tex", ".png"])
def test_cuts_are_saved_in_every_form(ending, digits, tmp_path):
    x, y = digits
    found = ts.cuts(ts.convert(stored("small-cnn"), RECIPES["streaming"], x), (x, y), limit=20)
    path = ts.report.save(found, tmp_path / f"cuts{ending}")
    assert path.stat().st_size > 200
    if ending == ".json":
        content = json.loads(path.read_text())
        assert [row["behind"] for row in content["rows"]] == ["", "relu", "relu_1", "relu_2", "linear"]
        assert content["proposed"]["operations"] in [row.title for row in found.rows]
    if ending in (".html", ".txt"):
        assert "nearly as good as the ANN" in path.read_text()


def test_what_cannot_be_cut_is_refused(digits):
    x, y = digits
    hybrid = ts.convert(stored("small-cnn"), "ecc", x, spiking=["conv1", "bn1", "relu"])
    with pytest.raises(SettingError, match="cuts does not support hybrid networks"):
        ts.cuts(hybrid, (x, y))
    slots = ts.convert(stored("without-norms"), "t2fsnn", x)
    with pytest.raises(SettingError, match="layers answer at different times"):
        ts.cuts(slots, (x, y))
    with pytest.raises(SettingError, match="at least one"):
        ts.cuts(ts.convert(stored("small-cnn"), "ecc", x), (x, y), models=())
