"""transpike train: every flag arrives, and a prepared network is found again by the other commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import transpike as ts
from commands import run
from measured import undecided
from stored import stored
from transpike import activations
from transpike.cli import _prepared, main
from transpike.workflow.train import save_weights


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an ordinary network."""
    path = tmp_path_factory.mktemp("train") / "plain.safetensors"
    save_weights(stored("small-cnn"), path, {})
    return path


@pytest.fixture(scope="module")
def prepared(plain: Path) -> Path:
    """From trained weights, whose activations begin the thresholds."""
    path = plain.with_name("qcfs.safetensors")
    words = ("--weights", plain, "--activation", "qcfs:levels=8", "--learning-rate", 0.02, "--batch-size", 64)
    run("train", *words, "--epochs", 1, "--output", path)
    return path


def test_a_prepared_network_is_trained_converted_and_evaluated(prepared: Path, tmp_path: Path) -> None:
    """At T = L a layer-synchronous network is its source, which is the one that was trained.

    To every sample but those with a value so near to the edge of a stair that rounding to float32 decides.
    """
    network = tmp_path / "net.transpike"
    words = ("--weights", prepared, "--recipe", "qcfs", "--timesteps", 8, "--schedule", "layer-synchronous")
    run("convert", *words, "--no-exact-grid", "--output", network)
    report = json.loads(run("evaluate", network, "--json").output)
    trained = json.loads(metadata(prepared)["facts"])["test_accuracy"]
    assert trained > 0.5  # networks at chance would be equal too
    snn, test = ts.load(network), ts.data.load("digits").test
    x, y = test.batch(torch.arange(len(test)))
    shown = snn.prepare(x)
    near = undecided(snn.source, shown)
    assert float(near.double().mean()) < 0.1  # else nothing is said
    answers = snn(x).argmax(1)
    assert torch.equal(answers[~near], snn.source.run(shown).argmax(1)[~near])
    room = float(near.double().mean()) + 1e-9
    assert report["ann"]["accuracy"] == pytest.approx(trained, abs=room)
    assert report["snn"]["curve"][-1]["accuracy"] == pytest.approx(float((answers == y).double().mean()), abs=1e-9)
    assert "quantised clip, 8 levels" in run("inspect", "--weights", prepared).output
    compared = ("compare", "--weights", prepared, "--recipes", "qcfs", "--timesteps", 8, "--limit", 50)
    assert "qcfs" in run(*compared, "--store", tmp_path / "store").output


def test_thresholds_begin_with_the_activations_of_the_trained_network(plain: Path, tmp_path: Path) -> None:
    words = ("train", "--weights", plain, "--activation", "qcfs", "--epochs", 1, "--learning-rate", 0)
    found = {}
    for name, flags in {"usual": (), "low": ("--percentile", 90), "own": ("--calibration-samples", 0)}.items():
        run(*words, *flags, "--output", tmp_path / f"{name}.safetensors")
        tensors = load_file(tmp_path / f"{name}.safetensors")
        found[name] = {key: float(value) for key, value in tensors.items() if key.endswith("thresh")}
    assert set(found["own"].values()) == {8.0} and len(found["own"]) >= 2
    assert all(0 < found["low"][key] < found["usual"][key] != 8 for key in found["own"])


def test_an_untrained_network_keeps_the_thresholds_of_its_activation(tmp_path: Path) -> None:
    words = ("--activation", "qcfs:threshold=3.5", "--epochs", 1, "--learning-rate", 0)
    run("train", *words, "--output", tmp_path / "net.safetensors")
    tensors = load_file(tmp_path / "net.safetensors")
    assert {float(value) for key, value in tensors.items() if key.endswith("thresh")} == {3.5}


