"""What the plug-in adds keeps transpike's laws and works from conversion to a file, in Python and on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import transpike as ts
from transpike import testing
from transpike.cli import main

pytest.importorskip("transpike_example", reason="the example is not installed: pip install --editable examples/plugin")

from transpike_example.balanced import Balanced
from transpike_example.neuron import Refractory
from transpike_example.operator import HardShrink
from transpike_example.recipe import Cautious, UseRefractory
from transpike_example.task import Margin

# Hides the distribution from Python, as if it were not installed. Its modules could still be imported, and are not.
WITHOUT = """
import importlib.metadata as metadata
find = metadata.MetadataPathFinder.find_distributions
def others(*arguments):
    return (one for one in find(*arguments) if one.metadata["Name"] != "transpike-example-plugin")
metadata.MetadataPathFinder.find_distributions = staticmethod(others)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)


def transpike(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    split = ts.data.load("stripes").train
    return split.images, split.labels


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2)
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(model, data, tmp_path_factory) -> Path:
    return ts.save(ts.convert(model, Cautious(timesteps=8), data[0]), tmp_path_factory.mktemp("nets") / "net.transpike")


def test_each_part_keeps_the_laws():
    testing.check_neuron(Refractory(ts.activations.ReLU(), torch.tensor(1.0), torch.tensor(0.5), rest=2), (3,))
    testing.check_op(HardShrink(0.5), (4,), module=nn.Hardshrink())
    testing.check_pass(UseRefractory())
    testing.check_recipe(Cautious(timesteps=8))
    testing.check_energy_model(ts.energy.table["event-router"]())
    testing.check_task(Margin(0.2))
    testing.check_task(Balanced())
    testing.check_chip(ts.chips.load("toy-chip"))
    testing.check_dataset("stripes")


def test_a_refractory_neuron_never_spikes_twice_in_a_row():
    neuron = Refractory(ts.activations.ReLU(), torch.tensor(1.0), torch.tensor(0.0), rest=1)
    train = neuron.window(torch.full((6, 1, 1), 1.0)).flatten().tolist()
    assert train == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]


def test_the_margin_decides_what_is_right():
    output, target = torch.tensor([[1.0, 0.8], [0.2, 1.0]]), torch.tensor([0, 1])
    assert Margin(0.1).outcomes(output, target).tolist() == [True, True]
    assert Margin(0.5).outcomes(output, target).tolist() == [False, True]


def test_rare_classes_count_as_much_as_frequent_ones():
    answers, target = torch.tensor([0, 0, 0, 1, 0, 2]), torch.tensor([0, 0, 0, 0, 1, 2])  # recalls 3/4, 0/1, 1/1
    rows = Balanced().rows(torch.eye(4)[answers], target)
    assert Balanced().from_rows(rows).tolist() == pytest.approx([7 / 12, 0.0])
    assert Balanced().from_rows(rows[:3]).tolist() == [1.0, 1.0]  # classes without a target have no recall
    perfect = Balanced().rows(torch.eye(4)[target], target)
    assert Balanced().gain(perfect, rows)[0] == pytest.approx(5 / 12)


def test_the_measured_task_evaluates_compares_and_trains(model, data):
    snn = ts.convert(model, Cautious(timesteps=8), data[0])
    result = ts.evaluate(snn, data, task=Balanced())
    answers, right = snn.source.run(data[0]).argmax(1), []
    for c in data[1].unique():
        right.append((answers[data[1] == c] == c).double().mean())
    assert result.ann["balanced accuracy"].value == pytest.approx(float(torch.stack(right).mean()))
    assert result.ann["smallest recall"].value == pytest.approx(float(torch.stack(right).min()))
    settings = ts.ComparisonSettings(timesteps=(8,), task=Balanced())
    row = ts.compare(model, [Cautious()], data[0], settings, data=[data]).measured[0]
    assert row.value == result.final.metrics["balanced accuracy"].value
    ecc = ts.convert(model, ts.recipes.ECC(timesteps=4), data[0])
    tuned = ts.finetune(ecc, data, epochs=1, task=Balanced())
    assert tuned.provenance["fine_tuning"][-1]["settings"]["task"] == "balanced"


def test_the_recipe_is_compared_with_ours(model, data):
    settings = ts.ComparisonSettings(timesteps=(4, 8), energy=(ts.energy.table["event-router"](),), task=Margin(0.01))
    found = ts.compare(model, [Cautious(), ts.recipes.ECC()], data[0], settings, data=[data])
    assert {row.recipe.partition("(")[0] for row in found.rows} == {"cautious", "ecc"}


def test_an_operator_of_the_plug_in_is_captured_and_saved(data, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.Hardshrink(), nn.Linear(8, 2))
    snn = ts.convert(model, ts.recipes.ECC(timesteps=4), data[0])
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert torch.equal(snn(data[0]), loaded(data[0]))


def test_another_process_reads_the_file(saved, data):
    code = "import sys, torch, transpike as ts; x = ts.data.load('stripes').train.images[:4]; snn = ts.load(sys.argv[1]); print(snn(x).tolist())"
    answer = python(code, str(saved))
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == ts.load(saved)(data[0][:4]).tolist()


def test_without_the_plug_in_the_file_names_it(saved):
    answer = python(WITHOUT + "import sys, transpike as ts; ts.load(sys.argv[1])", str(saved))
    message = answer.stderr.strip().splitlines()[-1]
    assert answer.returncode == 1 and message.startswith("transpike.errors.FileError")
    assert (
        "of the plug-in transpike-example-plugin 0.1.0, which is not installed: install transpike-example-plugin"
        in message
    )


def test_the_command_line_has_its_names(tmp_path):
    doctor = transpike("doctor")
    assert "plug-in example of transpike-example-plugin 0.1.0: loaded" in doctor.stdout
    net = str(tmp_path / "net.transpike")
    convert = (
        "convert", "--recipe", "cautious", "--rest", "2", "--model", "zoo:small-cnn", "--data", "stripes", "--timesteps", "4",
        "--calibration-samples", "32", "--output", net, "--json",
    )  # fmt: skip
    made = python(
        "from transpike.cli import main; main()", *convert
    )  # a process that has imported nothing of the plug-in
    assert made.returncode == 0, made.stderr
    assert "rest=2" in json.loads(made.stdout)["recipe"]
    run = transpike(
        "evaluate", net, "--data", "stripes", "--task", "margin:margin=0.05", "--energy", "event-router", "--json"
    )
    assert run.exit_code == 0, run.stderr
    assert "event-router" in run.stdout and json.loads(run.stdout)["task"] == "margin(margin=0.05)"
    measured = transpike("evaluate", net, "--data", "stripes", "--task", "balanced")
    assert measured.exit_code == 0 and "balanced accuracy" in measured.stdout, measured.stderr
    fit = transpike("inspect", net, "--fit", "toy-chip", "--json")
    assert fit.exit_code in (0, 4) and "Toy chip" in fit.stdout, fit.stderr
