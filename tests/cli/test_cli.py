"""The command line as a user meets it: what it prints, what it writes, how it exits."""

import json
from pathlib import Path
from typing import Any

import pytest

import transpike as ts
from commands import run


@pytest.fixture(scope="module")
def network(trained: Path) -> Path:
    path = trained.with_name("net.transpike")
    run("convert", "--weights", trained, "--timesteps", 32, "--output", path)
    return path


def test_demo_does_the_whole_job(tmp_path: Path) -> None:
    result = run("demo", "--epochs", 2, "--timesteps", 8, "--output-dir", tmp_path, "--threads", 1)
    assert "lateral inhibition" in result.output and "ANN" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert [answer["timesteps"] for answer in report["snn"]["curve"]] == list(range(1, 9))
    assert report["samples"] >= 500 and report["layer_synchronous"]["snn"]["total_steps"] == 8 * 4
    assert (tmp_path / "accuracy.png").read_bytes()[:4] == b"\x89PNG"


def test_evaluate_prints_every_number_as_json(network: Path) -> None:
    report = json.loads(run("evaluate", network, "--limit", 100, "--json").output)
    assert report["schema"] == 2 and report["samples"] == 100
    assert {"accuracy", "macs"} <= report["ann"].keys()
    assert report["snn"]["timesteps"] == report["snn"]["total_steps"] == 32 and len(report["snn"]["curve"]) == 32
    assert {"name", "op", "neurons", "spike_rate", "spikes", "synaptic_operations"} <= report["layers"][0].keys()
    assert report["synaptic_operations"] == pytest.approx(sum(row["synaptic_operations"] for row in report["layers"]))
    assert report["exact"]["holds"] and report["macs"] > 0


def test_evaluate_gives_the_same_numbers_for_any_batch_and_memory(network: Path) -> None:
    first = json.loads(run("evaluate", network, "--limit", 60, "--json").output)
    second = json.loads(run("evaluate", network, "--limit", 60, "--batch-size", 7, "--memory", "1MiB", "--json").output)
    for one, other in zip(first.pop("fidelity"), second.pop("fidelity"), strict=True):  # float32 answers of the ANN
        assert one == pytest.approx(other, rel=1e-4)
    assert first == second


def test_evaluate_writes_reports(network: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"r.{ending}" for ending in ("json", "txt", "png", "svg")]
    words = [word for file in files for word in ("--report", file)]
    assert "Accuracy over time" in run("evaluate", network, "--limit", 40, *words).output
    assert all(file.stat().st_size for file in files)


def test_a_gate_that_fails_exits_with_4(network: Path) -> None:
    run("evaluate", network, "--limit", 50, "--timesteps", 1, "--max-drop", -101, code=4)


def test_inspect_prints_one_line_per_layer(network: Path, trained: Path) -> None:
    before, after = run("inspect", "--weights", trained).output, run("inspect", network).output
    assert "batch_norm" in before and "max_pool 2×2" in before and "conv2d 3×3" in before
    assert "IF soft reset" in after and "θ" in after and "%" in after
    assert json.loads(run("inspect", network, "--json").output)["macs"] > 100_000


def test_verify_compares_engines(network: Path) -> None:
    text = run("verify", network).output
    assert "layers equal" in text and "pool " in text and "not exact" not in text


