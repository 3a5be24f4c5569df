"""What comes from outside: registered it works like our own, unregistered it is refused before anything is written."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import plugged
import transpike as ts
from transpike.core import registry
from transpike.core.codec import decode, encode
from transpike.core.naming import GROUP, dashed
from transpike.errors import FileError, SettingError, UnsupportedOperator

TESTS = Path(__file__).resolve().parents[1]
BRINGS = ("recipe", "neuron", "op", "readout", "encoder", "schedule", "exit", "part")


@pytest.fixture
def registered() -> Iterator[None]:
    with registry.restored():
        plugged.register_all()
        yield


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    images = plugged.blobs().train
    return images.images, images.labels


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 8), activation(), nn.Linear(8, 2)
    )  # fmt: skip


def tangent(x: Tensor) -> ts.SNN:
    return ts.convert(network(nn.Tanh), ts.recipes.ECC(timesteps=4), x)


MADE: dict[str, Callable[[Tensor], ts.SNN]] = {
    "recipe": lambda x: ts.convert(network(), plugged.OurECC(timesteps=4, share=plugged.Share(0.25)), x),
    "neuron": lambda x: ts.convert(network(), plugged.RefractoryECC(timesteps=4), x),
    "op": tangent,
    "readout": lambda x: ts.convert(network(), ts.recipes.ECC(timesteps=4, readout=plugged.Twice()), x),
    "encoder": lambda x: ts.convert(network(), ts.recipes.ECC(timesteps=4, encoder=plugged.Dimmed(factor=0.75)), x),
    "schedule": lambda x: ts.convert(network(), ts.recipes.ECC(timesteps=4, schedule=plugged.OurStream()), x),
}


def with_exit(x: Tensor) -> ts.SNN:
    policy = ts.exits.ExitPolicy(plugged.Spread(), 4, (2,), (1.0,), (0.5,), 0.01, 0.95, 64)
    return dataclasses.replace(ts.convert(network(), ts.recipes.ECC(timesteps=4), x), exit=policy)


@pytest.mark.parametrize("what", sorted(MADE))
def test_what_is_registered_converts_evaluates_and_comes_back_from_a_file(what, registered, data, tmp_path):
    x, y = data
    snn = MADE[what](x)
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    trains = [node.name for node in snn.graph if isinstance(node.op, ts.core.cell.Cell)]
    before, after = (ts.simulate(one, x, record=trains) for one in (snn, loaded))
    assert torch.equal(before.logits, after.logits) and float(before.logits.abs().sum()) > 0
    assert all(torch.equal(before.trains[name], after.trains[name]) for name in trains)
    assert type(loaded.recipe) is type(snn.recipe) and loaded.recipe == snn.recipe
    report = ts.evaluate(loaded, [(x, y)], energy=plugged.PerSpike())
    assert report.final.energy_joule["per-spike"] == pytest.approx(report.final.spikes * 1e-12)


def test_an_exit_score_from_outside_comes_back_from_a_file(registered, data, tmp_path):
    loaded = ts.load(ts.save(with_exit(data[0]), tmp_path / "net.transpike"))
    assert loaded.exit.score == plugged.Spread()


@pytest.mark.parametrize("what", sorted({*MADE, "exit"} - {"op"}))
def test_save_refuses_what_is_not_registered_and_writes_nothing(what, data, tmp_path):
    snn = with_exit(data[0]) if what == "exit" else MADE[what](data[0])
    path = tmp_path / "net.transpike"
    path.write_bytes(b"the old file")
    with pytest.raises(FileError, match=r"not written.*plugged.*@transpike\.register") as caught:
        ts.save(snn, path)
    assert path.read_bytes() == b"the old file" and len(list(tmp_path.iterdir())) == 1
    if what == "neuron":
        assert "Refractory of plugged, RefractoryECC of plugged" in str(caught.value)  # all of them at once


def test_an_operator_is_known_only_while_its_op_is_registered(data, tmp_path):
    with pytest.raises(UnsupportedOperator, match="tanh"):
        tangent(data[0])
    with registry.restored():
        plugged.register_all()
        snn = tangent(data[0])
    with pytest.raises(FileError, match="Tangent of plugged"):
        ts.save(snn, tmp_path / "net.transpike")
    with pytest.raises(UnsupportedOperator, match="tanh"):
        tangent(data[0])


def test_our_op_comes_before_one_from_outside_that_claims_the_same_operator(data):
    @dataclasses.dataclass(frozen=True, eq=False)
    class Other(ts.activations.ReLU):
        """Another op for torch's ReLU."""

    with registry.restored():
        ts.register(Other)
        graph = ts.capture(network(), data[0])
    assert {type(node.op) for node in graph} >= {ts.activations.ReLU} and Other not in {type(n.op) for n in graph}


