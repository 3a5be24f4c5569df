"""First-spike networks: the integer form, golden vectors and C give the spikes of the reference engine."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_slots import DRAWN, NETWORKS, converted, formed
from safetensors.torch import save_file

import transpike as ts
from commands import run
from exported import coarse_falling, coarse_first_spikes, digits, plant
from networks import network
from stored import stored
from transpike.errors import UnsupportedModel
from transpike.exporters import C, Golden
from transpike.exporters.c.run import build, compiler
from transpike.exporters.c.slots import SlotNetwork
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Samples, Trains, Whole
from transpike.lowering.whole_form import whole_form
from transpike.lowering.whole_run import multiplied, peaks, rearranged, run_whole
from transpike.lowering.whole_terms import charge_shape
from transpike.testing.exporters import small_first_spikes
from transpike.testing.faults import FIRST_SPIKE_FAULTS
from transpike.workflow.export import trains_of
from whole_networks import differences

FORMATS: list[Exporter] = [Golden(mem=False), C()]
FORM = {"golden": "golden:mem=no", "c": "c"}


def runs(exporter: Exporter) -> Exporter:
    if missing := exporter.missing():
        pytest.skip(missing)
    return exporter


def assert_telling(trains: Trains) -> None:
    """Each layer fires, not with all of its neurons, and in several slots."""
    for name, train in trains.levels.items():
        assert 0.05 < (train != 0).sum() / train[0].size < 0.97, name
        assert len(np.unique(np.nonzero(train)[0])) >= 3, name
        assert ((train != 0).sum(0) <= 1).all(), name


@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_potential_and_total_is_that_of_the_reference_engine(name: str) -> None:
    snn, x = converted(name)
    whole, samples, found = formed(snn, x)
    expected = trains_of(snn, whole, x, whole.timesteps)[1]
    assert_telling(expected)
    assert differences(expected, found) == 0
    assert (
        set(found.potentials) == {layer.name for layer in whole.layers if layer.integrates} == set(expected.potentials)
    )
    assert whole.timesteps == len(samples.entering[whole.entrances[0].name]) or whole.entrances[0].kind == "charge"
    assert whole.timesteps == snn.total_steps() or whole.readout.name.endswith("→output")
    logits = torch.from_numpy(found.totals * whole.readout.unit)
    assert torch.equal(logits.float(), snn.run(x, engine="reference").logits[-1])
    assert all(peak <= whole.table[key].bound.max() for key, peak in peaks(whole, samples).items())


RECIPES = [
    ts.recipes.LinearTTFS(timesteps=5, granularity="channel"),
    ts.recipes.YOSO(timesteps=6, tau=2.0, weight_bits=5),
    ts.recipes.T2FSNN(timesteps=8, tau=3.0, epochs=1, wait_steps=3),
    ts.recipes.T2FSNN(timesteps=8, tau=3.0, epochs=1, wait_steps=0, input="spikes"),
    ts.recipes.YOSO(timesteps=5, average_pooling="spiking", input="spikes", retime=False),
]
"""Windows that are whole, overlap, or coincide; shortcuts with and without delays."""


@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_random_networks_are_equal_or_refused_by_name(seed: int) -> None:
    case, recipe = network(seed), RECIPES[seed // 2 % len(RECIPES)]
    snn = ts.convert(case.graph, recipe, case.calibration.abs())
    try:
        whole, _, found = formed(snn, case.x.abs())
    except UnsupportedModel as error:
        assert "directly after an activation" in str(error)
        return
    assert differences(trains_of(snn, whole, case.x.abs(), whole.timesteps)[1], found) == 0


def test_a_unit_is_as_coarse_as_the_weights(tmp_path: Path) -> None:
    """Early firing has a grid for float64; weights that are multiples of 1/8 need few bits of it."""
    snn = coarse_first_spikes()
    whole = whole_form(snn.program, snn.timesteps)
    first, second = (layer for layer in whole.layers if layer.integrates)
    assert not first.currents and max(int(abs(term.weight).max()) for term in second.terms) < 128
    samples = trains_of(snn, whole, digits(2), whole.timesteps)[0]
    C().write(whole, tmp_path / "net", samples, run_whole(whole, samples))
    assert re.search(r"int(8|16)_t v_clips_1\[", (tmp_path / "net" / "net.h").read_text())


@pytest.mark.parametrize("exporter", FORMATS, ids=lambda one: one.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_format_gives_every_spike_back(name: str, exporter: Exporter, tmp_path) -> None:
    snn, x = converted(name)
    whole, samples, expected = formed(snn, x)
    runs(exporter).refuse(whole)
    exporter.write(whole, tmp_path / "net", samples, expected)
    found = exporter.run(tmp_path / "net", samples)
    assert differences(expected, found) == 0 and found.potentials.keys() == expected.potentials.keys()


@pytest.mark.parametrize("exporter", FORMATS, ids=lambda one: one.name)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", DRAWN)
def test_a_format_gives_every_spike_of_drawn_networks_back(kind: str, seed: int, exporter: Exporter, tmp_path) -> None:
    whole, samples, expected = DRAWN[kind](seed)
    assert all(train.any() for train in expected.levels.values())
    runs(exporter).refuse(whole)
    exporter.write(whole, tmp_path / "net", samples, expected)
    found = exporter.run(tmp_path / "net", samples)
    assert differences(expected, found) == 0 and found.potentials.keys() == expected.potentials.keys()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks whose potentials often equal thresholds, and whose thresholds fall from slot to slot."""
    folder = tmp_path_factory.mktemp("first-spikes")
    networks = {"equal": coarse_first_spikes(), "falling": coarse_falling()}
    for name, snn in networks.items():
        ts.save(snn, folder / f"{name}.transpike")
    return {name: folder / f"{name}.transpike" for name in networks}