def test_verify_sees_other_spikes_behind_equal_sums(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate = ts.simulate

    def shuffled(snn: ts.SNN, *arguments: Any, engine: str, **settings: Any) -> ts.Trace:
        trace = simulate(snn, *arguments, engine=engine, **settings)
        if engine == "dense":
            trace.trains.update({"relu_1": trace.trains["relu_1"].flip(1)})
        return trace

    monkeypatch.setattr("transpike.workflow.verify.simulate", shuffled)
    assert "engines differ in relu_1" in run("verify", network, code=4).output


def test_verify_says_why_engines_may_differ(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "snm.transpike"
    run("convert", "--weights", trained, "--timesteps", 8, "--recipe", "snm", "--output", path)
    text = run("verify", path).output
    assert "differs in" in text and "not exact, so engines may differ: float32 is too narrow" in text


def test_parts_of_a_recipe_have_settings_too(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "held.transpike"
    words = ("convert", "--weights", trained, "--timesteps", 8, "--output", path, "--schedule")
    run(*words, "layer-synchronous:wait_steps=2")
    assert ts.load(path).schedule == ts.schedules.LayerSynchronous(2)
    assert "it has settle, wait-steps" in run(*words, "layer-synchronous:wait=2", code=2).output
    assert "not a valid integer" in run(*words, "layer-synchronous:wait_steps=x", code=2).output
    assert "must be wait_steps=value, given once" in run(*words, "layer-synchronous:wait_steps", code=2).output


def test_a_gate_of_no_number_is_refused(network: Path) -> None:
    assert (
        "--max-drop takes percentage points"
        in run("evaluate", network, "--limit", 5, "--max-drop", "nan", code=2).output
    )


def test_answers_that_are_no_numbers_are_refused(network: Path) -> None:
    assert "8,16,32" in run("evaluate", network, "--answers", "8,soon", code=2).output


def test_layer_synchronous_answers_are_those_asked_for(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "sync.transpike"
    run("convert", "--weights", trained, "--timesteps", 16, "--schedule", "layer-synchronous", "--output", path)
    report = json.loads(run("evaluate", path, "--limit", 50, "--answers", "4,16", "--json").output)
    assert [(a["timesteps"], a["total_steps"]) for a in report["snn"]["curve"]] == [(4, 16), (16, 64)]


def test_every_recipe_flag_arrives(trained: Path, tmp_path: Path) -> None:
    words = ("--percentile", 100, "--granularity", "layer", "--beta", 0.25, "--weight-bits", 8, "--pooling", "before-neuron",
             "--encoder", "counts", "--readout", "spike-count")  # fmt: skip
    text = run("convert", "--weights", trained, *words, "--output", tmp_path / "n.transpike").output
    for expected in (
        "percentile=100.0",
        "granularity='layer'",
        "beta=0.25",
        "weight_bits=8",
        "DeterministicCounts",
        "SpikeCount",
    ):
        assert expected in text


RECIPES = "ecc,weight-normalisation,ecc:percentile=99.99;granularity=layer;weight-bits=8;schedule=layer-synchronous"


def test_compare_picks_writes_and_reports(trained: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.transpike"
    words = ("compare", "--weights", trained, "--recipes", RECIPES, "--timesteps", "4,8", "--limit", 80, "--store", tmp_path / "store",
             "--report", tmp_path / "c.png", "--report", tmp_path / "c.txt", "--report", tmp_path / "c.json")  # fmt: skip
    found = json.loads(run(*words, "--pick", "max=accuracy", "--output", best, "--json").stdout)
    assert len(found["rows"]) == 6 and found["samples"] == 80
    layer = found["rows"][-1]["settings"]["fields"]
    assert layer["percentile"] == 99.99 and layer["granularity"] == "layer" and layer["weight_bits"] == 8
    assert layer["schedule"]["type"] == "LayerSynchronous" and layer["timesteps"] == 8
    picked = found["picked"]
    assert picked["accuracy"] == max(row["accuracy"] for row in found["rows"])
    report = json.loads(run("evaluate", best, "--limit", 80, "--json").stdout)
    assert report["snn"]["accuracy"] == picked["accuracy"] and report["snn"]["total_steps"] == picked["total_steps"]
    assert report["provenance"]["metrics"]["recipe"] == picked["recipe"] and report["provenance"]["data"] == "digits"
    again = run(*words, "--pick", "max=accuracy", "--output", best)
    assert (
        f"selected {picked['recipe']} at T={picked['timesteps']}" in again.output and "Within 1 point" in again.output
    )
    saved = json.loads((tmp_path / "c.json").read_text())
    assert saved["rows"] == found["rows"]  # seconds too: nothing ran again
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG" and "ecc()" in (tmp_path / "c.txt").read_text()
    missed = run(*words, "--pick", "steps<=3 min=synops", code=4).output
    assert "nearest" in missed and "total" in missed


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--recipes", "nonsense"), "weight-normalisation"),
        (("--recipes", "ecc:percentle=9"), "has no setting 'percentle'"),
        (("--recipes", "ecc:timesteps=9"), "has no setting 'timesteps'"),
        (("--recipes", "ecc:percentile=high"), "not a valid float"),
        (("--recipes", "ecc:granularity=pixel"), "channel"),
        (("--recipes", "ecc,ecc"), "twice"),
        (("--timesteps", "4,many"), "comma-separated positive integers"),
        (("--pick", "dorp<=1 min=steps"), "dorp<=1"),
        (("--output", "best.transpike"), "--pick"),
        (("--recipes", "ecc:reset=hard;beta=0.5"), "hard reset"),
    ],
)
def test_compare_refuses_what_makes_no_sense(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    assert text in run("compare", "--store", tmp_path, *words, code=2).output


def test_untrained_networks_are_remarked(tmp_path: Path) -> None:
    assert "untrained" in run("convert", "--timesteps", 4, "--output", tmp_path / "n.transpike").output


def test_models_that_cannot_be_converted_exit_with_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.SiLU(), nn.GELU())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run("convert", "--model", "py:odd:make", "--output", tmp_path / "n.transpike", code=3)
    assert "silu" in result.output and "gelu" in result.output and "--on-unsupported keep" in result.output
    assert not (tmp_path / "n.transpike").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("convert", "--timesteps", "0", "--output", "x"), "timesteps must be"),
        (("convert", "--beta", "1.5", "--output", "x"), "beta must be"),
        (("convert", "--reset", "hard", "--beta", "0.5", "--output", "x"), "hard reset"),
        (("convert", "--model", "zoo:resnet99", "--output", "x"), "resnet"),
        (("convert", "--data", "cifra10", "--output", "x"), "cifar10"),
        (("convert", "--recipe", "nonsense", "--output", "x"), "ecc"),
        (("evaluate", "x", "--memory", "lots"), "a size like 2GiB"),
        (("convert", "--mean", "1,2", "--output", "x"), "2 channels"),
    ],
)
def test_usage_errors_exit_with_2_and_say_what_to_do(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    words = tuple(str(tmp_path / "x") if word == "x" else word for word in words)
    assert text in run(*words, code=2).output