def test_a_file_of_a_class_that_is_not_registered_says_who_wrote_it_and_imports_nothing(data, tmp_path):
    with registry.restored():
        plugged.register_all()
        path = ts.save(MADE["recipe"](data[0]), tmp_path / "net.transpike")
    with pytest.raises(
        FileError,
        match=r"plugged:OurECC.*not registered here.*does not belong to an installed plug-in.*@transpike\.register",
    ):
        ts.load(path)
    header = path.read_bytes()
    content = json.loads(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]["content"])
    assert content["plugins"] == {"plugged": []} and content["recipe"]["type"] == "plugged:OurECC"


@pytest.mark.parametrize("name", ["antigravity:Plane", "os:system", "plugged:OurECC", "__main__:X", ":", "a:b:c"])
def test_a_name_in_a_file_is_never_imported(name, monkeypatch):
    monkeypatch.setattr("builtins.__import__", None)  # any import from here on would fail
    with pytest.raises(FileError, match="not registered"):
        decode({"type": name, "fields": {}}, {})


def test_what_does_not_come_back_as_it_was_is_refused(data, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Doubles(ts.readouts.AccumulatedMembrane):
        """Changes its setting whenever it is made."""

        gain: float = 1.0

        def __post_init__(self) -> None:
            object.__setattr__(self, "gain", 2 * self.gain)

    @dataclasses.dataclass(frozen=True)
    class Listed(ts.readouts.AccumulatedMembrane):
        """Has a setting that files have no word for."""

        which: list = dataclasses.field(default_factory=list, hash=False)

    for kind, message in ((Doubles, "would be different after loading"), (Listed, "which: a list cannot be saved")):
        with registry.restored():
            ts.register(kind)
            snn = ts.convert(network(), ts.recipes.ECC(timesteps=2), data[0])
            with pytest.raises(FileError, match=message):
                ts.save(dataclasses.replace(snn, calibrated_readout=kind()), tmp_path / "net.transpike")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metrics", "message"), [({"a": torch.ones(1)}, "not JSON"), ({"a": "x" * (64 * 2**20)}, "header")]
)
def test_metrics_that_could_not_be_read_are_refused(metrics, message, data, tmp_path):
    snn = ts.convert(network(), ts.recipes.ECC(timesteps=2), data[0])
    with pytest.raises(FileError, match=message):
        ts.save(snn, tmp_path / "net.transpike", metrics=metrics)
    assert not list(tmp_path.iterdir())


def test_tensors_whose_places_have_the_same_name_stay_apart():
    tensors = {}
    value = {"a.b": torch.ones(1), "a": {"b": torch.zeros(2)}}
    back = decode(json.loads(json.dumps(encode(value, tensors, "x"))), tensors)
    assert torch.equal(back["a.b"], torch.ones(1)) and torch.equal(back["a"]["b"], torch.zeros(2))


def test_a_task_from_outside_judges_an_evaluation_and_an_exit_that_comes_back(registered, data, tmp_path):
    x, y = data
    assert ts.tasks.table["second"] is plugged.Second and plugged.Second not in ts.tasks.members
    snn = MADE["recipe"](x)
    right = ts.evaluate(snn, [(x, y)]).final.accuracy
    report = ts.evaluate(snn, [(x, y)], task=plugged.Second())
    assert report.task == "second" and report.final.accuracy == pytest.approx(1 - right)  # of two classes
    policy = dataclasses.replace(with_exit(x).exit, score=ts.exits.Confidence(), task=str(plugged.Second()))
    loaded = ts.load(ts.save(dataclasses.replace(snn, exit=policy), tmp_path / "net.transpike"))
    assert loaded.exit == policy  # which names the task in words, so that no class is needed to read it


