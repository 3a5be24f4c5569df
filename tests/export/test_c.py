"""The C network gives every spike of every layer and step; and what is wrong in it is found."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_wholes import DRAWN, charges, events, pixels

import transpike as ts
from stored import stored
from transpike.errors import FileError, GateFailed, SettingError, UnsupportedModel
from transpike.exporters import C
from transpike.exporters.c.rounding import rounded
from transpike.exporters.c.run import STRICT, build, compiler
from transpike.lowering.whole import Entrance, Layer, Samples, Term, Trains, Whole, Window
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import multiplied, rearranged, run_whole
from transpike.lowering.whole_terms import charge_shape
from transpike.testing import check_exporter

Formed = tuple[Whole, Samples, Trains]

needs_compiler = pytest.mark.skipif(bool(C().missing()), reason=f"needs {C().missing()}")


def formed(model: torch.nn.Module, count: int = 3, timesteps: int = 16) -> Formed:
    """The integer form of a converted network, and a run of test digits."""
    digits = ts.data.load("digits")
    snn = ts.convert(
        model,
        ts.recipes.ECC(timesteps=timesteps),
        digits.train.batch(torch.arange(64))[0],
        preprocessing=digits.preprocessing,
    )
    x = snn.prepare(digits.test.batch(torch.arange(count))[0])
    whole = whole_form(snn.program, timesteps)
    samples = samples_of(snn.program, whole, x, torch.arange(count), timesteps)
    return whole, samples, run_whole(whole, samples)


def differences(found: Trains, expected: Trains) -> int:
    assert found.levels.keys() == expected.levels.keys()
    spikes = sum(int((found.levels[name] != levels).sum()) for name, levels in expected.levels.items())
    assert found.potentials.keys() == expected.potentials.keys()
    potentials = sum(int((found.potentials[name] != v).sum()) for name, v in expected.potentials.items())
    return spikes + int((found.totals != expected.totals).sum()) + potentials


def check(form: Formed, folder: Path) -> None:
    whole, samples, expected = form
    C().write(whole, folder, samples, expected)
    assert all(0.01 < float((levels != 0).mean()) < 0.75 for levels in expected.levels.values())
    assert differences(C().run(folder, samples), expected) == 0


@needs_compiler
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", DRAWN)
def test_drawn_networks_give_every_spike(kind: str, seed: int, tmp_path: Path) -> None:
    check(DRAWN[kind](seed), tmp_path / "net")


@pytest.mark.parametrize("command", ["gcc", "clang"])
@pytest.mark.parametrize("kind", DRAWN)
def test_compilers_agree(kind: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    monkeypatch.setenv("CC", command)
    check(DRAWN[kind](3), tmp_path / "net")


@needs_compiler
@pytest.mark.parametrize("name", ["small-cnn", "residual", "three-neuron-layers"])  # max pooling, shortcuts, averages
def test_converted_networks_give_every_spike(name: str, tmp_path: Path) -> None:
    check(formed(stored(name)), tmp_path / "net")


@needs_compiler
def test_a_network_of_bytes_starts_from_them(tmp_path: Path) -> None:
    digits = ts.data.load("digits")
    x = digits.train.batch(torch.arange(64))[0]
    snn = ts.convert(stored("small-cnn"), ts.recipes.ECC(timesteps=8), x, preprocessing=digits.preprocessing, input_bits=8)  # fmt: skip
    result = ts.export(snn, tmp_path / "net", "c", samples=x[:3])
    assert result.verified and not result.warnings
    assert "void net_start(net_state *s, const uint8_t *in_input)" in (tmp_path / "net" / "net.h").read_text()


@needs_compiler
@pytest.mark.parametrize("kind", ["heartbeats", "events"])
def test_signals_and_recordings_give_every_spike(kind: str, tmp_path: Path) -> None:
    """Untrained networks: one axis with average pooling, and frames of an event camera as the input."""
    torch.manual_seed(0)
    if kind == "heartbeats":
        model, x = ts.models.build("zoo:ecg-classes")[0].eval(), torch.rand(8, 1, 180)
        recipe = ts.recipes.ECC(timesteps=12)
    else:
        model = torch.nn.Sequential(torch.nn.Conv2d(2, 6, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(96, 4))  # fmt: skip
        x = (torch.rand(8, 8, 2, 10, 10) < 0.2).float()
        recipe = ts.recipes.ECC(timesteps=8, encoder=ts.encoders.EventFrames())
    snn = ts.convert(model, recipe, x)
    result = ts.export(snn, tmp_path / "net", "c", samples=x[:4])
    assert result.verified and not result.warnings and all(0.01 < layer.rate < 0.6 for layer in result.layers)


@needs_compiler
def test_it_keeps_the_laws_of_exporters() -> None:
    check_exporter(C())


@needs_compiler
def test_names_of_others_do_not_reach_the_code(tmp_path: Path) -> None:
    """Names come from files of others: they end no comment and no string, and different ones remain different."""
    whole, samples, _ = pixels(0)
    names = dict(zip(whole.table, ['*/ int x = "??/', "a.b", "a_b", "int", 'é"\\', "→\n#error"], strict=False))

    def renamed(layer: Layer) -> Layer:
        terms = tuple(replace(t, name=names[t.source] + "*/", source=names[t.source]) for t in layer.terms)
        return replace(layer, name=names[layer.name], terms=terms, source=names.get(layer.source, ""))

    entrance = replace(whole.entrances[0], name=names["pixels"])
    other = Whole((entrance,), tuple(map(renamed, whole.layers)), whole.timesteps)
    check(
        (other, given := Samples({entrance.name: samples.entering["pixels"]}, 6), run_whole(other, given)),
        tmp_path / "net",
    )


@needs_compiler
def test_other_samples_and_fewer_steps_run_in_the_same_files(tmp_path: Path) -> None:
    whole, samples, expected = events(0)
    C().write(whole, tmp_path, samples, expected)
    _, others, _ = events(5)
    fewer = Samples({name: values[:4, :2] for name, values in others.entering.items()}, 4)
    assert differences(C().run(tmp_path, fewer), run_whole(whole, fewer)) == 0


@needs_compiler
def test_first_steps_that_the_readout_leaves_out_are_left_out(tmp_path: Path) -> None:
    whole, samples, _ = events(0)
    late = replace(whole, layers=(*whole.layers[:-1], replace(whole.readout, start=2)))
    check((late, samples, run_whole(late, samples)), tmp_path / "net")
    costs = [json.loads((tmp_path / "net" / "net.json").read_text())["costs"]["additions"]]
    C().write(whole, tmp_path / "all", samples, run_whole(whole, samples))
    costs.append(json.loads((tmp_path / "all" / "net.json").read_text())["costs"]["additions"])
    assert costs[0] < costs[1]


@needs_compiler
def test_more_steps_than_were_proven_are_refused(tmp_path: Path) -> None:
    whole, samples, expected = charges(0)
    C().write(whole, tmp_path, samples, expected)
    with pytest.raises(FileError, match="code 3"):
        C().run(tmp_path, Samples(samples.entering, samples.timesteps + 1))


@needs_compiler
@pytest.mark.parametrize("make", DRAWN.values(), ids=list(DRAWN))
def test_the_test_program_passes_with_sanitizers(make: Callable[[int], Formed], tmp_path: Path) -> None:
    sanitizers = "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    probe = [*compiler(), *sanitizers, str(tmp_path / "empty.c"), "-o", str(tmp_path / "empty")]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip(f"{shlex.join(compiler())} has no sanitizers")
    whole, samples, expected = make(2)
    C().write(whole, tmp_path, samples, expected)
    program = build(tmp_path, tmp_path / "test", "test.c", "-Wpedantic", "-O1", "-DNET_WATCH", *sanitizers)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        f"0 of {3 * 6 * (len(whole.layers) - 1)} hashes differ, 0 totals and potentials of 0 layers differ"
        in done.stdout
    )
    about = json.loads((tmp_path / "net.json").read_text())
    pointers = 4 * sum(one["kind"] == "charge" for one in about["parameters"])  # 8 bytes each on a 64-bit host
    state = int(re.findall(r"state (\d+) bytes", done.stdout)[0])
    assert 0 <= state - pointers - about["costs"]["ram"] < 8


@needs_compiler
def test_the_network_alone_needs_nothing_of_the_test(tmp_path: Path) -> None:
    C().write(*pixels(0)[:1], tmp_path, *pixels(0)[1:])
    command = [*compiler(), *STRICT, "-c", str(tmp_path / "net.c"), "-o", str(tmp_path / "net.o")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    text = (tmp_path / "net.c").read_text() + (tmp_path / "net.h").read_text()
    assert not re.search(r"\b(malloc|float|double)\b", text)
    assert set(re.findall(r"#include (\S+)", text)) == {'"net.h"', "<limits.h>", "<string.h>", "<stdint.h>"}


@needs_compiler
@pytest.mark.parametrize(
    ("proven", "beyond"),
    [("#define NET_STEPS 6", "#define NET_STEPS 7"), ("int16_t v_sum[", "int8_t v_sum["), ("count_type", "")],
)
def test_what_was_not_proven_stops_the_compiler(proven: str, beyond: str, tmp_path: Path) -> None:
    C().write(*pixels(0)[:1], tmp_path, *pixels(0)[1:])
    header, source = tmp_path / "net.h", tmp_path / "net.c"
    if proven == "count_type":
        source.write_text(
            re.sub(r"(net_check_v_out\[\(-?\d+ >= INT\d+_MIN && )\d+", r"\g<1>99999999999", source.read_text())
        )
    else:
        assert proven in header.read_text()
        header.write_text(header.read_text().replace(proven, beyond))
    with pytest.raises(FileError, match=r"does not compile .*(negative|overflow|conversion)"):
        build(tmp_path, tmp_path / "test", "test.c", "-DNET_WATCH")


def _first_weight(text: str) -> str:
    """Adds 1 to the first weight of a convolution after spikes."""
    return re.sub(r"( w_3_body_3\[\d+\] = \{\n)(-?\d+)", lambda m: m[1] + str(int(m[2]) + 1), text)


FAULTS: dict[str, Callable[[str], str]] = {
    "comparison": lambda text: text.replace("if (u >= ", "if (u > "),
    "reset to zero": lambda text: re.sub(r"= \(int(\d+)_t\)\(u - [^;]*\);", "= 0;", text),
    "no initial potential": lambda text: re.sub(r"s->v_\w+\[i\] = initial_\w+\[[ci]\];", ";", text),
    "one weight more by 1": _first_weight,
    "pool ties": lambda text: text.replace("if (now > s->top", "if (now >= s->top"),
    "no residual": lambda text: re.sub(r"s->v_3_relu\[p\] = [^;]*;", "(void)p;", text),
    "one threshold more by 1": lambda text: re.sub(
        r"( threshold_5_relu\[\d+\] = \{\n)(\d+)", lambda m: m[1] + str(int(m[2]) + 1), text
    ),
    "no bias of the readout": lambda text: re.sub(r"s->v_8\[i\] \+ bias_8\[i\]", "s->v_8[i]", text),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Formed]]:
    forms = {"residual": formed(stored("residual"), count=4), "pixels": pixels(0)}
    folders = {name: tmp_path_factory.mktemp(name) / "net" for name in forms}
    for name, form in forms.items():
        C().write(form[0], folders[name], *form[1:])
    return {name: (folders[name], form) for name, form in forms.items()}


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_found(fault: str, networks: dict, tmp_path: Path) -> None:
    """By the comparison of spikes, and by the test program without it.

    In a network of small integers potentials often equal a threshold, so that > and ≥ differ in few samples.
    """
    folder, (_, samples, expected) = networks["pixels" if fault == "comparison" else "residual"]
    for path in folder.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    source = tmp_path / "net.c"
    changed = FAULTS[fault](source.read_text())
    assert changed != source.read_text()
    source.write_text(changed.replace("\nstatic const", "\n__attribute__((unused)) static const"))
    if fault == "pool ties":  # outputs fire more often than their lists have places
        header = tmp_path / "net.h"
        header.write_text(re.sub(r"uint16_t list\[\d+\]", "uint16_t list[20000]", header.read_text()))
    assert differences(C().run(tmp_path, samples), expected) > 0
    program = build(tmp_path, tmp_path / "test", "test.c", "-O1", "-DNET_WATCH")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and ("first difference: sample" in done.stdout or "0 of" in done.stdout)


@pytest.fixture(scope="module")
def converted() -> tuple[ts.SNN, torch.Tensor]:
    digits = ts.data.load("digits")
    recipe = ts.recipes.ECC(timesteps=16)
    x = digits.train.batch(torch.arange(64))[0]
    return ts.convert(stored("residual"), recipe, x, preprocessing=digits.preprocessing), x[:8]


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_with_a_planted_fault_fails(fault: str, converted: tuple[ts.SNN, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The command exits with code 4, and nothing is written."""
    write = C.write

    def faulty(exporter: C, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        write(exporter, whole, path, samples, expected)
        text = (path / "net.c").read_text()
        changed = FAULTS[fault](text)
        assert changed != text
        (path / "net.c").write_text(changed.replace("\nstatic const", "\n__attribute__((unused)) static const"))
        header = (path / "net.h").read_text()
        (path / "net.h").write_text(re.sub(r" list\[\d+\]", " list[20000]", header))

    monkeypatch.setattr(C, "write", faulty)
    snn, x = converted
    settings = {"weight_bits": 3} if fault == "comparison" else {}  # potentials often equal small thresholds
    with pytest.raises(GateFailed, match=r"c: the potentials|c differs|c: the totals") as failure:
        ts.export(snn, tmp_path / "net", "c", samples=x, **settings)
    assert failure.value.exit_code == 4 and not (tmp_path / "net").exists()


@needs_compiler
@pytest.mark.parametrize("kind", ["residual", *DRAWN])
def test_costs_are_those_of_the_run(kind: str, tmp_path: Path) -> None:
    """Additions counted by running with weights of 1, constants by the declarations."""
    whole, samples, expected = formed(stored(kind)) if kind == "residual" else DRAWN[kind](0)
    C().write(whole, tmp_path, samples, expected)
    costs = json.loads((tmp_path / "net.json").read_text())["costs"]
    declared = re.findall(r"static const u?int(\d+)_t \w+\[(\d+)\] =", (tmp_path / "net.c").read_text())
    assert costs["flash"] == sum(int(bits) // 8 * int(count) for bits, count in declared)
    levels = {**samples.entering, **expected.levels}
    additions = 0
    for layer in whole.layers:
        for term in layer.terms:
            steps = levels[term.source] if levels[term.source].ndim > len(whole.table[term.source].shape) + 1 else [levels[term.source]]  # fmt: skip
            for now in steps:
                x = torch.from_numpy(rearranged(term, (now != 0).astype(np.int64))).double()
                if term.index is not None and term.kind == "linear" and len(term.shape) == 1:
                    x = torch.from_numpy((now != 0).reshape(len(now), -1)[:, np.unique(term.index[term.index >= 0])]).double()  # fmt: skip
                    additions += int(x.sum()) * len(term.weight)
                else:
                    ones = torch.ones(term.weight.shape, dtype=torch.float64)
                    additions += int(multiplied(term, ones, x).sum())
    fronts = [one.front.term for one in whole.entrances if one.front]
    assert bool(fronts) == (kind == "bytes in")
    at_start = sum(int(np.prod(charge_shape(term))) * term.weight[0].size for term in fronts)
    assert costs["additions"] == additions / len(expected.totals) + at_start


def test_weights_of_8_bits_fit_and_keep_thresholds_and_answers() -> None:
    labels = ts.data.load("digits").test.batch(torch.arange(100))[1].numpy()
    whole, samples, expected = formed(stored("small-cnn"), count=100)
    other = rounded(whole, 8)
    assert max(int(abs(term.weight).max()) for layer in whole.layers for term in layer.terms) > 127
    for layer, old in zip(other.layers, whole.layers, strict=True):
        assert all(abs(term.weight).max() <= 127 for term in layer.terms)
        if layer.kind == "integrate" and layer.terms:
            shape = (-1, *[1] * (len(layer.shape) - 1))
            kept = layer.threshold * layer.unit.reshape(shape)  # in real numbers
            assert np.allclose(kept, old.threshold * old.unit.reshape(shape), rtol=1e-12)
    found = run_whole(other, samples)
    assert not np.array_equal(found.totals, expected.totals)
    before, after = ((trains.totals.argmax(1) == labels).mean() for trains in (expected, found))
    assert after >= before - 0.02 and before > 0.9
    real = [trains.totals * one.readout.unit for one, trains in ((whole, expected), (other, found))]
    assert np.linalg.norm(real[1] - real[0]) < 0.1 * np.linalg.norm(real[0])
    coarse = run_whole(rounded(whole, 3), samples)  # what is lost grows
    assert (coarse.totals.argmax(1) == labels).mean() < after


@pytest.mark.parametrize("kind", ["pixels", "events"])
def test_weights_that_fit_are_not_rounded(kind: str) -> None:
    whole, *_ = DRAWN[kind](0)
    assert rounded(whole, 8).layers == whole.layers
    assert all(abs(term.weight).max() <= 3 for layer in rounded(whole, 3).layers for term in layer.terms)


def test_charges_that_would_have_to_be_rounded_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"out gets charges besides spikes.*without weight_bits"):
        rounded(charges(0)[0], 2)


@needs_compiler
def test_an_export_with_weights_of_8_bits_is_proven_and_says_what_it_costs(tmp_path: Path) -> None:
    digits = ts.data.load("digits")
    snn = ts.convert(stored("residual"), ts.recipes.ECC(timesteps=8), digits.train.batch(torch.arange(64))[0])
    x = digits.test.batch(torch.arange(3))[0]
    exact = ts.export(snn, tmp_path / "exact", "c", samples=x)
    result = ts.export(snn, tmp_path / "net", "c", samples=x, weight_bits=8)
    assert exact.verified and result.verified and not exact.warnings
    assert "bytes of state" in str(exact) and "additions of weights" in exact.to_json()["about"]
    assert "changed the network" in result.warnings[0] and "argmax agreement" in result.warnings[0]
    kinds = set(re.findall(r"static const (\w+) w_\w+\[", (tmp_path / "net" / "net.c").read_text()))
    assert kinds == {"int8_t"}
    sizes = [json.loads((tmp_path / name / "net.json").read_text())["costs"]["flash"] for name in ("exact", "net")]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("bits", [1, 9, 7.5, True])
def test_weight_bits_are_from_2_to_8(bits: object) -> None:
    with pytest.raises(SettingError, match="weight_bits must be"):
        C(weight_bits=bits)  # type: ignore[arg-type]


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert "C compiler" in C().missing()


@needs_compiler
def test_the_variable_cc_is_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compiler()
    monkeypatch.setenv("CC", shlex.join([*found, "-DMINE"]))
    assert compiler() == [*found, "-DMINE"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"net\.json cannot be read"):
        C().run(tmp_path, Samples({}, 1))


def _whole(entrance: Entrance, *layers: Layer) -> Whole:
    return Whole((entrance,), layers, 4)


def _entrance(kind: str, shape: tuple[int, ...], high: int = 1) -> Entrance:
    return Entrance("in", shape, kind, 0, high, np.ones(1))  # type: ignore[arg-type]


def _conv(shape: tuple[int, ...], outputs: int, padding: int = 0) -> Term:
    weight = np.ones((outputs, shape[0], 3), np.int64)
    return Term("conv", "in", "conv", weight, shape, None, (1,), (padding,), (1,))


def _readout(shape: tuple[int, ...], *terms: Term) -> Layer:
    return Layer("out", "readout", shape, 0, np.ones(1), terms)


POOL = Layer("pool", "maximum", (2, 3), 0, np.ones(1), pool=Window((2,), (2,), (0,)), source="in")
TOKENS = Term("tokens", "in", "linear", np.ones((6, 6), np.int64), (2, 6))


@pytest.mark.parametrize(
    ("whole", "reason"),
    [
        (
            _whole(_entrance("spikes", (2, 6), 2**31), _readout((2, 6), TOKENS)),
            "in takes integers from 0 to 2147483648",
        ),
        (_whole(_entrance("spikes", (2, 6), 2), POOL), "pool pools the entrance in, whose levels are not only 0 and 1"),
        (_whole(_entrance("values", (2, 6)), POOL), "pool pools the entrance in"),
        (_whole(_entrance("spikes", (2, 6, 1)), POOL), "pool pools 1 of 3 axes"),
        (_whole(_entrance("spikes", (2, 6)), _readout((2, 6), _conv((2, 6), 2, 1), TOKENS)), "different orders"),
        (
            _whole(_entrance("spikes", (2, 6)), _readout((8,), _conv((2, 6), 2), _conv((6, 2), 4, 1))),
            "different orders",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(whole: Whole, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=f"{reason}.*(convert with|golden)"):
        C().write(whole, tmp_path / "net", Samples({}, 4), Trains({}, np.zeros(1, np.int64)))
    assert not (tmp_path / "net").exists()
