"""The trained networks that come with the package are what their catalogue says."""

import hashlib
import importlib.util
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import transpike as ts
from transpike.cli import main
from transpike.data.named import directory
from transpike.errors import CheckpointError, FileError, SettingError
from transpike.models import _pretrained

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE: dict[str, Any] = json.loads((_pretrained.FOLDER / "catalogue.json").read_text(encoding="utf-8"))
NAMES = sorted(CATALOGUE)
CONVERTED = [name for name in NAMES if CATALOGUE[name]["converted"]]
MOST = 20 * 2**20
"""Bytes of all files, in every wheel."""


def benchmark(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def same(found: torch.Tensor, wanted: list[list[float]], tolerance: float) -> bool:
    expected = torch.tensor(wanted)
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def test_the_folder_holds_the_files_of_the_catalogue_and_their_licences_and_is_small() -> None:
    files = {path.name: path.read_bytes() for path in _pretrained.FOLDER.iterdir()}
    both = [one for entry in CATALOGUE.values() for one in (entry["weights"], entry["converted"]) if one]
    listed = {one["file"]: one for one in both}
    assert files.keys() == {*listed, "catalogue.json", "LICENCES.md"} and len(listed) == len(both)
    for name, one in listed.items():
        assert (one["bytes"], one["sha256"]) == (len(files[name]), hashlib.sha256(files[name]).hexdigest())
    assert sum(map(len, files.values())) <= MOST
    licences = files["LICENCES.md"].decode()
    assert all(f"`{name}`" in licences for name in CATALOGUE)


def test_names_are_those_of_the_zoo() -> None:
    assert {*ts.models.pretrained()} == {*NAMES} <= {*ts.models.models}


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_says_where_it_is_from_and_what_it_is_worth(name: str) -> None:
    one = ts.models.pretrained()[name]
    assert one.licence and one.data_licence and one.source and one.test_set
    assert one.training["command"] == f"python benchmarks/zoo.py --only {name}"
    assert one.ann.samples == one.snn.samples and 0 < one.snn.interval[0] < one.snn.accuracy < one.snn.interval[1]
    best = next(row for row in one.conversion["compared"] if row["candidate"] == one.conversion["candidate"])
    close = [row for row in one.conversion["compared"] if row["points_lost"] <= 1]
    assert not close or best["synaptic_operations"] == min(row["synaptic_operations"] for row in close)


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_give_the_stored_answers(name: str) -> None:
    entry = CATALOGUE[name]
    model, spec = ts.models.build(f"zoo:{name}", weights="pretrained")
    assert not model.training and spec.input_shape == tuple(entry["input_shape"])
    assert list(spec.preprocessing.mean) == entry["preprocessing"]["mean"]
    assert sum(value.numel() for value in model.parameters()) == entry["parameters"]
    frames = name == "events-cnn"
    x = benchmark("zoo").pattern((10, *spec.input_shape) if frames else spec.input_shape, frames)
    with torch.no_grad():
        assert same(model(x.mean(1) if frames else spec.preprocessing(x)), entry["check"]["ann"], 1e-3)


@pytest.mark.parametrize("name", CONVERTED)
def test_the_converted_network_gives_the_stored_answers(name: str) -> None:
    entry = CATALOGUE[name]
    snn = ts.load(f"zoo:{name}")
    made = entry["conversion"]
    assert (str(snn.recipe), snn.timesteps, snn.total_steps()) == (
        made["recipe"], made["timesteps"], made["total_steps"],
    )  # fmt: skip
    assert snn.provenance["weights"] == entry["weights"]["file"] and snn.provenance["data_options"] == (
        {"bins": 10} if name == "events-cnn" else {}
    )
    shape = (10, *entry["input_shape"]) if name == "events-cnn" else tuple(entry["input_shape"])
    x = benchmark("zoo").pattern(shape, name == "events-cnn")
    assert same(snn.accepting_any_input()(x), entry["check"]["snn"], 1e-4 if made["exact"] else 1e-2)


@pytest.mark.parametrize("name", CONVERTED)
def test_the_first_test_samples_are_answered_as_measured(name: str, request: pytest.FixtureRequest) -> None:
    entry, plan = CATALOGUE[name], benchmark("zoo").PLANS[name]
    folder = None if entry["data"] == "digits" else request.getfixturevalue("data_directory")
    if entry["data"] == "mitbih":
        pytest.importorskip("scipy")
    if plan.archive and not (directory(folder) / plan.archive).exists():
        pytest.skip(f"no {plan.archive} in {directory(folder)}")
    source = f"npz:{directory(folder) / plan.archive}" if plan.archive else plan.data
    try:
        data = ts.data.load(source, folder, **entry["data_options"])
    except ts.TranspikeError as error:
        pytest.skip(f"no {entry['data']}: {error}")
    first = entry["check"]["first"]
    snn = ts.load(f"zoo:{name}")
    found = ts.evaluate(snn, data.test.batches(first["samples"], limit=first["samples"]), answers=(snn.timesteps,))
    assert abs(round(found.ann_accuracy * found.samples) - first["ann"]) <= 1
    assert abs(round(found.final.accuracy * found.samples) - first["snn"]) <= (0 if entry["conversion"]["exact"] else 1)


def test_the_digits_are_answered_as_measured_and_a_new_conversion_answers_the_same() -> None:
    entry = CATALOGUE["small-cnn"]
    snn, data = ts.load("zoo:small-cnn"), ts.data.load("digits")
    test = data.test.batches(135)
    found = ts.evaluate(snn, test, answers=(snn.timesteps,))
    assert found.samples == entry["snn"]["samples"] == len(data.test)
    assert round(found.final.accuracy * found.samples) == entry["snn"]["correct"]
    assert abs(round(found.ann_accuracy * found.samples) - entry["ann"]["correct"]) <= 1
    zoo = benchmark("zoo")
    _, calibration = zoo.loaded(zoo.PLANS["small-cnn"], None)
    model, spec = ts.models.build("zoo:small-cnn", weights="pretrained")
    again = ts.evaluate(
        zoo.converted(model, snn.recipe, calibration, spec.preprocessing), test, answers=(snn.timesteps,)
    )
    differ = found.outcomes[snn.timesteps] != again.outcomes[snn.timesteps]
    assert int(differ.sum()) <= 2  # thresholds of another machine differ in their last bits


def test_a_network_without_trained_weights_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(SettingError, match=r"no trained 'vgg16' comes with transpike.*known: .*small-cnn"):
        ts.models.build("zoo:vgg16", weights="pretrained")
    with pytest.raises(SettingError, match=r"no trained 'small-cn' .*did you mean 'small-cnn'"):
        ts.load("zoo:small-cn")
    with pytest.raises(SettingError, match=r"only networks of the zoo.*use \"default\""):
        ts.models.build("timm:resnet18", weights="pretrained")


@pytest.mark.parametrize("name", sorted({*NAMES} - {*CONVERTED}))
def test_a_network_that_comes_with_weights_alone_says_how_to_convert_it(name: str) -> None:
    with pytest.raises(
        SettingError, match=f"{name} comes with weights alone.*make it with transpike convert"
    ) as refused:
        ts.load(f"zoo:{name}")
    words = shlex.split(str(refused.value).rpartition("make it with transpike ")[2])
    with main.make_context("transpike", words) as group:  # which leaves them to the command, and that reads them
        convert = main.get_command(group, "convert")
        assert convert is not None
        parsed = convert.make_context("convert", words[1:], parent=group).params
    assert parsed["weights"] is not None and parsed["timesteps"] == CATALOGUE[name]["conversion"]["timesteps"]
    assert {"layer-synchronous", "membrane"} <= {*words}
    shown = CliRunner().invoke(main, ["models", name])
    assert shown.exit_code == 0 and "not in the package, because it is large" in shown.output


def test_other_classes_and_channels_than_those_of_the_training_are_refused() -> None:
    with pytest.raises(SettingError, match="the trained zoo:small-cnn has 10 classes, not 7"):
        ts.models.build("zoo:small-cnn", weights="pretrained", num_classes=7)
    with pytest.raises(SettingError, match="the trained zoo:small-cnn has 1 input channels, not 3"):
        ts.models.build("zoo:small-cnn", weights="pretrained", input_shape=(3, 8, 8))
    model, spec = ts.models.build("small-cnn", weights="pretrained", num_classes=10, input_shape=(1, 12, 12))
    assert spec.input_shape == (1, 12, 12) and model(torch.zeros(1, 1, 12, 12)).shape == (1, 10)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of trained networks, in which files may be damaged."""
    folder = Path(shutil.copytree(_pretrained.FOLDER, tmp_path / "zoo"))
    monkeypatch.setattr(_pretrained, "FOLDER", folder)
    return folder


def test_a_changed_file_is_refused_with_both_hashes(copy: Path) -> None:
    entry = CATALOGUE["small-cnn"]
    for key, error, use in (
        ("weights", CheckpointError, lambda: ts.models.build("zoo:small-cnn", weights="pretrained")),
        ("converted", FileError, lambda: ts.load("zoo:small-cnn")),
    ):
        path = copy / entry[key]["file"]
        content = bytearray(path.read_bytes())
        use()
        content[-1] ^= 1
        path.write_bytes(content)
        wrong = hashlib.sha256(content).hexdigest()
        with pytest.raises(error, match=f"{wrong}.*{entry[key]['sha256']}.*install transpike again"):
            use()
        path.unlink()
        with pytest.raises(error, match=r"No such file.*install transpike again"):
            use()


@pytest.mark.parametrize("text", ["{", "[]", '{"small-cnn": {}}', '{"small-cnn": 3}'])
def test_a_damaged_catalogue_is_an_error(text: str, copy: Path) -> None:
    (copy / "catalogue.json").write_text(text)
    with pytest.raises(FileError, match=r"catalogue.json is missing or damaged.*install transpike again"):
        ts.models.pretrained()


def test_the_page_says_what_was_measured() -> None:
    page = benchmark("zoo_page").page()
    assert page == (ROOT / "docs/zoo.md").read_text(encoding="utf-8"), "run benchmarks/zoo_page.py"


# command line


def run(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="transpike")
    assert result.exit_code == code, result.output
    return result


def test_models_lists_all_networks_and_shows_one() -> None:
    lines = run("models").stdout.splitlines()
    assert len(lines) == len(ts.models.models)
    entry = CATALOGUE["small-cnn"]
    accuracy = f"{entry['ann']['correct'] / entry['ann']['samples']:.1%}"
    assert any(line.startswith("small-cnn") and "digits" in line and accuracy in line for line in lines)
    assert len(run("models", "--pretrained").stdout.splitlines()) == len(NAMES)
    listed = {one["name"]: one for one in json.loads(run("models", "--json").stdout)}
    assert listed["small-cnn"]["pretrained"]["weights"] == entry["weights"] and "pretrained" not in listed["vgg16"]
    text = run("models", "zoo:small-cnn").stdout
    assert entry["weights"]["sha256"] in text and entry["conversion"]["verdict"] in text and entry["licence"] in text
    content = json.loads(run("models", "small-cnn", "--json").stdout)
    assert content["snn"]["correct"] == entry["snn"]["correct"] and content["converted"] == entry["converted"]
    assert "known: " in run("models", "vgg16", code=2).stderr
    assert "omit one" in run("models", "small-cnn", "--pretrained", code=2).stderr


def test_commands_take_trained_weights_and_converted_networks(tmp_path: Path) -> None:
    file = tmp_path / "net.transpike"
    run("convert", "--weights", "pretrained", "--model", "small-cnn", "--recipe", "ecc", "--timesteps", 4,
        "--calibration-samples", 64, "--output", file)  # fmt: skip
    assert ts.load(file).provenance["weights"] == CATALOGUE["small-cnn"]["weights"]["file"]
    found = json.loads(run("evaluate", "zoo:small-cnn", "--limit", 40, "--json").stdout)
    first = CATALOGUE["small-cnn"]["check"]["first"]
    assert round(40 * found["snn"]["accuracy"]) == first["snn"]
    assert "conv1" in run("inspect", "zoo:small-cnn").stdout
    assert "no trained 'vgg16'" in run("inspect", "--model", "zoo:vgg16", "--weights", "pretrained", code=2).stderr


def test_a_configuration_gives_network_and_weights(tmp_path: Path) -> None:
    """In any order of its lines, and --weights before --model."""
    file = tmp_path / "options.toml"
    file.write_text('weights = "pretrained"\nmodel = "zoo:small-cnn"\n')
    assert "conv1" in run("inspect", "--config", file).stdout


def test_a_file_called_pretrained_is_read_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").write_bytes(b"no weights")
    run("inspect", "--weights", "pretrained")
    assert "is not a safetensors file" in run("inspect", "--weights", "./pretrained", code=5).stderr