# --- tables and names


def test_members_from_outside_stand_in_the_tables_and_not_among_ours(registered):
    assert ts.recipes.table["our-ecc"] is plugged.OurECC and plugged.OurECC not in ts.recipes.members
    assert ts.energy.table["per-spike"] is plugged.PerSpike and ts.exits.table["spread"] is plugged.Spread
    assert ts.encoders.table["dimmed"] is plugged.Dimmed and ts.readouts.table["twice"] is plugged.Twice
    assert ts.schedules.table["our-stream"] is plugged.OurStream
    assert ts.activations.table["soft-clip"] is plugged.SoftClip
    assert registry.families["pass"].classes()[-2:] == (plugged.Nothing, plugged.UseRefractory)
    assert list(ts.recipes.table)[: len(ts.recipes.members)] == [kind.name for kind in ts.recipes.members]


def test_data_networks_and_chips_from_outside_are_found_by_name(registered, data):
    dataset = ts.data.load("blobs")
    assert dataset.name == "blobs" and len(ts.data.load("blobs:32").train) == 64 // 2
    with pytest.raises(SettingError, match="has no option bins"):
        ts.data.load("blobs", bins=3)
    module, spec = ts.models.build("zoo:tiny", input_shape=dataset.image_shape)
    assert spec.num_classes == 2 and module(data[0]).shape == (64, 2)
    snn = ts.convert(module, plugged.OurECC(timesteps=2), data[0])
    fit = ts.chip_fit(snn, "tiny-chip")
    assert not fit.fits and fit.target.title == "Tiny chip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda: ts.register(_copy(plugged.OurECC, "ecc")),
            r"'ecc' is used twice.*ECC in transpike\.recipes\.ecc.*plugged",
        ),
        (lambda: ts.register(_copy(plugged.OurECC, "our-ecc", module="elsewhere")), "our-ecc.*plugged.*elsewhere"),
        (lambda: ts.register(_copy(plugged.OurECC, "other")), "'plugged:OurECC' in files"),
        (lambda: ts.register(_copy(plugged.OurECC, "A name")), "cannot be the name"),
        (lambda: ts.register(_copy(plugged.OurECC, "our:ecc", module="elsewhere")), "cannot be the name"),
        (lambda: ts.register(int), "no family"),
        (lambda: ts.register(plugged.blobs), 'kind="data"'),
        (lambda: ts.register(kind="dataset", name="x")(plugged.blobs), "there is no kind named 'dataset'"),
        (lambda: ts.register(kind="data")(plugged.blobs), "a name"),
        (lambda: ts.register(kind="recipe")(plugged.PerSpike), "must be a Recipe"),
        (lambda: ts.register(kind="chip", name="x")(plugged.blobs), "must be a Chip"),
        (lambda: ts.register(kind="network", name="x", colour="red")(plugged.tiny), "colour"),
        (lambda: ts.register(title="x")(plugged.Nothing), "without title"),
        (lambda: ts.register(_plain()), "frozen dataclass"),
    ],
)
def test_what_cannot_be_registered_says_why(change, message, registered):
    before = {kind: dict(one.entries) for kind, one in registry.families.items()}
    with pytest.raises(SettingError, match=message):
        change()
    assert before == {kind: dict(one.entries) for kind, one in registry.families.items()}


def _copy(kind: type, name: str, module: str = "plugged") -> type:
    return type(kind.__name__, (kind,), {"name": name, "__module__": module, "__qualname__": "Another"})


def _plain() -> type:
    class Plain(ts.core.recipe.Recipe):
        name = "plain"

    return Plain


BUILT_IN_NAMES = [
    *(("chip", name) for name in ts.chips.NAMES),
    *(("data", name.partition(":")[0]) for name in ts.data.names),
]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN_NAMES)
def test_names_of_our_chips_and_data_sets_are_taken(kind, name, registered):
    before = dict(registry.families[kind].entries)
    with pytest.raises(SettingError, match=f"the {kind} name '{name}' is used twice, by '{name}' in transpike"):
        if kind == "chip":
            ts.register(ts.chips.Chip(name, "Mine", max_layers=1))
        else:
            ts.register(kind="data", name=name)(plugged.blobs)
    assert registry.families[kind].entries == before


