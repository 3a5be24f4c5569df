"""Flags for the preprocessing of inputs, on every command that takes data."""

import json
from pathlib import Path

import pytest
import torch

import transpike as ts
from commands import run
from stored import stored
from transpike.recipes import ECC
from transpike.workflow.train import save_weights

DIGITS = ts.data.load("digits")
NORMAL = DIGITS.preprocessing
FLAGS = ("--mean", ",".join(map(str, NORMAL.mean)), "--std", ",".join(map(str, NORMAL.std)))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without preprocessing, converted on normalised images."""
    images = NORMAL(DIGITS.train.batch(torch.arange(200))[0])
    snn = ts.convert(stored("two-layers"), ECC(4), images)
    return ts.save(snn, tmp_path_factory.mktemp("inputs") / "net.transpike")


COMMANDS = {
    "evaluate": ("--limit", 64),
    "energy": ("--limit", 64),
    "explain": ("--samples", 64, "--no-changes"),
    "report": ("--limit", 64, "--without", "spikes", "--without", "explain"),
    "verify": ("--samples", 8),
    "exit": ("--drop", 30, "--fit-samples", 100, "--limit", 64),
    "finetune": ("--epochs", 1),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_raw_images_are_refused_and_the_flags_normalise_them(command: str, network: Path, tmp_path: Path) -> None:
    words = [command, network, *COMMANDS[command]]
    if command in ("report", "exit", "finetune"):
        words += ["--output", tmp_path / ("page.html" if command == "report" else "new.transpike")]
    refused = run(*words, code=5).output
    assert "raw 0..255" in refused and "--mean" in refused and "--any-input" in refused
    assert not list(tmp_path.glob("*.transpike")) + list(tmp_path.glob("*.html"))
    assert "Warning" not in run(*words, *FLAGS).output
    if command in ("exit", "finetune"):  # what they write knows its preprocessing
        assert ts.load(tmp_path / "new.transpike").preprocessing == NORMAL


def test_all_ways_to_name_a_preprocessing_agree(network: Path) -> None:
    def accuracy(*flags: object) -> float:
        return json.loads(run("evaluate", network, "--limit", 64, "--json", *flags).output)["snn"]["accuracy"]

    assert accuracy(*FLAGS) == accuracy("--preprocessing", "data") == accuracy("--preprocessing", "unit", *FLAGS) > 0.5


def test_any_input_goes_on_with_a_warning_first(network: Path, tmp_path: Path) -> None:
    result = run("evaluate", network, "--limit", 64, "--any-input", "--report", tmp_path / "r.html")
    assert result.output.startswith("Warning: the inputs differ") and "Accuracy over time" in result.output
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.index("Warning: the inputs differ") < page.index("<h2>")
    found = json.loads(run("evaluate", network, "--limit", 64, "--any-input", "--json").output)
    assert found["warnings"] and found["snn"]["curve"]


def test_inspect_says_what_is_unknown(network: Path) -> None:
    assert "preprocessing: unknown; calibrated on 200 samples" in run("inspect", network).output
    found = json.loads(run("inspect", network, "--json").output)
    assert found["preprocessing"] == "unknown" and found["calibration_inputs"]["samples"] == 200


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mean", "a"), "--mean takes comma-separated numbers"),
        (("--mean", "0.1,0.2"), "preprocessing has 2 channels, digits has 1"),
        (("--preprocessing", "imagenet"), "preprocessing has 3 channels, digits has 1"),
        (("--preprocessing", "nothing"), "not one of"),
        (("--std", "0"), "std"),
    ],
)
def test_a_wrong_preprocessing_is_a_usage_error(network: Path, flags: tuple[str, str], message: str) -> None:
    assert message in run("evaluate", network, *flags, code=2).output


def test_commands_with_a_model_take_a_name_too(tmp_path: Path) -> None:
    weights = tmp_path / "cnn.safetensors"
    save_weights(stored("small-cnn"), weights)
    words = ("convert", "--weights", weights, "--timesteps", 4, "--output", tmp_path / "net.transpike")
    run(*words, "--preprocessing", "unit")
    assert ts.load(tmp_path / "net.transpike").preprocessing == ts.Preprocessing()
    run(*words, "--preprocessing", "mnist", "--std", "0.5")
    assert ts.load(tmp_path / "net.transpike").preprocessing == ts.Preprocessing((0.1307,), (0.5,))
