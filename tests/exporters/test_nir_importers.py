"""Other simulators, where they are installed, compute every spike from our NIR files; what they do not is refused."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from nir_networks import Case, averaged, beats, digits, joined, residual, stated, strided

from transpike.errors import SettingError
from transpike.exporters import Nir
from transpike.exporters.nir_file.importers import IMPORTERS, carries

pytest.importorskip("nir", reason="nir is not installed: pip install 'transpike[nir]'")


def _benchmark() -> ModuleType:
    place = Path(__file__).resolve().parents[2] / "benchmarks/nir_importers.py"
    specification = importlib.util.spec_from_file_location("nir_importers", place)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()
CASES = {
    "average pooling": lambda reset: digits(averaged, reset),
    "residual": lambda reset: digits(residual, reset),
    "strided shortcut": lambda reset: digits(strided, reset),
    "one axis": beats,
    "two ways into the output": lambda reset: joined("subtract" if reset == "soft" else "zero"),
    "with v(0)": lambda reset: stated(9, "subtract" if reset == "soft" else "zero"),
}


def differ(name: str, one: Case, path: Path, dtype: torch.dtype = torch.float32, **settings: str) -> int:
    """The spikes and totals that differ in an importer."""
    Nir(profile=one.profile, **settings).write(one.whole, path, one.samples, one.expected)
    found = BENCHMARK.compared(one.expected, BENCHMARK.imported(name, path, one.samples, dtype))
    return found.differ + found.totals


@pytest.fixture(params=IMPORTERS)
def importer(request: pytest.FixtureRequest) -> str:
    if reason := BENCHMARK.missing(request.param):
        pytest.skip(reason)
    return request.param


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("name", CASES)
def test_an_importer_computes_every_spike_or_is_refused(importer: str, name: str, reset: str, tmp_path: Path) -> None:
    one = CASES[name](reset)
    if carries(importer, one.whole):
        assert differ(importer, one, tmp_path / "net.nir") > 0  # the refusal is needed
    else:
        assert differ(importer, one, tmp_path / "net.nir", importer=importer) == 0


def test_an_importer_in_float64_computes_every_spike(importer: str, tmp_path: Path) -> None:
    one, path = digits(averaged, "hard"), tmp_path / "net.nir"
    if not IMPORTERS[importer].float64:
        with pytest.raises(SettingError, match="snnTorch adds in float32 only"):
            differ(importer, one, path, importer=importer, precision="float64")
        return
    assert differ(importer, one, path, torch.float64, importer=importer, precision="float64") == 0


def test_thresholds_on_the_grid_would_be_read_in_two_ways(importer: str, tmp_path: Path) -> None:
    one, path = stated(0, "zero"), tmp_path / "net.nir"
    assert differ(importer, one, path) == 0
    BENCHMARK.without_margin(path)
    found = BENCHMARK.compared(one.expected, BENCHMARK.imported(importer, path, one.samples))
    assert (found.differ == 0) == (importer == "spikingjelly")  # which fires at the threshold, the others above it