def test_a_definition_that_is_run_again_replaces_itself(registered):
    again = type("OurECC", (plugged.OurECC,), {"__module__": "plugged", "__qualname__": "OurECC", "name": "our-ecc"})
    assert ts.register(again) is again and ts.recipes.table["our-ecc"] is again
    renamed = type("OurECC", (plugged.OurECC,), {"__module__": "plugged", "__qualname__": "OurECC", "name": "new-ecc"})
    ts.register(renamed)
    assert "our-ecc" not in ts.recipes.table and ts.recipes.table["new-ecc"] is renamed


def test_what_is_registered_in_a_trial_is_forgotten():
    before = list(ts.recipes.table)
    with registry.restored():
        plugged.register_all()
    assert list(ts.recipes.table) == before and "blobs" not in ts.data.table


@pytest.mark.parametrize(
    ("name", "expected"),
    [("EventFrames", "event-frames"), ("BSNN", "bsnn"), ("DelayedWindow", "delayed-window"), ("MyECC2", "my-ecc2")],
)
def test_a_class_name_with_dashes(name, expected):
    assert dashed(name) == expected


def test_a_recipe_without_a_name_is_not_shown_as_its_parent(registered):
    @dataclasses.dataclass(frozen=True)
    class MyECC(ts.recipes.ECC):
        pass

    assert str(MyECC(timesteps=8)) == "my-ecc(timesteps=8)"
    assert ts.register(MyECC) is ts.recipes.table["my-ecc"]
    assert str(ts.recipes.ECC(timesteps=8)) == "ecc(timesteps=8)"


# --- installed plug-ins


def distribution(folder: Path, name: str, version: str, points: dict[str, str], **modules: str) -> None:
    """A package as pip leaves it: its modules, and its metadata with entry points."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(text))
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}" for key, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    (metadata / "top_level.txt").write_text("\n".join(modules))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if no look-up had happened yet."""
    with registry.restored():
        monkeypatch.setattr(registry, "_plugins", None)
        yield


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("seam_good", "seam_bad", "seam_half"):
        sys.modules.pop(name, None)


GOOD = """
    from dataclasses import dataclass
    from typing import ClassVar
    import transpike as ts

    @ts.register
    @dataclass(frozen=True)
    class Good(ts.recipes.ECC):
        "ECC from a plug-in."
        name: ClassVar[str] = "good"
        share: float = 0.25

        @property
        def shifts(self):
            return (ts.passes.InitialPotential(self.share),)
"""
HALF = GOOD.replace("Good", "Half").replace('"good"', '"half"') + "\n    raise RuntimeError('no licence')\n"


def test_a_plug_in_is_loaded_at_the_first_look_up_and_named_in_files(installed, fresh, data, tmp_path):
    distribution(installed, "seam-good", "1.2", {"good": "seam_good"}, seam_good=GOOD)
    assert "seam_good" not in sys.modules
    recipe = ts.recipes.table["good"](timesteps=2)
    path = ts.save(ts.convert(network(), recipe, data[0]), tmp_path / "net.transpike")
    assert ts.load(path).recipe == recipe
    assert "seam-good 1.2" in [str(plugin) for plugin in registry.plugins()]
    del registry.families["recipe"].entries["good"]
    registry._changed()
    with pytest.raises(FileError, match=r"seam_good:Good of the plug-in seam-good 1\.2; seam-good 1\.2 is installed"):
        ts.load(path)
    (installed / "seam_good-1.2.dist-info" / "METADATA").unlink()
    (installed / "seam_good-1.2.dist-info" / "entry_points.txt").unlink()
    (installed / "seam_good-1.2.dist-info" / "top_level.txt").unlink()
    (installed / "seam_good-1.2.dist-info").rmdir()
    with pytest.raises(FileError, match=r"seam_good:Good of the plug-in seam-good 1\.2, which is not installed"):
        ts.load(path)