def test_training_goes_on_from_prepared_weights(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "on.safetensors"
    run("train", "--weights", prepared, "--epochs", 1, "--learning-rate", 0.001, "--output", path)
    assert metadata(path)["prepare"] == metadata(prepared)["prepare"]
    words = ("train", "--weights", prepared, "--activation", "qcfs", "--epochs", 1, "--output", path)
    assert "is already prepared" in run(*words, code=2).output


def test_the_note_says_every_setting(prepared: Path) -> None:
    note = json.loads(metadata(prepared)["prepare"])
    assert note["activation"]["name"] == "qcfs"
    assert note["activation"]["settings"] | {"levels": 8, "threshold": 8.0} == note["activation"]["settings"]
    assert (note["pools"], note["input"], note["max_pool"]) == (False, None, "keep")
    notes = json.loads(metadata(prepared)["training"])["notes"]
    assert notes["prepare"] == metadata(prepared)["prepare"] and set(notes) <= {"prepare", "start"}


@pytest.mark.parametrize("name", sorted(set(activations.table) - {"expanded"}))
def test_every_activation_has_a_note_that_gives_it_back(name: str, tmp_path: Path) -> None:
    found = _prepared.from_flags(_prepared.activation_named(name), pools=True, max_pool="average")
    assert found is not None
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"prepare": found.note()})
    again = _prepared.noted(tmp_path / "w.safetensors")
    assert again == found
    model = ts.models.build("zoo:small-cnn", input_shape=(1, 8, 8))[0]
    one, two = found.apply(model), again.apply(model)
    x = torch.rand(2, 1, 8, 8)
    assert one.state_dict().keys() == two.state_dict().keys() and torch.equal(one(x), two(x))
    kind = activations.table[name]
    assert sum(isinstance(part, kind) for part in one.modules()) > sum(
        isinstance(part, kind) for part in ts.prepare(model, kind()).modules()
    )  # pools too


def test_all_of_prepare_comes_back_from_the_note(tmp_path: Path) -> None:
    path, network = tmp_path / "vr.safetensors", tmp_path / "net.transpike"
    words = ("--activation", "vr:timesteps=4:resolution=5", "--input-activation", "expanded:timesteps=4:resolution=5")
    plain = ("--mean", 0, "--std", 1)
    run(
        "train",
        *words,
        *plain,
        "--pools",
        "--max-pool",
        "average",
        "--epochs",
        2,
        "--learning-rate",
        0.05,
        "--output",
        path,
    )
    run("convert", "--weights", path, *plain, "--recipe", "vr", "--timesteps", 4, "--output", network)
    report = json.loads(run("evaluate", network, "--json").output)
    # two percent of samples have a value that rounding to float32 may lift over the edge of a stair
    trained = json.loads(metadata(path)["facts"])["test_accuracy"]
    assert report["ann"]["accuracy"] == pytest.approx(trained, abs=0.02)