@pytest.mark.parametrize("exporter", FORMATS, ids=lambda one: one.name)
@pytest.mark.parametrize("fault", FIRST_SPIKE_FAULTS)
def test_a_planted_fault_exits_with_4_and_leaves_nothing(
    fault: str, exporter: Exporter, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, type(runs(exporter)), fault, FIRST_SPIKE_FAULTS)
    file = files["falling" if fault == "slot" else "equal"]
    words = ("export", file, "--to", FORM[exporter.name], "--output", tmp_path / "net", "--samples", 3)
    text = run(*words, code=4).stderr
    assert (f"{exporter.name} differs from transpike in" in text) != ("although all spikes are equal" in text)
    assert not list(tmp_path.iterdir())


WRITTEN: dict[str, tuple[str, str, str]] = {
    "golden: pool ties": ("check.py", "views.max(", "views.sum("),
    "golden: fires again": ("check.py", " & ~fired", ""),
    "golden: no initial charge": ("check.py", ' + arrays[layer["bias"]]', ""),
    "golden: early delay": ("check.py", '(layer["wait"], 0)', '(layer["wait"] - 1, 1)'),
    "golden: comparison": ("check.py", "(u >= arrays", "(u + 1 >= arrays"),
    "c: pool ties": ("net.c", r"if \(s->fired_pool\[o\] == 0\) {", "if (s->fired_pool[o] < 2) {"),
    "c: fires again": ("net.c", r"s->fired_first\[i\] = 1;", ";"),
    "c: comparison": ("net.c", r"(s->v_\w+\[i\]) >= ", r"\1 + 1 >= "),
    "c: a late slot": ("net.c", r"if \(s->step > 2 && s->step <= 5\)", "if (s->step > 3 && s->step <= 5)"),
    "c: early delay": ("net.c", r"\+ 2u == s->step", "+ 1u == s->step"),
    "c: level": ("net.c", r"level = (level_\w+)\[s->step - 3\]", r"level = \1[s->step - 3] + 1"),
    "c: one weight": ("net.c", r"(w_conv\[\d+\] = \{\n)(-?\d+)", lambda m: m[1] + str(int(m[2]) + 1)),
}  # fmt: skip
"""Faults in the text of what is written."""


def _spoil(folder: Path, fault: str) -> None:
    """Plants a fault of ``WRITTEN``."""
    name, before, after = WRITTEN[fault]
    path, header = folder / name, folder / "net.h"
    text = path.read_text(encoding="utf-8")
    changed = re.sub(before, after, text) if name == "net.c" else text.replace(before, after)
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    if header.exists():  # a neuron that fires more often than it may has more events than its list has places
        header.write_text(re.sub(r" list\[\d+\]", " list[20000]", header.read_text()))


