"""Networks of other neurons and schedules are exported spike for spike; faults and what formats cannot hold are found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_wholes import DRAWN
from torch import nn

import transpike as ts
from commands import run
from stored import stored
from transpike.encoders import Poisson
from transpike.errors import SettingError, UnsupportedModel
from transpike.exporters import members
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Layer, Rule, Samples, Timing, Trains, Whole
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import peaks, run_whole
from transpike.schedules import LayerSynchronous
from transpike.snn import SNN
from transpike.workflow.export import trains_of
from whole_networks import differences, fires

WINDOWS = {"schedule": LayerSynchronous()}
CASES: dict[str, tuple[str, ts.recipes.Recipe]] = {
    "sigma-delta": ("small-cnn", ts.recipes.StreamingSigmaDelta(timesteps=8)),
    "sigma-delta, residual": ("residual", ts.recipes.StreamingSigmaDelta(timesteps=8)),
    "digits": ("residual", ts.recipes.BurstDigits(timesteps=3)),
    "several thresholds": ("small-cnn", ts.recipes.HMT(timesteps=4, threshold_count=2)),
    "bursts": ("residual", ts.recipes.BurstLIP(timesteps=8, percentile=80.0)),
    "snm": ("residual", ts.recipes.SNM(timesteps=16, granularity="layer")),
    "signed": ("small-cnn", ts.recipes.FewSteps(timesteps=8, neuron="signed")),
    "windows": ("residual", ts.recipes.ECC(timesteps=8, **WINDOWS)),
    "wait steps": ("small-cnn", ts.recipes.ECC(timesteps=8, schedule=LayerSynchronous(wait_steps=3))),
    "windows of bursts": ("residual", ts.recipes.BurstLIP(timesteps=4, percentile=80.0, **WINDOWS)),
    "windows of signed spikes": ("small-cnn", ts.recipes.SNM(timesteps=8, granularity="layer", **WINDOWS)),
}


def images(first: int, count: int) -> torch.Tensor:
    return ts.data.load("digits").test.batch(torch.arange(first, first + count))[0]


def converted(name: str) -> SNN:
    model, recipe = CASES[name]
    return ts.convert(stored(model), recipe, images(100, 128), preprocessing=ts.data.load("digits").preprocessing)


@pytest.mark.parametrize("name", CASES)
def test_the_whole_numbers_are_those_of_the_reference_engine(name: str) -> None:
    """Every level of every layer and step, potentials, totals and logits; no potential beyond its bound."""
    snn, x = converted(name), images(0, 3)
    whole = whole_form(snn.program, snn.timesteps)
    samples, expected = trains_of(snn, whole, x, whole.timesteps)
    assert not whole.is_plain
    assert differences(fires(expected), run_whole(whole, samples)) == 0
    divisor = whole.divisor or snn.timesteps - whole.readout.start
    logits = torch.from_numpy(expected.totals * whole.readout.unit / divisor)
    assert torch.equal(logits.float(), snn.run(x, engine="reference").logits[-1])
    assert all(peak <= whole.table[key].bound.max() for key, peak in peaks(whole, samples).items())


@pytest.mark.parametrize("kind", [kind for kind in members if kind.every_rule], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["sigma-delta, residual", "windows of bursts"])
def test_an_export_is_run_back(kind: type[Exporter], name: str, tmp_path: Path) -> None:
    if kind().missing():
        pytest.skip(kind().missing())
    snn = converted(name)
    result = ts.export(snn, tmp_path / f"net{kind.suffix}", kind.name, samples=images(0, 3))
    assert result.verified and result.timesteps == snn.timesteps and len(result.layers) >= 5


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", [kind for kind in members if kind.every_rule], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["rules", "waiting"])
def test_drawn_networks_of_every_rule_come_back(name: str, kind: type[Exporter], seed: int, tmp_path: Path) -> None:
    exporter = kind()
    if exporter.missing():
        pytest.skip(exporter.missing())
    whole, samples, expected = DRAWN[name](seed)
    exporter.write(whole, tmp_path / f"net{kind.suffix}", samples, expected)
    assert differences(fires(expected), exporter.run(tmp_path / f"net{kind.suffix}", samples)) == 0


@pytest.mark.parametrize("model", ["loop", "step"])
@pytest.mark.parametrize("name", ["sigma-delta", "windows"])
def test_onnx_gives_the_logits_of_transpike(model: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs transpike[onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs transpike[onnx]")
    snn, x = converted(name), images(0, 3)
    whole, path = whole_form(snn.program, snn.timesteps), tmp_path / "net.onnx"
    ts.export(snn, path, samples=x, model=model)
    samples = samples_of(snn.program, whole, snn.prepare(x), torch.arange(3), whole.timesteps)
    session = onnxruntime.InferenceSession(str(path))
    taken = {one.name: np.dtype(one.type[7:-1]) for one in session.get_inputs()}
    given = {key: samples.entering[whole.entrances[0].name].astype(taken[key]) for key in list(taken)[:1]}
    if model == "loop":
        logits = session.run(["logits"], given | {"timesteps": np.array(whole.timesteps)})[0][-1]
    else:
        names, states = [one.name for one in session.get_outputs()], {}
        for step in range(whole.timesteps):
            found = dict(zip(names, session.run(None, given | {"step": np.array(step)} | states), strict=True))
            states = {key.removesuffix("_next"): found[key] for key in names if key.endswith("_next")}
        logits = found["logits"]
    assert np.array_equal(logits, snn.run(x, engine="reference").logits[-1].numpy())


LINES = {
    "leaky": nn.LeakyReLU(0.01), "parametric": nn.PReLU(3), "clip": nn.ReLU6(), "two clips": nn.Hardtanh(),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_sigma_delta_neurons_of_one_or_two_lines(name: str) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 3, 3, padding=1),
        LINES[name],
        nn.Conv2d(3, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(108, 3),
    ]
    x = 3 * torch.rand(32, 1, 8, 8) - 1
    snn = ts.convert(nn.Sequential(*layers).eval(), ts.recipes.StreamingSigmaDelta(timesteps=12), x)
    whole = whole_form(snn.program, 12)
    samples, expected = trains_of(snn, whole, x[:4], 12)
    assert len(expected.levels) == 2 and differences(expected, run_whole(whole, samples)) == 0
    assert expected.levels[next(iter(expected.levels))].min() < 0


def of_layer(change: Callable[[Layer], Layer | None]) -> Callable[[Whole], Whole]:
    """The network with the first layer of neurons after another one that ``change`` changes."""

    def fault(whole: Whole) -> Whole:
        for place, layer in enumerate(whole.layers):
            found = change(layer) if layer.terms and layer.kind == "integrate" else None
            if found is not None:
                return replace(whole, layers=(*whole.layers[:place], found, *whole.layers[place + 1 :]))
        raise AssertionError("nothing to change")

    return fault


def rule(**changes: object) -> Callable[[Whole], Whole]:
    return of_layer(lambda layer: replace(layer, rule=replace(layer.rule, **changes)))


def function(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Whole], Whole]:
    def changed(layer: Layer) -> Layer:
        assert layer.rule.follow is not None
        return replace(layer, rule=replace(layer.rule, follow=replace(layer.rule.follow, **{name: change(getattr(layer.rule.follow, name))})))  # fmt: skip

    return of_layer(changed)


def later(layer: Layer) -> Layer:
    assert layer.timing is not None
    first, end = layer.timing.fires
    return replace(layer, timing=replace(layer.timing, fires=(first + 1, end)))


def unbiased(layer: Layer) -> Layer | None:
    if not layer.bias.any():
        return None
    timing = layer.timing or Timing((0, 1), (0, 1), (0, 99))
    return replace(layer, timing=replace(timing, bias=(0, 0)))


FAULTS: dict[str, tuple[str, Callable[[Whole], Whole]]] = {
    "smaller bursts": ("bursts", rule(most=1)),
    "threshold of bursts": ("bursts", of_layer(lambda layer: replace(layer, threshold=layer.threshold + 1))),
    "negative threshold": ("signed", rule(below=np.array([2**20]))),
    "no negative spikes": ("signed", rule(kind="levels")),
    "fewer powers": ("sigma-delta", rule(most=1)),
    "all powers at once": ("sigma-delta", rule(kind="all")),
    "another slope": ("sigma-delta", function("rising", lambda value: value + np.maximum(1, value // 50))),
    "another offset": ("sigma-delta", function("offset", lambda value: value + 2**12 * value)),
    "bias of each step": ("sigma-delta", of_layer(lambda layer: replace(layer, timing=None))),
    "later spikes": ("windows", of_layer(later)),
    "no bias": ("windows", of_layer(unbiased)),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cells")
    names = {name for name, _ in FAULTS.values()}
    paths = {name: folder / f"{name}.transpike" for name in names}
    for name, path in paths.items():
        ts.save(converted(name), path)
    return paths


@pytest.mark.parametrize("kind", [kind for kind in members if kind.every_rule], ids=lambda kind: kind.name)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_exits_with_4_and_leaves_nothing(
    fault: str, kind: type[Exporter], files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind().missing():
        pytest.skip(kind().missing())
    name, change = FAULTS[fault]
    write = kind.write

    def faulty(self: Exporter, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        write(self, change(whole), path, samples, expected)

    monkeypatch.setattr(kind, "write", faulty)
    words = ("export", files[name], "--to", kind.name, "--output", tmp_path / f"net{kind.suffix}", "--samples", 3)
    assert f"{kind.name} differs from transpike in" in run(*words, code=4).stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CASES)
def test_nir_refuses_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedModel, match=r"^\w[\w.]* sends levels other than 0 and 1, or waits, which nir does not"
    ):
        ts.export(converted(name), tmp_path / "net.nir", samples=images(0, 1))


def test_single_spikes_alone_are_rounded_to_8_bits(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="sends levels other than 0 and 1, and weight_bits rounds"):
        ts.export(converted("bursts"), tmp_path / "net", "c", samples=images(0, 1), weight_bits=8)


def test_runs_of_windows_have_one_length() -> None:
    snn = converted("windows")
    whole = whole_form(snn.program, 8)
    assert whole.timesteps == 8 * 6 and whole.window == 8
    with pytest.raises(SettingError, match="windows of 8 steps runs for 48 steps, not 8"):
        samples_of(snn.program, whole, snn.prepare(images(0, 1)), torch.arange(1), 8)


def test_maxima_of_signed_spikes_with_padding(tmp_path: Path) -> None:
    """The padding is below every sum: with zeros there, windows whose sums are all negative would differ."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(16, 1, 8, 8) - 0.8
    snn = ts.convert(model, ts.recipes.ECC(timesteps=12, encoder=Poisson(seed=1)), x)
    whole = whole_form(snn.program, 12)
    samples, expected = trains_of(snn, whole, x[:3], 12)
    assert expected.levels["0"].min() == -1 and differences(expected, run_whole(whole, samples)) == 0
    for kind in ("golden", "onnx"):
        if not ts.exporters.table[kind]().missing():
            assert ts.export(snn, tmp_path / f"{kind}{ts.exporters.table[kind].suffix}", kind, samples=x[:3]).verified


def test_rules_say_their_ends() -> None:
    assert [Rule("all", 8).ends, Rule("one", 8).ends, Rule("levels", 3).ends] == [(-15, 15), (-8, 8), (0, 3)]
    assert Rule("nearest", 8).powers == (8, 4, 2, 1) and Rule().is_plain and not Rule("levels", 2).is_plain
