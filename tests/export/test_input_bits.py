"""An input of integers: the network computes the same function of the pixels, and its file takes them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from commands import run
from stored import stored
from transpike.encoders import Poisson
from transpike.errors import GateFailed, SettingError
from transpike.exporters import Golden
from transpike.lowering.whole import Samples, Trains, Whole
from transpike.lowering.whole_form import whole_form
from transpike.lowering.whole_run import charge_of
from transpike.recipes import ECC
from transpike.snn import SNN
from transpike.workflow.export import trains_of

STEPS = 12


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Bytes, as data sets have them."""
    return ts.data.load("digits").test.batch(torch.arange(300))[0]


def made(pixels: Tensor, bits: int | None, name: str = "residual") -> SNN:
    preprocessing = ts.data.load("digits").preprocessing
    return ts.convert(stored(name), ECC(timesteps=STEPS), pixels, preprocessing=preprocessing, input_bits=bits)


@pytest.mark.parametrize("name", ["small-cnn", "fully-connected"])
def test_bytes_stay_what_they_are(name: str, pixels: Tensor) -> None:
    before, after = made(pixels, None, name), made(pixels, 8, name)
    assert torch.equal(after.prepare(pixels), pixels.float())
    assert torch.equal(after.prepare(pixels.float() / 255), pixels.float())
    expected, found = before.source.run(before.prepare(pixels)), after.source.run(after.prepare(pixels))
    assert float((expected - found).abs().max()) < 1e-4 * float(expected.abs().max())
    same = before(pixels).argmax(1) == after(pixels).argmax(1)
    assert float(same.float().mean()) > 0.98


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("name", ["residual", "fully-connected"])
def test_currents_are_whole_numbers_of_the_pixels(name: str, bits: int, pixels: Tensor, tmp_path: Path) -> None:
    snn = made(pixels, bits, name)
    whole = whole_form(snn.program, STEPS, snn.preprocessing.whole)
    samples, _ = trains_of(snn, whole, pixels[:3], STEPS)
    entrance = whole.entrances[0]
    assert entrance.front is not None and (entrance.front.low, entrance.front.high) == (0, 2**bits - 1)
    raw = samples.raw[entrance.front.name]
    assert raw.max() > 2 ** (bits - 1) and np.array_equal(raw, snn.prepare(pixels[:3]).numpy())
    assert np.array_equal(charge_of(entrance.front, raw), samples.entering[entrance.name])
    ts.save(snn, tmp_path / "net.transpike")
    again = ts.load(tmp_path / "net.transpike")
    assert torch.equal(again(pixels[:9]), snn(pixels[:9])) and again.preprocessing == snn.preprocessing


def test_every_engine_fires_the_same(pixels: Tensor) -> None:
    snn = made(pixels, 8)
    traces = [snn.run(pixels[:3], STEPS, engine=name) for name in ("reference", "dense", "event")]
    assert all(trace.exact and torch.equal(trace.logits, traces[0].logits) for trace in traces)


def test_the_checker_starts_from_pixels(pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snn = made(pixels, 8)
    assert ts.export(snn, tmp_path / "golden", "golden", samples=pixels[:3]).verified
    with np.load(tmp_path / "golden" / "samples.npz") as stored_arrays:
        arrays = {key: value for key, value in stored_arrays.items() if not key.endswith(".current")}
    np.savez(tmp_path / "golden" / "samples.npz", **arrays)
    assert np.array_equal(arrays["raw.input"], pixels[:3].numpy())
    command = [sys.executable, "-I", str(tmp_path / "golden" / "check.py")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    write = Golden.write

    def faulty(self: Golden, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        entrance = whole.entrances[0]
        weight = entrance.front.term.weight + (1 << 14)  # half a unit of the charge
        front = replace(entrance.front, term=replace(entrance.front.term, weight=weight))
        write(self, replace(whole, entrances=(replace(entrance, front=front),)), path, samples, expected)

    monkeypatch.setattr(Golden, "write", faulty)
    with pytest.raises(GateFailed, match="golden differs"):
        ts.export(snn, tmp_path / "other", "golden", samples=pixels[:3])


def test_signals_are_multiples_of_a_power_of_two(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    x = torch.randn(32, 2, 16)
    snn = ts.convert(model, ECC(timesteps=STEPS), x, input_bits=8)
    largest = float(x.abs().max())
    unit = 2.0 ** (np.ceil(np.log2(largest)) - 8)
    assert torch.equal(snn.prepare(x), (x / unit).round()) and snn.preprocessing.whole == (-256, 256)
    assert ts.export(snn, tmp_path / "golden", "golden", samples=x[:3]).verified


def test_what_cannot_be_whole_is_refused(pixels: Tensor, tmp_path: Path) -> None:
    for bits in (0, 17, 2.5, True):
        with pytest.raises(SettingError, match="from 1 to 16"):
            made(pixels, bits)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="constant current"):
        ts.convert(stored("residual"), ECC(timesteps=8, encoder=Poisson()), pixels, input_bits=8)
    with pytest.raises(SettingError, match="input_bits"):
        made(pixels, 8).with_preprocessing(ts.Preprocessing())


def test_the_command_line_has_it(tmp_path: Path) -> None:
    words = ("convert", "--data", "digits", "--input-bits", 8, "--timesteps", 4, "--calibration-samples", 32)
    run(*words, "--output", tmp_path / "net.transpike")
    assert ts.load(tmp_path / "net.transpike").preprocessing.whole == (0, 255)