def test_every_flag_arrives(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    words = {
        "epochs": 3, "optimiser": "adam", "learning-rate": 0.002, "momentum": 0.8, "batch-size": 100,
        "weight-decay": 0.001, "schedule": "step", "step-size": 2, "gamma": 0.3, "warmup-epochs": 1,
        "stages": "clip=2,quantise=3", "augment": "crop", "padding": "reflect", "cutout": 2, "label-smoothing": 0.05,
        "validation-fraction": 0.2, "precision": "bfloat16", "seed": 4,
    }  # fmt: skip
    flags = [word for key, value in words.items() for word in (f"--{key}", value)]
    run("train", "--activation", "qcfs", "--no-decay-thresholds", *flags, "--output", path)
    settings = json.loads(metadata(path)["training"])
    expected = {key.replace("-", "_"): value for key, value in words.items()} | {"stages": {"clip": 2, "quantise": 3}}
    assert expected == {key: settings[key] for key in expected}
    assert settings["decay_thresholds"] is False and settings["sync_batchnorm"] is False


def test_another_start_is_refused_by_a_checkpoint(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    words = ("train", "--weights", plain, "--activation", "qcfs:levels=4", "--epochs", 1, "--output", path)
    run(*words, "--percentile", 99)
    before = path.read_bytes()
    result = run(*words, "--percentile", 60, code=2)
    assert "belongs to a training with other settings: notes" in result.output and path.read_bytes() == before


def test_fixed_ranges_begin_where_trained_weights_want_them(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    run("train", "--weights", plain, "--activation", "vr", "--epochs", 1, "--learning-rate", 0, "--output", path)
    ranges = [float(t) for name, t in load_file(path).items() if name.endswith("thresh")]
    assert ranges and all(t != pytest.approx(0.8) for t in ranges)
    run("train", "--weights", plain, "--activation", "cq:threshold=2.5", "--epochs", 1, "--learning-rate", 0,
        "--output", tmp_path / "chosen.safetensors")  # fmt: skip
    chosen = load_file(tmp_path / "chosen.safetensors")
    assert {float(t) for name, t in chosen.items() if name.endswith("thresh")} == {2.5}


def test_a_sparse_training_tells_what_is_left(tmp_path: Path) -> None:
    words = ("--optimiser", "grad-r", "--epochs", 1, "--output", tmp_path / "net.safetensors")
    assert "total" in run("train", *words).output


def test_an_output_that_cannot_be_written_is_an_error_without_a_traceback(plain: Path) -> None:
    assert "error:" in run("train", "--epochs", 1, "--output", plain / "net.safetensors", code=5).output


@pytest.mark.parametrize(
    "words",
    [
        {"optimiser": "grad-r", "alpha": 0.02, "sparsity": 0.7, "weight-decay": 0.0},
        {"learn": "activations", "weight-decay": 1e-4},
    ],
)
def test_flags_of_sparse_training_and_of_what_learns_arrive(words: dict, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    flags = [word for key, value in words.items() for word in (f"--{key}", value)]
    run("train", "--activation", "qcfs", "--epochs", 1, *flags, "--output", path)
    settings = json.loads(metadata(path)["training"])
    assert {key: settings[key.replace("-", "_")] for key in words} == words


def test_the_last_stage_comes_back_too(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    words = ("--activation", "qcfs:levels=2:threshold=2", "--learning-rate", 0.05)
    run("train", *words, "--epochs", 2, "--stages", "clip=2", "--output", path)
    assert "learned clip" in (text := run("inspect", "--weights", path).output) and "2 levels" not in text
    run("train", "--weights", path, "--epochs", 1, "--learning-rate", 0, "--output", tmp_path / "on.safetensors")
    assert metadata(tmp_path / "on.safetensors")["prepare"] == metadata(path)["prepare"]


def test_a_killed_command_goes_on_and_another_activation_is_refused(tmp_path: Path, monkeypatch) -> None:
    from transpike.training.source import loop

    words = ("train", "--epochs", 3, "--learning-rate", 0.05, "--activation", "qcfs:levels=4:regulariser=0.2")
    run(*words, "--output", tmp_path / "whole.safetensors")
    epoch = loop.Loop.epoch
    monkeypatch.setattr(loop.Loop, "epoch", lambda self, number: epoch(self, number) if number < 3 else 1 / 0)
    CliRunner().invoke(main, [str(word) for word in (*words, "--output", tmp_path / "broken.safetensors")])
    monkeypatch.undo()
    assert not (tmp_path / "broken.safetensors").exists()
    text = run(*words, "--output", tmp_path / "broken.safetensors").output
    assert "epoch 3" in text and "epoch 2:" not in text and "penalty 0." in text
    whole, broken = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    other = [word.replace("levels=4", "levels=8") if isinstance(word, str) else word for word in words]
    text = run(*other, "--output", tmp_path / "whole.safetensors", code=2).output
    assert "belongs to a training with other settings" in text and "levels" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--activation", "qfcs"), "there is no activation named 'qfcs'"),
        (("--activation", "qcfs:level=3"), "it has levels"),
        (("--activation", "qcfs:levels=0"), "levels must be"),
        (("--activation", "qcfs:levels=many"), "not a valid integer"),
        (
            ("--activation", "ttfs", "--input-activation", "ttfs"),
            "clips negative inputs: train and convert with --mean 0 --std 1",
        ),
        (("--activation", "expanded"), "only be an --input-activation"),
        (("--pools",), "--pools without --activation has no effect"),
        (("--percentile", 99, "--max-pool", "keep"), "--max-pool, --percentile without --activation"),
        (("--activation", "qcfs", "--percentile", 99), "--percentile needs --calibration-samples"),
        (("--stages", "clip=2"), "no activation of the network has stages"),
        (("--activation", "qcfs", "--stages", "clip"), "like clip=3,quantise=5, not 'clip'"),
        (("--activation", "qcfs", "--stages", "round=1"), "not 'round'"),
        (("--optimiser", "adamw"), "adamw"),
        (("--gamma", 0.5), "need schedule='step'"),
        (("--precision", "float16"), "on cpu use bfloat16"),
        (("--augment", "rand-augment"), "not 1x8x8"),
    ],
)
def test_flags_that_make_no_sense(words: tuple, says: str, tmp_path: Path) -> None:
    assert says in " ".join(
        run("train", *words, "--epochs", 2, "--output", tmp_path / "x.safetensors", code=2).output.split()
    )


@pytest.mark.parametrize(
    "note", ["{", "[]", "{}", '{"activation": {"name": "qcfs"}}', '{"activation": {"name": "later"}, "input": null}',
             '{"activation": {"name": "qcfs", "settings": {"levels": 0}}, "input": null}',
             '{"activation": {"name": "qcfs", "settings": {"kind": 1}}, "input": null}',
             '{"activation": {"name": "qcfs"}, "input": null, "stage": "later"}',
             '{"activation": {"name": "qcfs"}, "input": null, "later": 1}']
)  # fmt: skip
def test_a_note_that_makes_no_sense_is_refused(note: str, prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(load_file(prepared), path, {**metadata(prepared), "prepare": note})
    text = run("convert", "--weights", path, "--output", tmp_path / "n.transpike", code=5).output
    assert "that this version of transpike does not support" in text


def test_weights_of_another_activation_do_not_fit(prepared: Path, tmp_path: Path) -> None:
    """Without its note the network has no thresholds."""
    path = tmp_path / "w.safetensors"
    save_file(load_file(prepared), path)
    assert "not in the network" in run("inspect", "--weights", path, code=5).output


def test_numbers_are_written_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'transpike[tensorboard]'")
    words = ("train", "--epochs", 2, "--learning-rate", 0.05, "--activation", "qcfs:regulariser=0.2")
    code = "import sys; from transpike.cli import main; main(sys.argv[1:])"  # its import warns of its own code
    flags = (*words, "--output", tmp_path / "net.safetensors", "--log", f"tensorboard:{tmp_path / 'board'}")
    subprocess.run([sys.executable, "-c", code, *map(str, flags)], check=True, capture_output=True)
    read = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1]).Reload()
print(json.dumps({tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}))
"""
    answer = subprocess.run(
        [sys.executable, "-c", read, tmp_path / "board"], check=True, capture_output=True, text=True
    )
    found = json.loads(answer.stdout)
    rows = [json.loads(line) for line in (tmp_path / "net.checkpoint.jsonl").read_text().splitlines()]
    names = {"train_loss": "loss/train", "validation_accuracy": "accuracy/validation", "penalty": "penalty"}
    for key, tag in names.items():
        assert found[tag] == [[row["epoch"], pytest.approx(row[key])] for row in rows]
    assert set(found) == {
        "learning_rate",
        "loss/train",
        "accuracy/train",
        "loss/validation",
        "accuracy/validation",
        "seconds",
        "penalty",
    }


def test_a_missing_tensorboard_is_told_before_the_training(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ("train", "--log", f"tensorboard:{tmp_path / 'board'}", "--output", tmp_path / "x.safetensors")
    assert "pip install tensorboard" in run(*words, code=2).output
    assert not list(tmp_path.iterdir())