def test_a_plug_in_that_fails_is_named_and_leaves_the_others_alone(installed, fresh):
    distribution(installed, "seam-good", "1.2", {"good": "seam_good"}, seam_good=GOOD)
    distribution(installed, "seam-bad", "0.1", {"bad": "seam_bad"}, seam_bad="import nowhere_at_all")
    distribution(installed, "seam-half", "0.2", {"half": "seam_half"}, seam_half=HALF)
    with pytest.warns(registry.PluginWarning) as caught:
        names = list(ts.recipes.table)
    said = " ".join(str(warning.message) for warning in caught)
    assert "'bad' of seam-bad 0.1" in said and "nowhere_at_all" in said and "'half' of seam-half 0.2" in said
    assert "good" in names and "half" not in names  # a plug-in is there whole or not at all
    with pytest.raises(SettingError, match=r"there is no recipe named 'half'.*could not be loaded.*seam-half 0\.2"):
        registry.families["recipe"].get("half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(ts.recipes.table)) == len(names)  # it is said once


def test_a_plug_in_that_takes_a_name_of_ours_is_left_out(installed, fresh):
    distribution(installed, "seam-good", "1.2", {"good": "seam_good"}, seam_good=GOOD.replace('"good"', '"ecc"'))
    with pytest.warns(registry.PluginWarning, match=r"'ecc' is used twice.*transpike\.recipes\.ecc.*seam_good"):
        assert ts.recipes.table["ecc"] is ts.recipes.ECC


def test_import_loads_no_plug_in(installed):
    distribution(installed, "seam-bad", "0.1", {"bad": "seam_bad"}, seam_bad="raise SystemExit('loaded')")
    code = "import transpike; from transpike.core import registry; assert registry._plugins is None; print('lean')"
    assert _python(installed, "-c", code).stdout.strip() == "lean"


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(folder), str(TESTS)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def _transpike(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _python(folder, "-c", "from transpike.cli import main; main()", *arguments)


def test_the_command_line_knows_what_plug_ins_bring(installed, tmp_path):
    distribution(installed, "seam-all", "3.0", {"all": "plugged:register_all"}, seam_bad="")
    distribution(installed, "seam-bad", "0.1", {"bad": "seam_half"}, seam_half="import nowhere_at_all")
    told = _transpike(installed, "doctor")
    assert "plug-in all of seam-all 3.0: loaded" in told.stdout and "our-ecc, refractory-ecc" in told.stdout
    assert "plug-in bad of seam-bad 0.1: not loaded: ModuleNotFoundError" in told.stdout and told.returncode == 0
    net = str(tmp_path / "net.transpike")
    common = ("--model", "zoo:tiny", "--data", "blobs", "--timesteps", "4", "--calibration-samples", "32")
    made = _transpike(
        installed, "convert", *common, "--recipe", "our-ecc", "--gamma", "2.5", "--title", "x=1", "--encoder",
        "dimmed:factor=0.75", "--readout", "twice", "--schedule", "our-stream", "--output", net, "--json",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    recipe = json.loads(made.stdout)["recipe"]
    assert "gamma=2.5" in recipe and "title='x=1'" in recipe and "Dimmed(factor=0.75)" in recipe and "Twice" in recipe
    run = _transpike(installed, "evaluate", net, "--data", "blobs", "--energy", "per-spike", "--json")
    assert run.returncode == 0 and "per-spike" in run.stdout, run.stderr
    fits = _transpike(installed, "inspect", net, "--fit", "tiny-chip", "--json")
    assert fits.returncode == 4 and "Tiny chip" in fits.stdout + fits.stderr
    whole = _transpike(installed, "convert", *common, "--recipe", "burst", "--gamma", "2.5", "--output", net)
    assert whole.returncode == 2 and "not a valid integer" in whole.stderr


def test_our_own_members_that_are_first_imported_inside_remain():
    family = registry.families["exit"]
    assert family.classes()
    entries = family.entries
    try:
        family.entries = {}
        with registry.restored():
            family.entries = dict(entries)
        assert family.entries == entries
    finally:
        family.entries = entries
