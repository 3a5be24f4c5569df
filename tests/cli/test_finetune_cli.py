"""transpike finetune: from a saved network to a saved network."""

import json
from pathlib import Path

import pytest

import transpike as ts
from commands import run
from stored import stored


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    digits = ts.data.load("digits")
    snn = ts.convert(stored("two-layers"), ts.recipes.ECC(timesteps=2, beta=0.0), digits.train.batches(100, limit=200),
                     preprocessing=digits.preprocessing)  # fmt: skip
    return ts.save(snn, tmp_path_factory.mktemp("cli") / "net.transpike")


def test_a_saved_network_is_tuned_and_saved(network, tmp_path):
    output = tmp_path / "tuned.transpike"
    words = ("finetune", network, "--epochs", 2, "--train", "weights", "--train", "leaks", "--surrogate", "triangle",
             "--learning-rate", 2e-3, "--output", output, "--threads", 1)  # fmt: skip
    facts = json.loads(run(*words, "--json").output)
    assert facts["settings"]["train"] == ["weights", "leaks"] and facts["settings"]["surrogate"][0] == "Triangle"
    assert len(facts["history"]) == 2 and facts["grid"]["samples"] == 126
    assert ts.load(output).provenance["fine_tuning"][0]["history"] == facts["history"]
    again = run(*words)  # the checkpoint is finished: it only measures
    assert f"{facts['grid']['accuracy_on']:.2%}" in again.output and "epoch 1:" not in again.output
    assert "fine-tuned at T=2" in run("inspect", output).output


def test_presets_give_what_no_flag_says(network, tmp_path):
    words = (
        "finetune",
        network,
        "--preset",
        "hybrid-stdb",
        "--epochs",
        1,
        "--output",
        tmp_path / "a.transpike",
        "--json",
    )
    settings = json.loads(run(*words).output)["settings"]
    assert settings["optimiser"] == "amsgrad" and settings["weight_decay"] == 5e-4 and settings["epochs"] == 1


@pytest.mark.parametrize("wrong", [("--epochs", 0), ("--surrogate", "square"), ("--learning-rate", "nan")])
def test_what_makes_no_sense_is_a_usage_error(network, tmp_path, wrong):
    assert "rror" in run("finetune", network, *wrong, "--output", tmp_path / "b.transpike", code=2).output
