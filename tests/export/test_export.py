"""What is written is run back and compared: equal, different, not verified, refused; files appear whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import transpike as ts
from commands import run
from exported import coarse, digits, plant
from stored import stored
from transpike.errors import FileError, GateFailed, SettingError
from transpike.exporters import Golden
from transpike.lowering.whole import Samples, Trains, Whole
from transpike.testing import check_exporter
from transpike.testing.faults import FAULTS

STEPS = 16


@pytest.fixture(scope="module")
def images() -> Tensor:
    data = ts.data.load("digits")
    return data.preprocessing(data.test.batch(torch.arange(4))[0])


@pytest.fixture(scope="module", params=["small-cnn", "residual", "three-neuron-layers"])
def network(request: pytest.FixtureRequest) -> ts.SNN:
    """With maximum pooling; with residuals, maximum and average pooling; with average pooling."""
    data = ts.data.load("digits")
    calibration = data.preprocessing(data.train.batch(torch.arange(128))[0])
    return ts.convert(stored(request.param), ts.recipes.ECC(timesteps=STEPS), calibration)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "net.transpike"
    ts.save(coarse(), path)
    return path


def test_golden_vectors_of_digits_are_equal(network: ts.SNN, images: Tensor, tmp_path: Path) -> None:
    result = ts.export(network, tmp_path / "golden", "golden", samples=images)
    assert result.verified and not result.missing and not result.warnings and result.samples == 4
    assert all(0.01 < layer.rate < 0.6 for layer in result.layers)
    found = json.loads((tmp_path / "golden" / "transpike-export.json").read_text())
    assert found == result.to_json() | {"path": str(tmp_path / "golden")} and found["verified"] is True


def test_the_checker_is_short_and_needs_numpy_only(network: ts.SNN, images: Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    ts.export(network, folder, "golden", samples=images, timesteps=4)
    text = (folder / "check.py").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 60 and "transpike" not in text
    command = [sys.executable, "-I", str(folder / "check.py")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with np.load(folder / "samples.npz") as stored_arrays:
        arrays = dict(stored_arrays)
    arrays["totals"][0, 0] += 1
    np.savez(folder / "samples.npz", **arrays)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 4


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('u >= arrays[layer["threshold"]]', 'u > arrays[layer["threshold"]] + 1'),
        ("- s * threshold", ""),
        ('arrays[layer["initial"]]', "0"),
        ("views.max(", "views.min("),
    ],
)
def test_a_fault_in_the_written_program_is_found(
    before: str, after: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Golden.write

    def spoiled(self: Golden, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        write(self, whole, path, samples, expected)
        text = (path / "check.py").read_text(encoding="utf-8")
        assert before in text
        (path / "check.py").write_text(text.replace(before, after), encoding="utf-8")

    monkeypatch.setattr(Golden, "write", spoiled)
    with pytest.raises(GateFailed, match=r"golden differs .* first in layer .*, step \d+, neuron \(.*\), sample \d: "):
        ts.export(ts.load(file), tmp_path / "golden", "golden", samples=digits(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_exits_with_4_and_leaves_nothing(
    name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, Golden, name)
    words = ("export", file, "--to", "golden:mem=no", "--output", tmp_path / "golden", "--samples", 3)
    text = run(*words, code=4).stderr
    assert ("golden differs from transpike in" in text) != ("although all spikes are equal" in text)
    assert not list(tmp_path.iterdir())


def test_every_law_of_exporters_holds_for_golden() -> None:
    check_exporter(Golden(mem=False))


def test_the_command_says_what_was_compared(file: Path, tmp_path: Path) -> None:
    words = ("export", file, "--to", "golden", "--output", tmp_path / "golden", "--samples", 3, "--timesteps", 8)
    assert "run back and equal" in run(*words).stdout
    found = json.loads(run(*words, "--json").stdout)  # over its own output
    assert found["verified"] and found["samples"] == 3 and found["timesteps"] == 8 and found["spikes"] > 1000


def test_what_cannot_be_run_back_is_never_called_equal(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Golden, "missing", lambda self: "numpy is not installed: pip install numpy")
    words = ("export", file, "--to", "golden", "--output", tmp_path / "golden", "--samples", 2)
    text = run(*words).stdout
    assert "not verified: numpy is not installed" in text and "equal" not in text
    found = json.loads(run(*words, "--json").stdout)
    assert found["verified"] is False and "pip install" in found["missing"]
    assert json.loads((tmp_path / "golden" / "transpike-export.json").read_text())["verified"] is False


def test_a_comparison_that_cannot_tell_thresholds_apart_says_so(file: Path, tmp_path: Path) -> None:
    """In the coarse network potentials often equal a threshold; with thresholds between the grid steps they never do."""
    words = ("export", file, "--to", "golden:mem=no", "--output", tmp_path / "golden", "--samples", 3)
    assert "note: no potential" not in run(*words).stdout and json.loads(run(*words, "--json").stdout)["ties"] > 100
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    x = torch.rand(16, 4)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=4), x)
    result = ts.export(snn, tmp_path / "fine", "golden", samples=x[:2])
    assert result.verified and result.ties == 0 and not result.warnings
    assert "note: no potential was ever exactly at a threshold on these samples, so > and ≥ could not" in str(result)


def test_silence_is_no_proof(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    model[0].bias.data.fill_(0.0)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=STEPS), torch.rand(16, 4))
    result = ts.export(snn, tmp_path / "golden", "golden", samples=torch.zeros(2, 4), timesteps=4)
    assert result.verified and "weak evidence" in result.warnings[0] and "proves nothing" in result.warnings[1]
    assert "warning: " in str(result)


def test_folders_of_others_are_not_replaced(file: Path, tmp_path: Path) -> None:
    snn = ts.load(file)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file", "no/folder"):
        with pytest.raises(FileError):
            ts.export(snn, tmp_path / name, "golden", samples=digits(2))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "file"}


def test_formats_and_settings_have_names(file: Path, tmp_path: Path) -> None:
    snn = ts.load(file)
    with pytest.raises(SettingError, match=r"net.xyz belongs to no format.*golden"):
        ts.export(snn, tmp_path / "net.xyz", samples=digits(2))
    with pytest.raises(SettingError, match=r"there is no exporter named 'goldn' .did you mean 'golden'"):
        ts.export(snn, tmp_path / "net", "goldn", samples=digits(2))
    with pytest.raises(SettingError, match="Golden has no setting 'memory'"):
        ts.export(snn, tmp_path / "net", "golden", samples=digits(2), memory=False)
    assert "no setting" in run("export", file, "--to", "golden:memory=1", "--output", tmp_path / "net", code=2).stderr


def test_samples_are_limited(file: Path, tmp_path: Path) -> None:
    data = ts.data.load("digits")
    snn = ts.load(file)
    result = ts.export(snn, tmp_path / "a", "golden", samples=data.test.batches(2), limit=3, timesteps=2, mem=False)
    assert result.samples == 3