@pytest.mark.parametrize("fault", WRITTEN)
def test_a_fault_in_the_written_text_is_found(fault: str, tmp_path: Path) -> None:
    exporter = runs(next(one for one in FORMATS if fault.startswith(f"{one.name}:")))
    whole, samples = small_first_spikes()
    expected = run_whole(whole, samples)
    exporter.write(whole, tmp_path / "net", samples, expected)
    assert differences(expected, exporter.run(tmp_path / "net", samples)) == 0
    _spoil(tmp_path / "net", fault)
    assert differences(expected, exporter.run(tmp_path / "net", samples)) > 0
    if exporter.name == "c":
        program = build(tmp_path / "net", tmp_path / "test", "test.c", "-O1", "-DNET_WATCH")
        assert subprocess.run([program], capture_output=True, check=False).returncode == 4


@pytest.mark.parametrize("fault", ["golden: pool ties", "c: pool ties"])
def test_ties_of_pooling_exit_with_4(
    fault: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = runs(next(one for one in FORMATS if fault.startswith(f"{one.name}:")))
    write = type(exporter).write

    def faulty(self: Exporter, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        write(self, whole, path, samples, expected)
        _spoil(path, fault)

    monkeypatch.setattr(type(exporter), "write", faulty)
    words = ("export", files["equal"], "--to", FORM[exporter.name], "--output", tmp_path / "net", "--samples", 3)
    assert f"{exporter.name} differs from transpike in" in run(*words, code=4).stderr
    assert not list(tmp_path.iterdir())


def test_the_checker_is_short_and_finds_a_changed_sample(tmp_path: Path) -> None:
    whole, samples = small_first_spikes()
    Golden().write(whole, tmp_path / "net", samples, run_whole(whole, samples))
    text = (tmp_path / "net" / "check.py").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 60 and "transpike" not in text
    command = [sys.executable, "-I", str(tmp_path / "net" / "check.py")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with np.load(tmp_path / "net" / "samples.npz") as stored_arrays:
        arrays = dict(stored_arrays)
    arrays["out.second"][5, 0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "net" / "samples.npz", **arrays)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 4


@pytest.mark.parametrize("kind", [*DRAWN, "small"])
def test_the_test_program_passes_with_sanitizers(kind: str, tmp_path: Path) -> None:
    runs(C())
    sanitizers = "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    probe = [*compiler(), *sanitizers, str(tmp_path / "empty.c"), "-o", str(tmp_path / "empty")]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip(f"{shlex.join(compiler())} has no sanitizers")
    whole, samples = small_first_spikes() if kind == "small" else DRAWN[kind](1)[:2]
    C().write(whole, tmp_path / "net", samples, run_whole(whole, samples))
    program = build(tmp_path / "net", tmp_path / "test", "test.c", "-Wpedantic", "-O1", "-DNET_WATCH", *sanitizers)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"0 of {3 * whole.timesteps * (len(whole.layers) - 1)} hashes differ, 0 totals" in done.stdout
    about = json.loads((tmp_path / "net" / "net.json").read_text())
    assert 0 <= int(re.findall(r"state (\d+) bytes", done.stdout)[0]) - about["costs"]["ram"] < 8
    text = (tmp_path / "net" / "net.c").read_text() + (tmp_path / "net" / "net.h").read_text()
    assert not re.search(r"\b(malloc|float|double)\b", text)
    assert set(re.findall(r"#include (\S+)", text)) == {'"net.h"', "<limits.h>", "<string.h>", "<stdint.h>"}


@pytest.mark.parametrize("kind", DRAWN)
def test_costs_are_those_of_the_run(kind: str, tmp_path: Path) -> None:
    """Additions counted by running with weights and levels of 1, constants by the declarations."""
    whole, samples, expected = DRAWN[kind](0)
    C().write(whole, tmp_path / "net", samples, expected)
    costs = json.loads((tmp_path / "net" / "net.json").read_text())["costs"]
    declared = re.findall(r"static const u?int(\d+)_t \w+\[(\d+)\] =", (tmp_path / "net" / "net.c").read_text())
    assert costs["flash"] == sum(int(bits) // 8 * int(count) for bits, count in declared)
    sent, additions = {**samples.entering, **expected.levels}, 0.0
    for term in (term for layer in whole.layers for term in layer.terms):
        for now in sent[term.source]:
            if term.kind == "linear" and len(term.shape) == 1 and term.index is not None:
                read = np.unique(term.index[term.index >= 0])  # equal sources have one row
                additions += int((now.reshape(len(now), -1)[:, read] != 0).sum()) * len(term.weight)
                continue
            x = torch.from_numpy(rearranged(term, (now != 0).astype(np.int64))).double()
            additions += float(multiplied(term, torch.ones(term.weight.shape, dtype=torch.float64), x).sum())
    fronts = [one.front.term for one in whole.entrances if one.front]
    at_start = sum(int(np.prod(charge_shape(term))) * term.weight[0].size for term in fronts)
    assert costs["additions"] == additions / len(expected.totals) + at_start
    neurons = [layer for layer in whole.layers if layer.integrates]
    assert costs["updates"] == sum(int(np.prod(one.shape)) * len(one.slots.levels) for one in neurons)


def test_from_weights_to_a_checked_folder_on_the_command_line(tmp_path: Path) -> None:
    weights, file = tmp_path / "net.safetensors", tmp_path / "net.transpike"
    save_file({key: value.contiguous() for key, value in stored("small-cnn").state_dict().items()}, weights)
    run(
        "convert", "--data", "digits", "--model", "zoo:small-cnn", "--weights", weights, "--recipe", "linear-ttfs",
        "--timesteps", 8, "--output", file,
    )  # fmt: skip
    for form in FORMATS:
        words = ("export", file, "--to", FORM[form.name], "--output", tmp_path / form.name, "--samples", 3)
        text = run(*words).stdout
        assert form.missing() or ("run back and equal" in text and "of all neurons" in text and "T=8" in text)
    found = json.loads((tmp_path / "golden" / "transpike-export.json").read_text())
    assert found["first_spikes"] and found["timesteps"] == 8 and not found["warnings"]
    assert all(0.05 < layer["rate"] < 0.97 for layer in found["layers"])
    for form in ("onnx", "nir"):
        words = ("export", file, "--to", form, "--output", tmp_path / f"net.{form}")
        assert f"{form} does not support first-spike networks" in run(*words, code=3).stderr
    assert "T=4" not in run(*words, "--timesteps", 4, code=3).stdout


def test_pixels_of_8_bits_enter_the_first_layer(tmp_path: Path) -> None:
    digits_ = ts.data.load("digits")
    recipe = ts.recipes.T2FSNN(timesteps=20, tau=5.0, epochs=1)
    x = digits_.train.batch(torch.arange(64))[0]
    snn = ts.convert(stored("small-cnn"), recipe, x, preprocessing=digits_.preprocessing, input_bits=8)
    for form in FORMATS:
        result = ts.export(snn, tmp_path / form.name, form.name, samples=digits(3))
        assert form.missing() or (result.verified and not result.warnings)
    assert "const uint8_t *in_" in (tmp_path / "c" / "net.h").read_text()


def test_files_of_hexadecimals_hold_the_step_of_each_spike(tmp_path: Path) -> None:
    whole, samples = small_first_spikes()
    expected = run_whole(whole, samples)
    Golden().write(whole, tmp_path / "net", samples, expected)
    text = json.loads((tmp_path / "net" / "net.json").read_text())
    stored_arrays = {one["array"]: one for one in text["mem"]}
    assert {f"when.{layer.name}" for layer in whole.layers[:-1]} < set(stored_arrays)
    assert not any(name.startswith("out.") for name in stored_arrays)
    one = stored_arrays["when.second"]
    words = (tmp_path / "net" / one["file"]).read_text().splitlines()[1:]
    steps = np.array([int(word, 16) for word in " ".join(words).split()]).reshape(one["shape"])
    sent = expected.levels["second"]
    assert set(np.unique(steps)) == {0, 5, 6, 7}
    for step in range(1, whole.timesteps + 1):
        assert np.array_equal(steps == step, sent[step - 1] != 0)


def test_weights_of_few_values_are_codes_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of 5 bits on a logarithmic scale take about half of their place."""
    snn, x = converted("cat, 5-bit logarithmic weights, maximum pooling")
    formed_ = formed(snn, x)
    flash = []
    for coded in (True, False):
        monkeypatch.setattr(SlotNetwork, "coded", coded)
        C().write(formed_[0], tmp_path / str(coded), *formed_[1:])
        flash.append(json.loads((tmp_path / str(coded) / "net.json").read_text())["costs"]["flash"])
        text = (tmp_path / str(coded) / "net.c").read_text()
        for name, size in (("conv2", 16 * 16 * 9), ("conv3", 32 * 16 * 9)):
            kind = rf"int8_t w_{name}_code" if coded else rf"int16_t w_{name}"
            assert re.search(rf"static const {kind}\[{size}\]", text)
    assert flash[0] < 0.7 * flash[1]
